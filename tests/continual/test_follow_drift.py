"""Following a student through a change: it is noticed, it is learnt, and nothing is forgotten."""

import json
from itertools import islice
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from kd_envs.probe import ProbeEnv
from numpy.typing import NDArray
from samples import HEADS, PROBES, Agent, make_student, settings

from kd_agent import KDError, distill, load_policy, load_teacher
from kd_agent.commands import cli
from kd_agent.continual.follow_drift import follow_drift, kept_states
from kd_agent.continual.student import ContinualStudent, play_episodes
from kd_agent.environments.vector import make_env
from kd_agent.evaluation.agreement import agree
from kd_agent.networks.base import Teacher
from kd_agent.policies.graph import PolicyGraph
from kd_agent.policies.policy import Policy
from kd_agent.rollouts.reservoir import Reservoir
from kd_agent.settings import FollowDriftConfig, resolve

ENV = "test/DriftingProbe-v0"
SHIFT = 4.0


class DriftingProbe(ProbeEnv):
    """The Discrete probe, whose observations move by `shift` after `begin` steps."""

    def __init__(self, begin: int = 600, shift: float = SHIFT, render_mode: str | None = None) -> None:
        super().__init__("Discrete", render_mode)
        self.observation_space = gym.spaces.Box(-5, 5, (4,), np.float32)
        self._steps, self._begin, self._shift = 0, begin, shift

    def _draw(self) -> NDArray[np.float32]:
        self._steps += 1
        moved = np.float32([self._shift, -self._shift, 0, 0]) if self._steps > self._begin else 0
        self._observation = self.np_random.uniform(-1, 1, 4).astype(np.float32) + moved
        return self._observation.astype(np.float32)


@pytest.fixture
def world(register_env: Any) -> str:
    return str(register_env(ENV, DriftingProbe, max_episode_steps=50))


@pytest.fixture
def teacher(agents: dict[str, Agent]) -> Teacher:
    return load_teacher(str(agents["Discrete"].path))


@pytest.fixture(scope="module")
def run(agents: dict[str, Agent], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run folder of a student that agrees with its teacher in the old world."""
    folder = tmp_path_factory.mktemp("old") / "run"
    distill(settings(agents["Discrete"], folder, env_steps=3000, final_steps=600, attempts=1))
    return folder


def states(seed: int, shift: float) -> dict[str, np.ndarray]:
    moved = np.float32([shift, -shift, 0, 0])
    return {"obs": np.random.default_rng(seed).uniform(-1, 1, (2000, 4)).astype(np.float32) + moved}


def agreement(policy: Policy, teacher: Teacher, shift: float) -> float:
    seen = states(9, shift)
    return float(np.mean(agree(policy.graph.head, teacher(seen).params.numpy(), policy.params_batch(seen))))


def taught(graph: PolicyGraph, teacher: Teacher, reservoir: Reservoir) -> Policy:
    """The student after lessons in the new world."""
    student = ContinualStudent(graph, teacher, reservoir, steps=200, batch_size=256, learning_rate=5e-3, seed=0)
    for seed in range(2):
        student.learn([states(seed, SHIFT)])
    return student.policy


def test_without_a_reservoir_the_old_world_is_forgotten_and_with_it_is_not(run: Path, teacher: Teacher) -> None:
    old = load_policy(run / "student.safetensors")
    before, fallen = agreement(old, teacher, 0.0), agreement(old, teacher, SHIFT)
    full = Reservoir(2000, 0)
    full.add(states(5, 0.0))
    kept, lost = (taught(old.graph, teacher, reservoir) for reservoir in (full, Reservoir(0, 0)))
    assert min(agreement(kept, teacher, SHIFT), agreement(lost, teacher, SHIFT)) > fallen + 0.05
    assert agreement(kept, teacher, 0.0) > before - 0.03
    assert agreement(lost, teacher, 0.0) < before - 0.06


def test_new_states_are_remembered_once_the_lessons_are_over(run: Path, teacher: Teacher) -> None:
    reservoir = Reservoir(100, 0)
    graph = load_policy(run / "student.safetensors").graph
    student = ContinualStudent(graph, teacher, reservoir, steps=1, batch_size=8, learning_rate=1e-3, seed=0)
    student.learn([{"obs": np.ones((3, 4), np.float32)}])
    assert (reservoir.seen, student.lessons) == (0, 1)
    student.remember([{"obs": np.zeros((2, 4), np.float32)}])
    assert (reservoir.seen, len(reservoir)) == (5, 5)
    student.remember()
    assert reservoir.seen == 5


def test_a_student_plays_on_in_one_environment(run: Path, teacher: Teacher, world: str) -> None:
    policy = load_policy(run / "student.safetensors")
    env = make_env(world, 1, {"begin": 75})
    first, second, third = islice(play_episodes(env, teacher, lambda: policy, 3), 3)
    assert [first.steps, second.steps, third.steps] == [50, 50, 50]
    assert first.observations["obs"][:, 0].max() <= 1 < second.observations["obs"][:, 0].max()
    assert third.observations["obs"][:, 0].min() >= 1
    assert first.agreement > third.agreement
    assert 0 <= first.score <= 50


def config(run: Path, agent: Agent, out: Path, **more: Any) -> FollowDriftConfig:
    given = {"student": str(run / "student.safetensors"), "teacher": str(agent.path), "env": ENV, "env_steps": 3000,
             "reference_episodes": 30, "lesson_steps": 150, "episodes": 4, "max_episodes": 4, "out": str(out),
             "learning_rate": 5e-3, "quiet": True}  # fmt: skip
    return resolve(FollowDriftConfig, {**given, **more})


def test_a_change_is_noticed_learnt_and_judged_in_both_worlds(
    run: Path, agents: dict[str, Agent], world: str, tmp_path: Path
) -> None:  # fmt: skip
    result = follow_drift(config(run, agents["Discrete"], tmp_path / "out", new_kwargs={"begin": 0}))
    assert json.loads((tmp_path / "out" / "drift.json").read_text()) == result
    [change, *rest] = result["changes"]
    assert 600 < change["noticed"] <= 1200
    assert 0 <= change["since"] <= 700
    assert "agreement" in change["by"]
    assert change["noticed"] < change["recovered"] <= result["env_steps"]
    assert change["lessons"] >= 4
    assert result["gradient_steps"] == 150 * sum(c["lessons"] for c in [change, *rest])
    old, new = result["verdict"]["old"], result["verdict"]["new"]
    assert (old["env"], new["env"]) == (PROBES["Discrete"], world)
    assert new["env_kwargs"] == {"begin": 0}
    assert all(len(place[who]["returns"]) == 4 for place in (old, new) for who in ("teacher", "before", "after"))
    timeline = result["timeline"]
    assert [row["env_steps"] for row in timeline] == list(range(50, 3050, 50))
    assert {row["learning"] for row in timeline} == {True, False}
    policy, before = load_policy(tmp_path / "out" / "student.safetensors"), load_policy(run / "student.safetensors")
    teacher = load_teacher(str(agents["Discrete"].path))
    assert agreement(policy, teacher, SHIFT) > agreement(before, teacher, SHIFT) + 0.05
    assert agreement(policy, teacher, 0.0) > agreement(before, teacher, 0.0) - 0.05
    assert list((tmp_path / "out").glob("events.out.tfevents.*"))


def test_the_same_seed_follows_the_same_way_and_where_nothing_changes_nothing_is_learnt(
    run: Path, agents: dict[str, Agent], world: str, tmp_path: Path
) -> None:  # fmt: skip
    still = [follow_drift(config(run, agents["Discrete"], tmp_path / name, env_kwargs={"begin": 10**9}))
             for name in ("a", "b")]  # fmt: skip
    assert still[0] == still[1]
    assert still[0]["changes"] == []
    assert "new" not in still[0]["verdict"]
    first, second = (load_policy(path / "student.safetensors").graph for path in (run, tmp_path / "a"))
    assert all(np.array_equal(x.tensors[role], y.tensors[role])
               for x, y in zip(first.ops, second.ops, strict=True) for role in x.tensors)  # fmt: skip


def test_the_old_states_come_from_the_run_folder_or_else_from_the_old_world(run: Path, tmp_path: Path) -> None:
    kept = kept_states(run / "student.safetensors")
    assert sum(len(part["obs"]) for part in kept) == 3000
    (tmp_path / "student.safetensors").write_bytes((run / "student.safetensors").read_bytes())
    assert kept_states(tmp_path / "student.safetensors") == []


def refused(given: FollowDriftConfig) -> str:
    with pytest.raises(KDError) as caught:
        follow_drift(given)
    assert not Path(str(given.out)).exists()
    return str(caught.value)


def test_what_cannot_be_followed_is_refused_before_anything_is_written(
    run: Path, agents: dict[str, Agent], world: str, tmp_path: Path
) -> None:  # fmt: skip
    agent, out = agents["Discrete"], tmp_path / "out"
    box = agents["Box"]
    assert "acts by categorical" in refused(config(run, agent, out, env=PROBES["Box"], teacher=str(box.path)))
    assert "no.zip" in refused(config(run, agent, out, teacher="no.zip"))
    assert "nothing.safetensors" in refused(config(run, agent, out, student="nothing.safetensors"))
    assert "did you mean" in refused(config(run, agent, out, env="test/DriftingProbe-v1x"))
    gru = make_student(HEADS["categorical"], name="gru", hidden=(4,))
    gru.save(tmp_path / "gru.safetensors", {"env": PROBES["Discrete"]})
    assert "has a memory" in refused(config(run, agent, out, student=str(tmp_path / "gru.safetensors")))


def test_the_command_line_says_what_is_missing_or_wrong(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def answer(*words: str) -> str:
        assert cli.main(["follow-drift", str(run / "student.safetensors"), *words]) == 2
        return capsys.readouterr().err

    assert "teacher is missing (--teacher)" in answer("--env", ENV)
    assert "reference_episodes" in answer("--env", ENV, "--teacher", "x.zip", "--reference-episodes", "3")
    assert "did you mean '--reservoir'" in answer("--env", ENV, "--teacher", "x.zip", "--resevoir", "3")
