"""Rows become actions in torch as they do in NumPy, and samples have the head's distribution."""

import numpy as np
import pytest
import torch
from draws import chance
from samples import HEADS

from kd_agent.policies.torch_head import greedy, noisy


def bounds(kind: str) -> tuple[torch.Tensor, torch.Tensor]:
    spec = HEADS[kind].spec
    return torch.tensor(spec.low or [0.0]), torch.tensor(spec.high or [0.0])


def rows(kind: str, count: int = 50) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(count, HEADS[kind].num_params)).astype(np.float32)


@pytest.mark.parametrize("kind", sorted(HEADS))
def test_greedy_actions_are_those_of_numpy(kind: str) -> None:
    params = rows(kind)
    found = greedy(HEADS[kind].spec, torch.from_numpy(params), *bounds(kind)).numpy()
    expected = HEADS[kind].spec.greedy(params)
    np.testing.assert_allclose(found.reshape(expected.shape).astype(np.float64), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", sorted(HEADS))
def test_the_greedy_actions_of_noisy_rows_are_samples(kind: str) -> None:
    torch.manual_seed(0)
    row = rows(kind, 1)
    many = torch.from_numpy(np.repeat(row, 4_000, axis=0))
    drawn = greedy(HEADS[kind].spec, noisy(HEADS[kind].spec, many), *bounds(kind)).numpy()
    if HEADS[kind].spec.is_gaussian:
        sampled = HEADS[kind].spec.sample(many.numpy(), np.random.default_rng(1))
        np.testing.assert_allclose(drawn.mean(0), sampled.mean(0), atol=0.1)
        np.testing.assert_allclose(drawn.std(0), sampled.std(0), atol=0.1)
    else:
        assert chance(HEADS[kind].spec, row[0], drawn) > 1e-3
