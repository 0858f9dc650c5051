"""Kickstarting and proximal policy distillation: the loss is what is written down, and the teacher fades."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from samples import HEADS, PROBES, Agent, make_student
from stable_baselines3 import PPO
from stable_baselines3.common.vec_env import VecEnv

from kd_agent import KDError, load_policy, load_teacher
from kd_agent.environments.recipe import Recipe
from kd_agent.environments.vector import make_env
from kd_agent.kickstarting.guided_policy import Fade, Guidance, GuidedBuffer, GuidedPolicy
from kd_agent.kickstarting.kickstart import check, kickstart
from kd_agent.networks.base import Teacher
from kd_agent.policies.normalizer import Normalizer
from kd_agent.policies.policy import Policy
from kd_agent.ppo import training as train
from kd_agent.rollouts.evaluate import Evaluation
from kd_agent.settings import KickstartConfig, resolve

PPO_SETTINGS = {"n_envs": 4, "n_steps": 32, "batch_size": 64, "n_epochs": 2, "hidden": [8]}
TINY = {"total_steps": 1024, "hidden": [8], "episodes": 6, "max_episodes": 6, "quiet": True, "training": PPO_SETTINGS}
NORMALIZER = Normalizer(np.full(4, 0.1), np.full(4, 2.0))
STEPS, ENVS = 16, 2


def guided(agent: Agent, guidance: Guidance, **settings: Any) -> tuple[PPO, Teacher]:
    """A PPO with one full rollout, to be trained on one minibatch of all of it."""
    teacher = load_teacher(str(agent.path))
    env = make_env(agent.env_id, ENVS)
    model = PPO(
        GuidedPolicy, env, n_steps=STEPS, batch_size=STEPS * ENVS, n_epochs=1, ent_coef=1.0, seed=1, device="cpu",
        rollout_buffer_class=GuidedBuffer, rollout_buffer_kwargs={"teacher": teacher},
        policy_kwargs={"graph": make_student(teacher.head, hidden=(6,)).graph(), "normalizer": NORMALIZER,
                       "critic": (7,), "guidance": guidance}, **settings,
    )  # fmt: skip
    model.learn(STEPS * ENVS)
    fill(model, env)
    return model, teacher


def fill(model: PPO, env: VecEnv) -> None:
    """Collect a rollout, then move the actor, so that the ratio is not 1."""
    _, callback = model._setup_learn(STEPS * ENVS, None)
    model.collect_rollouts(env, callback, model.rollout_buffer, STEPS)
    with torch.no_grad():
        for parameter in actor(model).parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(3)))


def actor(model: PPO) -> Any:
    assert isinstance(model.policy, GuidedPolicy)
    return model.policy.actor


def bits(model: PPO) -> list[torch.Tensor]:
    return [parameter.detach().clone() for parameter in actor(model).parameters()]


def by_hand(model: PPO, teacher: Teacher, guidance: Guidance) -> float:
    """The loss over the whole rollout, from the formulas, with none of the guided classes."""
    buffer = model.rollout_buffer
    flat = {name: buffer.swap_and_flatten(getattr(buffer, name)) for name in (
        "observations", "actions", "values", "log_probs", "advantages", "returns")}  # fmt: skip
    states = torch.from_numpy(flat["observations"])
    rows, head = actor(model).policy(states), teacher.head
    actions = torch.from_numpy(flat["actions"])
    actions = actions.long().flatten() if head.kind == "categorical" else actions.float()
    ours, theirs = head.distribution(rows), head.distribution(teacher({"obs": flat["observations"]}).params)
    ratio = (ours.log_prob(actions) - torch.from_numpy(flat["log_probs"]).flatten()).exp()
    advantage = torch.from_numpy(flat["advantages"]).flatten()
    advantage = (advantage - advantage.mean()) / (advantage.std() + 1e-8)
    clipped = ratio.clamp(1 - guidance.clip_range, 1 + guidance.clip_range)
    policy_loss = -torch.min(ratio * advantage, clipped * advantage).mean()
    value_loss = ((model.policy.predict_values(states) - torch.from_numpy(flat["returns"])) ** 2).mean()
    kl = torch.distributions.kl_divergence(theirs, ours)
    factor = torch.maximum(ratio, torch.tensor(1 - guidance.clip_range)) if guidance.proximal else 1
    loss = policy_loss + 0.5 * value_loss - guidance.ent_coef * ours.entropy().mean()
    return float((loss + guidance.weight * (factor * kl).mean()).detach())


@pytest.mark.parametrize("proximal", [False, True], ids=["kickstart", "ppd"])
@pytest.mark.parametrize("space", ["Discrete", "Box", "MultiDiscrete", "MultiBinary"])
def test_ppo_minimises_the_loss_that_is_written_down(space: str, proximal: bool, agents: dict[str, Agent]) -> None:
    guidance = Guidance(weight=0.7, proximal=proximal, ent_coef=0.03)
    model, teacher = guided(agents[space], guidance)
    expected = by_hand(model, teacher, guidance)
    without = by_hand(model, teacher, Guidance(weight=0.0, ent_coef=0.03))
    model.train()
    assert model.logger.name_to_value["train/loss"] == pytest.approx(expected, rel=1e-4)
    assert abs(expected - without) > 1e-3 * abs(expected)


def test_the_two_methods_differ_where_the_ratio_is_not_one(agents: dict[str, Agent]) -> None:
    model, teacher = guided(agents["Discrete"], Guidance(weight=1.0))
    plain, proximal = (by_hand(model, teacher, Guidance(1.0, proximal=p)) for p in (False, True))
    assert plain != pytest.approx(proximal, rel=1e-6)


def test_in_the_warm_up_the_actor_follows_the_kl_alone(agents: dict[str, Agent]) -> None:
    """Without weight no bit of it moves, while the critic learns; with weight the policy loss adds nothing."""
    model, _ = guided(agents["Box"], Guidance(weight=0.0, ent_coef=1.0, warming=True))
    before, critic = bits(model), model.policy.value_net.weight.detach().clone()
    model.train()
    assert all(torch.equal(a, b) for a, b in zip(before, bits(model), strict=True))
    assert not torch.equal(critic, model.policy.value_net.weight)
    moved = []
    for scale in (1.0, -5.0):
        model, _ = guided(agents["Box"], Guidance(weight=1.0, warming=True), max_grad_norm=1e9)
        model.rollout_buffer.advantages *= scale
        model.train()
        moved.append(bits(model))
    assert all(torch.equal(a, b) for a, b in zip(*moved, strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(before, moved[0], strict=True))


def test_the_teacher_never_changes(agents: dict[str, Agent]) -> None:
    model, teacher = guided(agents["Discrete"], Guidance(weight=1.0))
    states = {"obs": agents["Discrete"].observations()}
    before = teacher(states).params.clone()
    model.train()
    assert torch.equal(before, teacher(states).params)
    assert not any(parameter.requires_grad for parameter in [before, teacher(states).params])


@pytest.mark.parametrize(("kind", "weights"), [
    ("linear", [2.0, 1.0, 0.0, 0.0]), ("exponential", [2.0, 0.2, 0.02, 0.0002]),
])  # fmt: skip
def test_a_schedule_fades(kind: str, weights: list[float]) -> None:
    fade = Fade(kind, 2.0, over=1000)
    found = [fade.at(steps, float("nan")) for steps in (0, 500, 1000, 2000)]
    assert found == pytest.approx(weights)
    assert fade.at(-300, float("nan")) == 2.0


def test_an_adaptive_weight_is_what_the_student_lags_behind() -> None:
    fade = Fade("adaptive", 2.0, over=1000, teacher=100.0, random=-100.0)
    scores = (float("nan"), -300.0, -100.0, 0.0, 50.0, 100.0, 250.0)
    assert [fade.at(10**6, score) for score in scores] == pytest.approx([2.0, 2.0, 2.0, 1.0, 0.5, 0.0, 0.0])


@pytest.fixture(scope="module")
def run(agents: dict[str, Agent], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """A whole kickstart of continuous actions."""
    folder = tmp_path_factory.mktemp("kickstart") / "run"
    agent = agents["Box"]
    return folder, kickstart({**TINY, "env": agent.env_id, "teacher": str(agent.path), "out": str(folder)})


def test_the_run_folder_is_as_a_distillations(run: tuple[Path, dict[str, Any]]) -> None:
    folder, result = run
    assert json.loads((folder / "result.json").read_text()) == result
    names = {"student.safetensors", "config.yaml", "teacher.json", "report.html"}
    assert names <= {path.name for path in folder.iterdir()}
    assert list(folder.glob("**/events.out.tfevents.*"))
    assert load_policy(folder / "student.safetensors").num_parameters == result["student"]["parameters"] == 58
    assert resolve(KickstartConfig, {}, str(folder / "config.yaml")).total_steps == 1024
    overtook = result["verdict"]["difference_ci"][0] > 0
    assert result["kickstart"] == {"method": "kickstart", "fade": "linear", "weight": 1.0, "last_weight": 0.0,
                                   "overtook": overtook}  # fmt: skip
    assert result["cost"]["env_steps"] == 1024 + 512 * 4
    assert result["cost"]["gradient_steps"] == 64 * 2 * 4


def test_the_same_seed_gives_the_same_student(
    run: tuple[Path, dict[str, Any]], agents: dict[str, Agent], tmp_path: Path
) -> None:
    again = {**TINY, "env": PROBES["Box"], "teacher": str(agents["Box"].path)}
    kickstart({**again, "out": str(tmp_path / "same")})
    kickstart({**again, "out": str(tmp_path / "other"), "seed": 1})
    first, same, other = ((folder / "student.safetensors").read_bytes() for folder in (
        run[0], tmp_path / "same", tmp_path / "other"))  # fmt: skip
    assert first == same != other


def test_a_student_begun_elsewhere_is_gone_on_from(
    run: tuple[Path, dict[str, Any]], agents: dict[str, Agent], tmp_path: Path
) -> None:
    """Under a rate of next to nothing it stays what it was."""
    settings = {**TINY, "training": {**PPO_SETTINGS, "learning_rate": 1e-12}, "method": "ppd", "fade": "adaptive"}
    begun = run[0] / "student.safetensors"
    kickstart({**settings, "env": PROBES["Box"], "teacher": str(agents["Box"].path), "init": str(begun),
               "out": str(tmp_path / "run")})  # fmt: skip
    states = agents["Box"].observations()
    one, two = load_policy(begun).params(states), load_policy(tmp_path / "run" / "student.safetensors").params(states)
    np.testing.assert_allclose(one, two, atol=1e-6)


def test_the_best_of_all_evaluations_is_kept(
    agents: dict[str, Agent], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    agent, scores, played = agents["Discrete"], iter([1.0, 3.0, 2.0, 2.5]), list[Policy]()

    def scripted(player: Policy, recipe: Recipe, **_: Any) -> Evaluation:
        played.append(player)
        return Evaluation(np.array([next(scores)]), np.array([7]))

    monkeypatch.setattr(train, "evaluate", scripted)
    settings = {**TINY, "training": {**PPO_SETTINGS, "eval_every": 256, "learning_rate": 1e-2}}
    result = kickstart({**settings, "env": agent.env_id, "teacher": str(agent.path), "out": str(tmp_path / "run")})
    states = agent.observations()
    answers = [player.params(states) for player in [load_policy(tmp_path / "run" / "student.safetensors"), *played]]
    assert [np.array_equal(answers[0], answer) for answer in answers[1:]] == [False, True, False, False]
    assert result["cost"]["exam_steps"] == 4 * 7


def test_guided_by_a_good_teacher_a_student_becomes_like_it(agents: dict[str, Agent], tmp_path: Path) -> None:
    agent = agents["Discrete"]
    shared = {**TINY, "env": agent.env_id, "teacher": str(agent.path), "total_steps": 4096, "fade_fraction": 1.0}
    shared["training"] = {**PPO_SETTINGS, "learning_rate": 1e-2}
    close = [kickstart({**shared, "weight": weight, "out": str(tmp_path / str(weight))})["student"]["kl"]
             for weight in (3.0, 0.0)]  # fmt: skip
    assert close[0] < 0.5 * close[1]


def recurrent(teacher: Teacher) -> None:
    teacher.recurrent = True


def squashed(teacher: Teacher) -> None:
    teacher.head = HEADS["squashed_gaussian"]


def discrete(teacher: Teacher) -> None:
    teacher.head = HEADS["categorical"]


def elsewhere(teacher: Teacher) -> None:
    teacher.observations = {"state": next(iter(teacher.observations.values()))}


@pytest.mark.parametrize(("change", "message"), [
    (recurrent, "a teacher with a memory cannot guide PPO"),
    (squashed, "acts by squashed_gaussian .2,., PPO's student by diag_gaussian .2,."),
    (discrete, "acts by categorical .4,., PPO's student by diag_gaussian"),
    (elsewhere, "sees .*state.*, the student sees Box"),
])  # fmt: skip
def test_a_teacher_that_cannot_guide_is_refused(
    change: Callable[[Teacher], None], message: str, agents: dict[str, Agent]
) -> None:
    teacher = load_teacher(str(agents["Box"].path))
    check(teacher, agents["Box"].spaces)
    change(teacher)
    with pytest.raises(KDError, match=message):
        check(teacher, agents["Box"].spaces)


@pytest.mark.parametrize("space", [
    gym.spaces.Discrete(5), gym.spaces.Dict({"a": gym.spaces.Box(0, 1, (2,))}),
    gym.spaces.Box(0, 255, (8, 8, 3), np.uint8),
])  # fmt: skip
def test_an_environment_that_is_no_box_of_numbers_is_refused(space: gym.Space[Any], agents: dict[str, Agent]) -> None:
    with pytest.raises(KDError, match="a Box of numbers, not"):
        check(None, (space, agents["Box"].spaces[1]))


@pytest.mark.parametrize(("kind", "head", "message"), [
    ("gru", "diag_gaussian", "PPO trains mlp students, not one with gru"),
    ("mlp", "categorical", "acts by categorical"),
    ("mlp", "squashed_gaussian", "acts by squashed_gaussian, PPO's students by diag_gaussian"),
])  # fmt: skip
def test_an_unfit_beginning_is_refused_before_anything_is_written(
    kind: str, head: str, message: str, agents: dict[str, Agent], tmp_path: Path
) -> None:
    begun = make_student(HEADS[head], kind, hidden=(5,)).save(tmp_path / "begun.safetensors")
    with pytest.raises(KDError, match=message):
        kickstart({**TINY, "env": PROBES["Box"], "teacher": str(agents["Box"].path), "init": str(begun),
                   "out": str(tmp_path / "run")})  # fmt: skip
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(("name", "value"), [
    ("method", "ppo"), ("fade", "cosine"), ("weight", -1), ("critic_warmup", 2), ("total_steps", 0), ("lambda", 1),
])  # fmt: skip
def test_a_wrong_setting_is_named(name: str, value: Any) -> None:
    with pytest.raises(KDError, match=name):
        resolve(KickstartConfig, {"env": "CartPole-v1", name: value})
