"""Activations are torch's."""

import math

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from kd_agent.errors import KDError
from kd_agent.policies.activations import ACTIVATIONS, SLOPED, activation


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_an_activation_is_torchs_and_overflows_nowhere(name: str) -> None:
    x = np.float32([-1e4, -80, -20, -3, -1, -0.5, -1e-6, 0, 1e-6, 0.5, 1, 3, 20, 80, 1e4])
    function = getattr(F, name)
    expected = function(torch.from_numpy(x)).numpy()
    with np.errstate(over="raise", invalid="raise"):
        found = activation({"function": name})(x)
    np.testing.assert_allclose(found, expected, rtol=2e-6, atol=2e-6)


def test_the_error_function_is_as_near_as_its_source_says() -> None:
    x = np.linspace(-4, 4, 4001)
    found = 2 * ACTIVATIONS["gelu"](x * math.sqrt(2))[x != 0] / (x * math.sqrt(2))[x != 0] - 1
    expected = [math.erf(number) for number in x[x != 0]]
    np.testing.assert_allclose(found, expected, atol=4e-7)


@pytest.mark.parametrize("slope", [0.2, 0.0, 1.5, -0.3])
def test_a_slope_is_that_of_torchs_leaky_relu(slope: float) -> None:
    x = np.float32([-1e4, -2, -1e-6, 0, 1e-6, 3])
    found = activation({"function": SLOPED, "slope": slope})(x)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, F.leaky_relu(torch.from_numpy(x), slope).numpy(), rtol=1e-6)


def test_what_is_no_activation_is_refused_by_name() -> None:
    with pytest.raises(KDError, match="unknown activation 'relu7'; did you mean 'relu'"):
        activation({"function": "relu7"})
    with pytest.raises(KDError, match="slope inf is not possible"):
        activation({"function": SLOPED, "slope": math.inf})
