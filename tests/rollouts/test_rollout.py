"""Rollouts: arrays that fit together, side by side as one data set, and through a checkpoint."""

from typing import Any

import numpy as np
import pytest

from kd_agent import KDError
from kd_agent.rollouts import Rollout, aggregate
from kd_agent.rollouts.rollout import in_one_step


def rollout(steps: int = 4, **more: Any) -> Rollout:
    """Numbers of two environments that tell steps and environments apart."""
    number = np.arange(2 * steps, dtype=np.float32).reshape(steps, 2)
    arrays = {
        "params": np.repeat(number[..., None], 3, axis=-1),
        "driver": np.zeros((steps, 2), np.int8),
        "reward": number,
        "episode_start": number == 0,
        "weight": np.ones((steps, 2), np.float32),
        **more,
    }
    return Rollout({"obs": np.stack([number, -number], axis=-1)}, **arrays)


def test_a_data_set_has_every_state_of_every_rollout_in_the_same_place_in_each_array() -> None:
    together = aggregate([rollout(), rollout(3)])
    assert (together["obs.obs"].shape, together["params"].shape) == ((14, 2), (14, 3))
    np.testing.assert_array_equal(together["obs.obs"][:, 0], together["params"][:, 0])
    np.testing.assert_array_equal(together["reward"], [*range(8), *range(6)])
    assert together["weight"].tolist() == [1] * 14


@pytest.mark.parametrize("more", [{}, {"value": np.ones((4, 2))}, {"mask": np.ones((4, 2, 3), bool)}], ids=str)
def test_a_rollout_survives_a_checkpoint(more: dict[str, Any]) -> None:
    arrays = rollout(**more).arrays()
    again = Rollout.from_arrays(arrays).arrays()
    assert set(again) == set(arrays) >= {"obs.obs", *more}
    assert all(again[name] is array for name, array in arrays.items())


def test_arrays_that_do_not_fit_are_refused() -> None:
    arrays = rollout().arrays()
    with pytest.raises(KDError, match="differ in steps or environments"):
        Rollout.from_arrays({**arrays, "reward": arrays["reward"][:2]})
    with pytest.raises(KDError, match="NaN or infinity"):
        Rollout.from_arrays({**arrays, "params": np.full((4, 2, 3), np.nan)})


def test_a_data_set_has_what_all_rounds_have() -> None:
    """Those of a run that an older version began do not tell what was done."""
    together = aggregate([rollout(), rollout(3, action=np.zeros((3, 2)))])
    assert "action" not in together
    assert aggregate([rollout(action=np.zeros((4, 2)))])["action"].shape == (8,)


def test_states_in_one_step_are_those_of_the_data_set_in_its_order() -> None:
    parts = [rollout(), rollout(3)]
    alone, together = in_one_step(parts), aggregate(parts)
    assert alone.driver.shape == (1, 14)
    for name, array in alone.arrays().items():
        np.testing.assert_array_equal(array[0], together[name])
