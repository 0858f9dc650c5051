"""A fit is what it is said to be: losses, weights, batches, rate, decay and dropout reach the gradient."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from recorder import GIVEN, SEAMS, TEACHER, original
from samples import HEADS, make_student

from kd_agent.losses import Objective
from kd_agent.networks import LAYER, Student
from kd_agent.networks.distributions import Softening
from kd_agent.rollouts import Rollout


def numbered(steps: int, envs: int = 1) -> Rollout:
    """States whose label is their number, so that a loss tells which of them it has seen."""
    number = np.arange(steps * envs, dtype=np.float32).reshape(steps, envs)
    obs = np.random.default_rng(0).normal(size=(steps, envs, 4)).astype(np.float32)
    params = np.repeat(number[..., None], 4, axis=2)
    starts = np.zeros((steps, envs), bool)
    return Rollout({"obs": obs}, params, starts.astype(np.int8), number, starts, np.ones_like(number))


def label_as_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    """A loss that is the label itself."""
    monkeypatch.setattr(SEAMS["kl"], lambda student, target, *rest: target.params[:, 0] + 0 * student.params.sum(-1))


def fit(student: Student, rollouts: Sequence[Rollout], **more: Any) -> float:
    settings = {"steps": 1, "batch_size": 10_000, "learning_rate": 1e-2, **more}
    loss: float = original("fit")(student, rollouts, settings.pop("objective", Objective({"kl": 1.0})), **settings)
    return loss


FROM_START, AFTER_BURN_IN = 0, 16


@pytest.mark.parametrize("begins", [None, 0, 1], ids=["in mid-episode", "with an episode", "a step before one"])
def test_the_head_of_a_window_only_warms_the_memory_up_but_where_an_episode_begins(
    begins: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of 65 states a window of 64 begins with state 0 or 1; in mid-episode its first 16 do not count."""
    label_as_loss(monkeypatch)
    student = make_student(HEADS["categorical"], "gru", hidden=(4,))
    rollout = numbered(65)
    if begins is not None:
        rollout.episode_start[begins] = True
    means = {fit(student, [rollout], batch_size=64, seed=seed) for seed in range(12)}
    expected = set()
    for first in (0, 1):
        skipped = FROM_START if first == begins else AFTER_BURN_IN
        expected.add(np.mean(range(first + skipped, first + 64)))
    assert means == expected


def test_a_states_weight_counts_in_the_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    label_as_loss(monkeypatch)
    rollout = numbered(10)
    rollout.weight[:5] = 0
    assert fit(make_student(HEADS["categorical"]), [rollout]) == pytest.approx(np.mean(range(5, 10)))


def test_a_batch_has_the_size_that_was_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []

    def loss(student: Any, target: Any, *rest: Any) -> torch.Tensor:
        sizes.append(len(target.params))
        return student.params.sum(-1)

    monkeypatch.setattr(SEAMS["kl"], loss)
    fit(make_student(HEADS["categorical"]), [numbered(20)], steps=3, batch_size=6)
    assert sizes == [6, 6, 6]


@pytest.mark.parametrize("convention", ["hinton", "rusu"])
def test_a_fit_minimises_the_loss_of_its_temperature_and_convention(convention: str) -> None:
    student, rollout, t = make_student(HEADS["categorical"], hidden=(5,)), numbered(20), 3.0
    rollout.params[..., 1:] *= 0.9
    rows = student({"obs": torch.from_numpy(rollout.obs["obs"][:, 0])}).params.detach()
    p = (torch.from_numpy(rollout.params[:, 0]) / t).log_softmax(-1)
    q = (rows / t if convention == "hinton" else rows).log_softmax(-1)
    expected = float((p.exp() * (p - q)).sum(-1).mean()) * (t * t if convention == "hinton" else 1) * 0.5
    objective = Objective({"kl": 0.5}, Softening(t, convention))
    assert fit(student, [rollout], objective=objective) == pytest.approx(expected, rel=1e-4)


def test_the_loss_compares_the_layers_that_were_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Student: 7 and 3 units; teacher: 6 and 5."""
    widths: list[tuple[int, int]] = []

    def relation(student: Any, target: Any, *rest: Any) -> torch.Tensor:
        widths.append((student.features[LAYER].shape[1], target.features[LAYER].shape[1]))
        return student.features[LAYER].sum(-1)

    student, states = make_student(HEADS["categorical"], hidden=(7, 3)), numbered(10)
    layer = TEACHER({"obs": states.obs["obs"][:, 0]}).features[GIVEN["teacher_layer"]].numpy()[:, None]
    rollout = Rollout.from_arrays({**states.arrays(), "layer": layer})
    monkeypatch.setattr(SEAMS["relation"], relation)
    for name in ("hidden.0", None):
        fit(student, [rollout], objective=Objective({"relation": 1.0}, student_layer=name))
    assert widths == [(7, 6), (3, 6)]


def test_the_rate_falls_as_a_cosine_and_weight_decay_is_the_optimisers(monkeypatch: pytest.MonkeyPatch) -> None:
    rates: list[float] = []
    decays: list[list[float]] = []
    step = torch.optim.AdamW.step

    def spied(self: Any, *rest: Any) -> Any:
        rates.append(self.param_groups[0]["lr"])
        decays.append([group["weight_decay"] for group in self.param_groups])
        return step(self, *rest)

    monkeypatch.setattr(torch.optim.AdamW, "step", spied)
    fit(make_student(HEADS["categorical"]), [numbered(10)], steps=100, learning_rate=0.02, l2=0.3)
    assert len(rates) == 100
    assert rates[0] == pytest.approx(0.02)
    assert rates[50] == pytest.approx((0.02 + 0.0002) / 2)
    assert rates[-1] < 0.02 * 0.02
    assert decays[0] == [0.3, 0.0]


def test_dropout_is_on_in_a_fit_off_after_it_and_follows_the_fits_seed() -> None:
    trained: list[bool] = []
    losses: list[float] = []
    for seed in (1, 1, 2):
        student = make_student(HEADS["categorical"], dropout=0.5)
        dropout = [module for module in student.modules() if isinstance(module, torch.nn.Dropout)]
        hook = dropout[0].register_forward_hook(lambda module, *rest: trained.append(module.training))
        losses.append(fit(student, [numbered(10)], steps=2, seed=seed))
        hook.remove()
        assert not any(module.training for module in student.modules())
    assert all(trained[-2:])
    assert losses[0] == losses[1] != losses[2]
