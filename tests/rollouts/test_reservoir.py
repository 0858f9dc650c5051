"""The reservoir: everything ever seen with the same probability, and labels of whoever teaches now."""

from typing import Any

import numpy as np
import pytest
from samples import Agent
from scipy.stats import chisquare

from kd_agent import load_teacher
from kd_agent.rollouts.reservoir import Reservoir, flat, labelled

CAPACITY, SEEN = 8, 60


def filled(seed: int, sizes: tuple[int, ...]) -> np.ndarray:
    """The numbers, of 0 to `sum(sizes) - 1`, that a reservoir of 8 holds after it was offered them in such parts."""
    reservoir, first = Reservoir(CAPACITY, seed), 0
    for size in sizes:
        reservoir.add({"obs": np.arange(first, first + size)[:, None]})
        first += size
    assert reservoir.seen == first
    assert len(reservoir) == len(reservoir.observations["obs"]) == min(first, CAPACITY)
    return reservoir.observations["obs"][:, 0]


@pytest.mark.parametrize("sizes", [(60,), (1,) * 60, (3, 20, 0, 37), (8, 52)])
def test_each_state_ever_seen_is_held_with_the_same_probability(sizes: tuple[int, ...]) -> None:
    runs = 1000
    counts = np.bincount(np.concatenate([filled(seed, sizes) for seed in range(runs)]), minlength=SEEN)
    assert counts.sum() == runs * CAPACITY
    assert chisquare(counts).pvalue > 0.001
    assert 0.8 < counts[:CAPACITY].mean() / counts[-CAPACITY:].mean() < 1.25


def test_no_state_is_held_twice_and_few_states_are_all_held() -> None:
    assert len(set(filled(0, (60,)).tolist())) == CAPACITY
    assert filled(0, (3, 2)).tolist() == [0, 1, 2, 3, 4]


def test_the_parts_of_an_observation_stay_together() -> None:
    reservoir, numbers = Reservoir(5, 0), np.arange(50)
    reservoir.add({"a": numbers[:, None], "b": 2 * numbers})
    assert np.array_equal(2 * reservoir.observations["a"][:, 0], reservoir.observations["b"])


def test_a_reservoir_of_nothing_holds_nothing() -> None:
    reservoir = Reservoir(0, 0)
    reservoir.add({"obs": np.arange(9)[:, None]})
    assert (len(reservoir), reservoir.seen, len(reservoir.observations["obs"])) == (0, 9, 0)


def test_labels_are_those_of_the_teacher_who_is_asked(agents: dict[str, Agent], small: Any) -> None:
    first, second = load_teacher(str(agents["Discrete"].path)), load_teacher(str(small))
    reservoir = Reservoir(5000, 0)
    states = np.random.default_rng(0).normal(size=(4500, 4)).astype(np.float32)
    reservoir.add({"obs": states})
    for teacher in (first, second):
        rollout, answer = reservoir.labelled(teacher), teacher({"obs": states})
        assert np.allclose(rollout.params[0], answer.params.numpy(), atol=1e-6)
        assert rollout.value is not None
        assert answer.value is not None
        assert np.allclose(rollout.value[0], answer.value.numpy(), atol=1e-6)
        assert np.array_equal(flat(rollout)["obs"], states)
    assert not np.allclose(first({"obs": states}).params, second({"obs": states}).params, atol=0.1)


def test_a_layer_is_kept_where_it_is_asked_for(agents: dict[str, Agent]) -> None:
    teacher = load_teacher(str(agents["Discrete"].path))
    rollout = labelled({"obs": np.ones((3, 4), np.float32)}, teacher, teacher.last_layer)
    assert rollout.layer is not None
    assert rollout.layer.shape == (1, 3, 64)
