"""Rollouts: who drives, what is labelled, and environments that misbehave."""

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from draws import chance
from known_policies import graph_of, teacher_of
from sample_graphs import memory_graph
from samples import HEADS, PROBES, Agent, make_student
from walks import WALK, Walk

from kd_agent import KDError, load_teacher
from kd_agent.environments import Recipe
from kd_agent.environments.vector import make_env
from kd_agent.networks.base import Origin, Teacher
from kd_agent.policies.policy import Policy
from kd_agent.rollouts import RunningEpisodes, episode_seeds
from kd_agent.rollouts.collect import collect, collect_on
from kd_agent.rollouts.rollout import RANDOM, STUDENT, TEACHER, Rollout, aggregate
from kd_agent.teachers import GraphTeacher

STEPS, ENVS = 60, 3


@pytest.fixture
def teacher(agents: dict[str, Agent]) -> Teacher:
    return load_teacher(str(agents["Discrete"].path))


@pytest.fixture
def student(teacher: Teacher) -> Policy:
    return make_student(teacher.head, seed=9).policy()


class RecordedProbe(gym.Wrapper):
    """A probe that remembers what it was told to do."""

    def __init__(self) -> None:
        super().__init__(gym.make(PROBES["Discrete"]))
        self.told: list[int] = []

    def step(self, action: Any) -> Any:
        self.told.append(int(action))
        return super().step(action)


def gather(
    teacher: Teacher, student: Policy | None = None, env_id: str = PROBES["Discrete"], beta: float = 1.0, **more: Any
) -> Rollout:
    env = make_env(env_id, ENVS)
    try:
        return collect(env, teacher, student, steps=more.pop("steps", STEPS), beta=beta, **more)
    finally:
        env.close()


def same(one: Rollout, other: Rollout) -> bool:
    arrays, others = one.arrays(), other.arrays()
    return set(arrays) == set(others) and all(np.array_equal(arrays[key], others[key]) for key in arrays)


def test_shapes_and_types_are_those_that_are_promised(agent: Agent) -> None:
    teacher = load_teacher(str(agent.path))
    rollout = gather(teacher, env_id=agent.env_id, steps=5)
    assert rollout.obs["obs"].shape == (5, ENVS, 4)
    assert rollout.params.shape == (5, ENVS, teacher.head.num_params)
    assert (rollout.obs["obs"].dtype, rollout.params.dtype) == (np.float32, np.float32)
    for array in (rollout.driver, rollout.reward, rollout.episode_start, rollout.weight):
        assert array.shape == (5, ENVS)


def test_labels_are_the_answers_of_the_teacher_on_the_stored_states(agent: Agent) -> None:
    teacher = load_teacher(str(agent.path))
    rollout = gather(teacher, make_student(teacher.head).policy(), agent.env_id, beta=0.5)
    together = aggregate([rollout])
    answer = teacher({"obs": together["obs.obs"]})
    np.testing.assert_allclose(answer.params.numpy(), together["params"], atol=1e-6)
    np.testing.assert_allclose(answer.value.numpy(), together["value"], atol=1e-5)


def test_a_layer_of_the_teacher_is_kept_where_it_is_asked_for(teacher: Teacher) -> None:
    env = make_env("kd_envs/ProbeDiscrete-v0", ENVS)
    kept = collect(env, teacher, None, steps=5, beta=1.0, layer=teacher.last_layer)
    answer = teacher({"obs": kept.obs["obs"].reshape(-1, 4)})
    np.testing.assert_allclose(kept.layer.reshape(5 * ENVS, -1), answer.features[teacher.last_layer], atol=1e-6)
    assert Rollout.from_arrays(kept.arrays()).layer is kept.layer
    assert collect(env, teacher, None, steps=2, beta=1.0).layer is None


def test_beta_one_is_driven_by_the_teacher_and_beta_zero_by_the_student(teacher: Teacher, student: Policy) -> None:
    assert (gather(teacher, student, beta=1.0).driver == TEACHER).all()
    assert (gather(teacher, student, beta=0.0).driver == STUDENT).all()
    assert (gather(teacher, None, beta=0.0).driver == TEACHER).all()


def test_beta_and_exploration_are_shares_of_the_steps(teacher: Teacher, student: Policy) -> None:
    driver = gather(teacher, student, beta=0.3, exploration=0.2, steps=400).driver
    shares = [float(np.mean(driver == who)) for who in (TEACHER, STUDENT, RANDOM)]
    assert shares == pytest.approx([0.24, 0.56, 0.2], abs=0.05)
    assert (gather(teacher, None, exploration=1.0).driver == RANDOM).all()


def test_the_environment_is_told_what_its_driver_wants(teacher: Teacher, student: Policy, register_env: Any) -> None:
    env_id = register_env("Recorded-v0", RecordedProbe)
    env = make_env(env_id, ENVS)
    rollout = collect(env, teacher, student, steps=40, beta=0.5, exploration=0.2)
    told = np.array(env.get_attr("told")).T
    theirs = rollout.params.argmax(-1)
    ours = np.stack([student.greedy_batch({"obs": obs}) for obs in rollout.obs["obs"]])
    assert (theirs != ours).mean() > 0.2
    np.testing.assert_array_equal(told[rollout.driver == TEACHER], theirs[rollout.driver == TEACHER])
    np.testing.assert_array_equal(told[rollout.driver == STUDENT], ours[rollout.driver == STUDENT])
    random = told[rollout.driver == RANDOM]
    assert len(set(random.tolist())) > 1
    assert (random != theirs[rollout.driver == RANDOM]).any()


def test_teacher_and_student_act_by_samples_where_that_is_asked_for(register_env: Any) -> None:
    env_id = register_env("Recorded-v0", RecordedProbe)
    rows = {TEACHER: np.float32([0, 0.5, 1, 1.5]), STUDENT: np.float32([1, 0, 1.2, 0])}
    graphs = {who: graph_of(np.zeros((4, 4)), bias=row) for who, row in rows.items()}
    teacher, student = teacher_of(graphs[TEACHER]), Policy(graphs[STUDENT])
    for deterministic in (False, True):
        env = make_env(env_id, ENVS)
        rollout = collect(env, teacher, student, steps=900, beta=0.5, deterministic=deterministic)
        told = np.array(env.get_attr("told")).T
        for who, row in rows.items():
            drawn = told[rollout.driver == who]
            if deterministic:
                assert set(drawn.tolist()) == {int(row.argmax())}
            else:
                assert chance(student.graph.head, row, drawn) > 1e-3
        # Labels are rows, however the actions are chosen.
        np.testing.assert_allclose(rollout.params, np.broadcast_to(rows[TEACHER], rollout.params.shape))


def test_what_is_sampled_while_collecting_follows_from_the_seed(teacher: Teacher, student: Policy) -> None:
    first = gather(teacher, student, beta=0.5, deterministic=False, seed=(3, 1))
    assert same(first, gather(teacher, student, beta=0.5, deterministic=False, seed=(3, 1)))
    assert not same(first, gather(teacher, student, beta=0.5, seed=(3, 1)))


def test_the_same_seed_gives_the_same_arrays_and_another_seed_others(teacher: Teacher, student: Policy) -> None:
    first = gather(teacher, student, beta=0.5, exploration=0.1, seed=(3, 1))
    assert same(first, gather(teacher, student, beta=0.5, exploration=0.1, seed=(3, 1)))
    for seed in ((3, 2), (4, 1)):
        other = gather(teacher, student, beta=0.5, exploration=0.1, seed=seed)
        assert not np.array_equal(first.obs["obs"][0], other.obs["obs"][0])


def test_a_round_does_not_depend_on_what_its_environments_played_before(teacher: Teacher, student: Policy) -> None:
    env = make_env(PROBES["Discrete"], ENVS)
    collect(env, teacher, student, steps=33, beta=0.5, exploration=0.5, seed=(9,))
    again = collect(env, teacher, student, steps=STEPS, beta=0.5, exploration=0.1, seed=(3, 1))
    assert same(again, gather(teacher, student, beta=0.5, exploration=0.1, seed=(3, 1)))


def test_environments_and_episodes_start_differently(teacher: Teacher) -> None:
    starts = gather(teacher, steps=120)
    firsts = starts.obs["obs"][starts.episode_start]
    assert len(np.unique(firsts, axis=0)) == len(firsts) == 3 * ENVS


class Countdown(gym.Env):
    """Counts its steps in the observation; ends by termination, or by the time limit."""

    def __init__(self, ends: int = 4, render_mode: str | None = None) -> None:
        self.observation_space = gym.spaces.Box(-100, 100, (4,), np.float32)
        self.action_space = gym.spaces.Discrete(4)
        self.render_mode, self.ends, self.count = render_mode, ends, 0

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.count = 0
        return np.zeros(4, np.float32), {}

    def step(self, action: Any) -> Any:
        self.count += 1
        return np.full(4, self.count, np.float32), float(self.count), self.count == self.ends, False, {}


@pytest.mark.parametrize(
    "settings",
    [{"kwargs": {"ends": 4}}, {"kwargs": {"ends": 0}, "max_episode_steps": 4}],
    ids=["terminated", "truncated"],
)
def test_a_terminal_observation_is_not_taken_for_a_first_one(
    settings: dict[str, Any], teacher: Teacher, register_env: Any
) -> None:
    rollout = gather(teacher, env_id=register_env("Countdown-v0", Countdown, **settings), steps=10)
    counts = rollout.obs["obs"][:, 0, 0]
    assert counts.tolist() == [0, 1, 2, 3, 0, 1, 2, 3, 0, 1]
    assert rollout.episode_start[:, 0].tolist() == (counts == 0).tolist()
    assert rollout.reward[:, 0].tolist() == [1, 2, 3, 4, 1, 2, 3, 4, 1, 2]


class Misbehaving(Countdown):
    """Does something wrong at its third step (or at reset)."""

    def __init__(self, what: str, render_mode: str | None = None) -> None:
        super().__init__(ends=0, render_mode=render_mode)
        self.what = what

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        observation, info = super().reset(seed=seed)
        if self.what == "reset":
            raise RuntimeError("no start\ntoday")
        return observation, info

    def step(self, action: Any) -> Any:
        observation, reward, terminated, truncated, info = super().step(action)
        if self.count == 3:
            if self.what == "raise":
                raise ZeroDivisionError("broken\nenvironment")
            observation = {
                "nan": np.full(4, np.nan, np.float32),
                "inf": np.float32([0, np.inf, 0, 0]),
                "short": np.zeros(3, np.float32),
                "long": np.zeros((1, 4), np.float32),
                "scalar": np.float32(1),
                "none": None,
            }.get(self.what, observation)
            reward = float("nan") if self.what == "reward" else reward
        return observation, reward, terminated, truncated, info


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("what", "words"),
    [
        ("raise", "raised ZeroDivisionError: broken environment"),
        ("reset", "raised RuntimeError: no start today"),
        ("nan", "NaN or infinite"),
        ("inf", "NaN or infinite"),
        ("reward", "reward nan"),
        ("short", r"shape \(3,\)"),
        ("long", r"shape \(1, 4\)"),
        ("scalar", r"shape \(\)"),
        ("none", r"shape \(\)"),
    ],
)
def test_an_environment_that_misbehaves_is_named_with_index_seed_and_step(
    what: str, words: str, teacher: Teacher, register_env: Any
) -> None:
    env_id = register_env("Misbehaving-v0", Misbehaving, kwargs={"what": what}, disable_env_checker=True)
    step = 0 if what == "reset" else 3
    with pytest.raises(KDError, match=rf"environment 0 \(seed \d+, step {step}\) .*{words}") as caught:
        gather(teacher, env_id=env_id)
    assert "\n" not in str(caught.value)


@pytest.fixture
def answers_nan(teacher: Teacher) -> Teacher:
    run = teacher._run  # type: ignore[attr-defined]
    teacher._run = lambda given: {**run(given), "params": np.full((ENVS, 4), np.nan, np.float32)}  # type: ignore[attr-defined]
    return teacher


def test_a_teacher_that_answers_nan_is_stopped(answers_nan: Teacher) -> None:
    with pytest.raises(KDError, match="teacher answered NaN"):
        gather(answers_nan, steps=3)


def test_collecting_does_not_change_the_teacher(teacher: Teacher, student: Policy) -> None:
    def contents() -> list[bytes]:
        return [t.tobytes() for op in teacher.graph.ops for t in op.tensors.values()]  # type: ignore[attr-defined]

    before, state = contents(), {"obs": np.ones((2, 4), np.float32)}
    answer = teacher(state).params.clone()
    gather(teacher, student, beta=0.5)
    assert contents() == before
    np.testing.assert_array_equal(teacher(state).params, answer)


def remembering(kind: str) -> GraphTeacher:
    """A teacher of the walk with a memory."""
    return GraphTeacher(memory_graph(kind), Origin(kind, "0" * 64, "student", 100))


def in_parts(recipe: Recipe, parts: list[int], teacher: Teacher, student: Policy | None, **more: Any) -> list[Rollout]:
    """Rounds of so many steps, one after the other."""
    episodes = RunningEpisodes(make_env(recipe, ENVS), [episode_seeds(n) for n in range(ENVS)])
    rounds: list[Rollout] = []
    for number, steps in enumerate(parts):
        rounds.append(collect_on(episodes, teacher, student, before=rounds, steps=steps, seed=number, **more))
    episodes.close()
    return rounds


@pytest.fixture
def walk(register_env: Any) -> Recipe:
    return Recipe(register_env(WALK, Walk, max_episode_steps=40))


@pytest.mark.parametrize("kind", ["gru", "lstm"])
@pytest.mark.parametrize("beta", [0.0, 1.0], ids=["driven by the student", "driven by the teacher"])
def test_several_rounds_are_one_in_parts_whoever_remembers(beta: float, kind: str, walk: Recipe) -> None:
    other = make_student(HEADS["categorical"], "gru", hidden=(6,), seed=4).policy()
    [whole] = in_parts(walk, [75], remembering(kind), other, beta=beta)
    rounds = in_parts(walk, [13, 1, 61], remembering(kind), other, beta=beta)
    for name, array in whole.arrays().items():
        np.testing.assert_array_equal(np.concatenate([rollout.arrays()[name] for rollout in rounds]), array)
    assert not whole.episode_start[[13, 14]].all(axis=1).any()
    assert whole.episode_start.sum() > 2 * ENVS


def test_rounds_that_do_not_go_on_begin_anew(walk: Recipe) -> None:
    first = in_parts(walk, [13], remembering("gru"), None, beta=1.0)[0]
    env = make_env(walk, ENVS)
    again = [collect(env, remembering("gru"), None, steps=13, beta=1.0, seed=n) for n in range(2)]
    assert all(rollout.episode_start[0].all() for rollout in (first, *again))


def test_each_round_draws_by_its_own_seed(teacher: Teacher, student: Policy) -> None:
    rounds = in_parts(Recipe(PROBES["Discrete"]), [40, 40, 40], teacher, student, beta=0.5, exploration=0.3)
    drivers = {rollout.driver.tobytes() for rollout in rounds}
    assert len(drivers) == 3
