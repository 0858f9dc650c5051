"""PPO under guidance: its loss is the one that is written down, and the teacher fades as it is said to."""

from typing import Any

import numpy as np
import pytest
import torch
from samples import HEADS, Agent, make_student
from stable_baselines3 import PPO
from stable_baselines3.common.vec_env import VecEnv

from kd_agent import KDError, load_teacher
from kd_agent.environments.vector import make_env
from kd_agent.networks.base import Teacher
from kd_agent.policies.normalizer import Normalizer
from kd_agent.ppo.guided_policy import Actor, Fade, Guidance, GuidedBuffer, GuidedPolicy, Labelled, Standardise

NORMALIZER = Normalizer(np.full(4, 0.1), np.full(4, 2.0))
STEPS, ENVS = 16, 2


def guided(agent: Agent, guidance: Guidance, **settings: Any) -> tuple[PPO, Teacher]:
    """A PPO with one full rollout, to be trained on one minibatch of all of it."""
    teacher = load_teacher(str(agent.path))
    env = make_env(agent.env_id, ENVS)
    model = PPO(
        GuidedPolicy,
        env,
        n_steps=STEPS,
        batch_size=STEPS * ENVS,
        n_epochs=1,
        ent_coef=1.0,
        seed=1,
        device="cpu",
        rollout_buffer_class=GuidedBuffer,
        rollout_buffer_kwargs={"teacher": teacher},
        policy_kwargs={
            "graph": make_student(teacher.head, hidden=(6,)).graph(),
            "normalizer": NORMALIZER,
            "critic": (7,),
            "guidance": guidance,
        },
        **settings,
    )
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
    flat = {
        name: buffer.swap_and_flatten(getattr(buffer, name))
        for name in ("observations", "actions", "values", "log_probs", "advantages", "returns")
    }
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


def test_an_actor_that_holds_does_not_move_in_the_warm_up_whatever_the_kl_weighs(agents: dict[str, Agent]) -> None:
    model, _ = guided(agents["Box"], Guidance(weight=5.0, ent_coef=1.0, warming=True, holds=True))
    before, critic = bits(model), model.policy.value_net.weight.detach().clone()
    model.train()
    assert all(torch.equal(a, b) for a, b in zip(before, bits(model), strict=True))
    assert not torch.equal(critic, model.policy.value_net.weight)
    guidance = Guidance(weight=5.0, holds=True)
    model, _ = guided(agents["Box"], guidance)
    before = bits(model)
    model.train()
    assert not all(torch.equal(a, b) for a, b in zip(before, bits(model), strict=True)), "afterwards it does"


def test_a_student_is_held_against_what_the_guide_makes_of_the_teachers_rows(agents: dict[str, Agent]) -> None:
    model, teacher = guided(agents["Discrete"], Guidance(weight=1.0))
    buffer = model.rollout_buffer
    assert isinstance(buffer, GuidedBuffer)
    buffer._guide = lambda rows: 2 * rows
    buffer.compute_returns_and_advantage(torch.zeros(ENVS, 1), np.zeros(ENVS))
    [batch] = buffer.get(None)
    labelled: Any = batch.observations
    expected = 2 * teacher({"obs": labelled.observations.numpy()}).params
    torch.testing.assert_close(labelled.teacher, expected, atol=1e-5, rtol=0)


def test_the_teacher_never_changes(agents: dict[str, Agent]) -> None:
    model, teacher = guided(agents["Discrete"], Guidance(weight=1.0))
    states = {"obs": agents["Discrete"].observations()}
    before = teacher(states).params.clone()
    model.train()
    assert torch.equal(before, teacher(states).params)
    assert not any(parameter.requires_grad for parameter in [before, teacher(states).params])


@pytest.mark.parametrize(
    ("kind", "weights"),
    [
        ("linear", [2.0, 1.0, 0.0, 0.0]),
        ("exponential", [2.0, 0.2, 0.02, 0.0002]),
    ],
)
def test_a_schedule_fades(kind: str, weights: list[float]) -> None:
    fade = Fade(kind, 2.0, over=1000)
    found = [fade.at(steps, float("nan")) for steps in (0, 500, 1000, 2000)]
    assert found == pytest.approx(weights)
    assert fade.at(-300, float("nan")) == 2.0


def test_an_adaptive_weight_is_what_the_student_lags_behind() -> None:
    fade = Fade("adaptive", 2.0, over=1000, teacher=100.0, random=-100.0)
    scores = (float("nan"), -300.0, -100.0, 0.0, 50.0, 100.0, 250.0)
    assert [fade.at(10**6, score) for score in scores] == pytest.approx([2.0, 2.0, 2.0, 1.0, 0.5, 0.0, 0.0])


def test_every_minibatch_has_the_teachers_rows_of_its_own_states(agents: dict[str, Agent]) -> None:
    """States, rows and log-probabilities are drawn together, in whatever order."""
    model, teacher = guided(agents["Discrete"], Guidance(weight=1.0))
    drawn = list(model.rollout_buffer.get(8))
    assert len(drawn) == STEPS * ENVS // 8
    for batch in drawn:
        labelled: Any = batch.observations
        assert isinstance(labelled, Labelled)
        expected = teacher({"obs": labelled.observations.numpy()}).params
        torch.testing.assert_close(labelled.teacher, expected, atol=1e-6, rtol=0)
        assert torch.equal(labelled.old_log_prob, batch.old_log_prob)


def test_a_teacher_that_answers_nan_stops_the_training(agents: dict[str, Agent]) -> None:
    model, teacher = guided(agents["Discrete"], Guidance(weight=1.0))
    run = teacher._run  # type: ignore[attr-defined]
    teacher._run = lambda obs: {**run(obs), "params": np.full((STEPS * ENVS, 4), np.nan, np.float32)}  # type: ignore[attr-defined]
    with pytest.raises(KDError, match="the teacher answered NaN or infinity"):
        model.rollout_buffer.compute_returns_and_advantage(torch.zeros(ENVS, 1), np.zeros(ENVS))


@pytest.mark.parametrize("space", ["Discrete", "Box"])
def test_the_program_of_a_policy_acts_as_it_does(space: str, agents: dict[str, Agent]) -> None:
    model, _ = guided(agents[space], Guidance(weight=1.0))
    assert isinstance(model.policy, GuidedPolicy)
    states = agents[space].observations()
    row = actor(model).row(torch.from_numpy(states)).detach().numpy()
    found = model.policy.program().compile()({"obs": states})["params"]
    np.testing.assert_allclose(found, row, atol=1e-5)
    if space == "Box":
        assert model.policy.log_std is actor(model).log_std()
        np.testing.assert_allclose(found[0, 2:], model.policy.log_std.detach().numpy())


def test_an_actor_gives_the_acting_columns_and_trains_the_rest() -> None:
    graph = make_student(HEADS["diag_gaussian"], hidden=(6,)).graph()
    found = Actor(graph)
    flat = torch.zeros(3, 4)
    assert found(flat).shape == (3, 2)
    assert found.row(flat).shape == (3, 4)
    assert {name for name, _ in found.named_parameters() if name.endswith("value")}


def test_the_critic_sees_standardised_observations_clipped_as_the_students() -> None:
    normaliser = Normalizer(np.array([1.0, -2.0]), np.array([4.0, 0.25]), clip=1.5)
    found = Standardise(normaliser)(torch.tensor([[3.0, -2.0], [100.0, -1.9]]))
    np.testing.assert_allclose(found, normaliser(np.float32([[3.0, -2.0], [100.0, -1.9]])), atol=1e-6)
    assert found.max() == 1.5


def test_a_bonus_is_entropy_less_the_weighted_kl_and_in_the_warm_up_the_kl_alone() -> None:
    kl, log_prob, old, entropy = (torch.tensor([x]) for x in (2.0, -1.0, -1.5, 3.0))
    assert Guidance(0.5, ent_coef=0.1).bonus(kl, log_prob, old, entropy) == pytest.approx(0.1 * 3 - 0.5 * 2)
    assert Guidance(0.5, ent_coef=0.1, warming=True).bonus(kl, log_prob, old, entropy) == pytest.approx(-0.5 * 2)
    ratio = float(np.exp(0.5))
    assert Guidance(0.5, proximal=True).bonus(kl, log_prob, old, entropy) == pytest.approx(-0.5 * ratio * 2)
    held = Guidance(0.5, proximal=True, clip_range=0.2)
    assert held.bonus(kl, old - 9, old, entropy) == pytest.approx(-0.5 * 0.8 * 2)
    assert held.kl == 2.0
