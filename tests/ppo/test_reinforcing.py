"""What PPO begins with when it goes on from a student: settings, exploration, the teacher's rows, statistics."""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from samples import HEADS, make_student, rows

from kd_agent.policies import Normalizer, PolicyGraph
from kd_agent.ppo.guided_training import Guided
from kd_agent.ppo.reinforcing import exploring, gentle, guide_of, normalizer_of
from kd_agent.settings import TrainingConfig

GAUSSIAN = ("diag_gaussian", "squashed_gaussian")


def student(kind: str, log_std: float = 0.0) -> PolicyGraph:
    """A student with these log standard deviations, where it has any."""
    graph = make_student(HEADS[kind], hidden=(5,)).graph()
    if kind not in GAUSSIAN:
        return graph
    *ops, append = graph.ops
    value = np.full_like(append.tensors["value"], log_std)
    return replace(graph, ops=(*ops, replace(append, tensors={"value": value})))


def planned(temperature: float = 1.0, convention: str = "hinton") -> Any:
    """A run of such a plan."""
    return SimpleNamespace(plan=SimpleNamespace(temperature=temperature, convention=convention))


def test_only_the_discounts_are_the_environments() -> None:
    rough = TrainingConfig(gamma=0.9, gae_lambda=0.8, learning_rate=0.5, clip_range=0.9, n_epochs=50, use_sde=True,
                           target_return=1.0, ent_coef=0.5, normalize=True)  # fmt: skip
    found = gentle(rough, 300_000)
    assert (found.gamma, found.gae_lambda) == (0.9, 0.8)
    assert replace(found, gamma=0.99, gae_lambda=0.95) == gentle(TrainingConfig(), 300_000)
    assert found.target_return is None, "it does not stop where a teacher would"
    assert found.ent_coef == 0
    assert not found.normalize


@pytest.mark.parametrize("steps", [100, 10_000, 1_000_000])
def test_a_training_is_of_whole_updates_and_is_evaluated_some_five_times(steps: int) -> None:
    found = gentle(TrainingConfig(), steps)
    update = found.n_envs * found.n_steps
    assert 0 <= found.total_steps - steps < update
    assert found.total_steps / update >= 6
    assert found.eval_every == steps // 5


@pytest.mark.parametrize("kind", GAUSSIAN)
def test_exploration_begins_within_bounds_in_units_of_the_action(kind: str) -> None:
    head = HEADS[kind].spec
    half_range = np.ones(len(head.low))
    if kind == "diag_gaussian":
        half_range = (np.asarray(head.high) - np.asarray(head.low)) / 2
        assert not np.allclose(half_range, 1), "the test would not tell one from the other"
    for log_std, share in ((5.0, 0.3), (-20.0, 0.05)):
        found = np.exp(exploring(student(kind, log_std)).ops[-1].tensors["value"])
        np.testing.assert_allclose(found, share * half_range, rtol=1e-5)
    within = student(kind, float(np.log(0.2 * half_range.min())))
    np.testing.assert_array_equal(exploring(within).ops[-1].tensors["value"], within.ops[-1].tensors["value"])


def test_what_has_no_standard_deviation_stays_as_it_is() -> None:
    graph = student("categorical")
    assert exploring(graph) is graph


@pytest.mark.parametrize("kind", GAUSSIAN)
def test_a_gaussian_is_held_against_the_teachers_means_at_its_own_exploration(kind: str) -> None:
    begun = student(kind, -1.5)
    teacher = rows(HEADS[kind])
    found = guide_of(planned(), begun)(teacher)
    mean, log_std = found.chunk(2, dim=-1)
    assert torch.equal(mean, teacher.chunk(2, dim=-1)[0])
    assert torch.equal(log_std, torch.full_like(log_std, -1.5))


def test_another_is_held_against_the_rows_that_it_was_fitted_to() -> None:
    begun, teacher = student("categorical"), rows(HEADS["categorical"])
    assert torch.equal(guide_of(planned(4.0), begun)(teacher), teacher)
    torch.testing.assert_close(guide_of(planned(4.0, "rusu"), begun)(teacher), teacher / 4)


def test_the_critic_is_normalised_as_the_student_is() -> None:
    normalizer = Normalizer(np.array([1.0, -2.0, 0.0, 3.0]), np.array([4.0, 0.25, 1.0, 9.0]), clip=1.5)
    graph = student("categorical")
    first, *others = graph.ops
    op = normalizer.op("obs", first.output)
    found = normalizer_of(replace(graph, ops=(op, *others)))
    states = np.random.default_rng(0).normal(0, 5, (20, 4)).astype(np.float32)
    np.testing.assert_allclose(found(states), normalizer(states), rtol=1e-6)
    assert found.clip == 1.5


def test_a_training_ends_where_its_last_evaluation_is() -> None:
    assert Guided(student("categorical"), [(64, 1.0), (100, 0.0)], weight=0.0).steps == 100
