"""Frozen statistics: VecNormalize's formula, the graph's step, and statistics of a sample."""

import numpy as np
import pytest
from stable_baselines3.common.running_mean_std import RunningMeanStd

from kd_agent import KDError
from kd_agent.policies.graph import compile_ops
from kd_agent.policies.normalizer import Normalizer


def sample(shape: tuple[int, ...] = (200, 3)) -> np.ndarray:
    return np.random.default_rng(0).normal(3, 5, shape)


@pytest.mark.parametrize("clip", [0.5, 10.0])
def test_the_formula_is_vecnormalizes(clip: float) -> None:
    statistics = RunningMeanStd(shape=(3,))
    statistics.update(sample())
    normalizer = Normalizer(statistics.mean, statistics.var, clip)
    x = sample().astype(np.float32)
    expected = np.clip((x - statistics.mean) / np.sqrt(statistics.var + 1e-8), -clip, clip)
    np.testing.assert_allclose(normalizer(x), expected, atol=1e-5)
    assert normalizer(x).dtype == np.float32


@pytest.mark.parametrize("shape", [(3,), (2, 4), ()])
def test_the_graphs_step_is_the_same_to_the_last_bit(shape: tuple[int, ...]) -> None:
    x = sample((50, *shape)).astype(np.float32)
    normalizer = Normalizer(np.full(shape, 1.5), np.full(shape, 0.3), clip=2.0)
    op = normalizer.op("obs", "normal")
    assert (op.kind, op.inputs, op.output) == ("normalise", ("obs",), "normal")
    np.testing.assert_array_equal(compile_ops([op])({"obs": x})["normal"], normalizer(x))


def test_a_sample_is_normalised_to_mean_0_and_variance_1() -> None:
    x = sample()
    normal = Normalizer.of(x)(x.astype(np.float32))
    np.testing.assert_allclose(normal.mean(axis=0), 0, atol=1e-5)
    np.testing.assert_allclose(normal.std(axis=0), 1, rtol=1e-5)


def test_a_feature_that_hardly_varies_keeps_its_own_scale() -> None:
    x = sample()
    x[:, 1] = 7 + 1e-5 * np.arange(200) / 200
    normal = Normalizer.of(x)(np.float32([[0, 7.5, 0]]))
    assert normal[0, 1] == pytest.approx(0.5, abs=1e-4)


def test_large_steady_numbers_keep_their_variance() -> None:
    x = (1e7 + np.arange(1000) % 4).astype(np.float32)[:, None]
    assert Normalizer.of(x).var.tolist() == [1.25]


def test_whole_numbers_are_understood() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (100, 2, 2), np.uint8)
    assert np.abs(Normalizer.of(pixels)(pixels)).max() < 3


@pytest.mark.parametrize(
    ("mean", "var", "message"),
    [
        ([0.0, 1.0], [1.0], "mean of shape"),
        ([np.nan], [1.0], "NaN, infinite or of negative variance"),
        ([0.0], [np.inf], "NaN, infinite or of negative variance"),
        ([0.0], [np.nan], "NaN, infinite or of negative variance"),
        ([0.0], [-1e-9], "NaN, infinite or of negative variance"),
    ],
)
def test_statistics_that_are_none_are_refused(mean: list[float], var: list[float], message: str) -> None:
    with pytest.raises(KDError, match=message):
        Normalizer(np.array(mean), np.array(var))


def test_a_step_tells_its_statistics_again() -> None:
    normalizer = Normalizer(np.array([1.0, -2.0]), np.array([0.25, 9.0]), clip=5.0)
    again = Normalizer.of_op(normalizer.op("obs", "normalised"))
    np.testing.assert_array_equal(again.mean, normalizer.mean)
    np.testing.assert_array_equal(again.scale, normalizer.scale)
    assert again.clip == 5.0
