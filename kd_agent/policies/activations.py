"""The activation functions of programs, elementwise on float32."""

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from kd_agent.errors import KDError, unknown
from kd_agent.policies.head import Array

SELU_SCALE = 1.0507009873554805
"""The fixed point of self-normalising networks (Klambauer et al. 2017)."""
SELU_FLOOR = 1.7580993408473766
"""Its product with their alpha, 1.6732632423543772."""


def sigmoid(x: Array) -> Array:
    """The logistic function."""
    # By tanh, which overflows nowhere.
    return np.asarray(0.5 * (np.tanh(0.5 * x) + 1))


def _erf(x: Array) -> Array:
    """Error function to 1.5e-7 (Abramowitz and Stegun 7.1.26)."""
    a = np.abs(x)
    t = 1 / (1 + 0.3275911 * a)
    poly = t * (0.254829592 + t * (-0.284496736 + t * (1.421413741 + t * (-1.453152027 + t * 1.061405429))))
    return np.asarray(np.sign(x) * (1 - poly * np.exp(-a * a)))


def _mish(x: Array) -> Array:
    # tanh(log(1 + e^x)) as a quotient of e^-|x|, which overflows nowhere.
    decay = np.exp(-np.abs(x))
    above = np.where(x > 0, 1 + 2 * decay, decay * (decay + 2))
    rest = np.where(x > 0, 2 * decay * decay, np.float32(2))
    return np.asarray(x * (above / (above + rest)))


ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "relu": lambda x: np.maximum(x, 0),
    "tanh": np.tanh,
    "sigmoid": sigmoid,
    "silu": lambda x: x * sigmoid(x),
    "elu": lambda x: np.where(x > 0, x, np.expm1(np.minimum(x, 0))),
    "leaky_relu": lambda x: np.where(x > 0, x, np.float32(0.01) * x),
    "softplus": lambda x: np.logaddexp(x, np.float32(0)),
    "gelu": lambda x: 0.5 * x * (1 + _erf(x * np.float32(math.sqrt(0.5)))),
    "mish": _mish,
    "selu": lambda x: np.where(x > 0, np.float32(SELU_SCALE) * x, np.float32(SELU_FLOOR) * np.expm1(np.minimum(x, 0))),
    "softsign": lambda x: x / (1 + np.abs(x)),
    "relu6": lambda x: np.minimum(np.maximum(x, 0), 6),
    "hardtanh": lambda x: np.minimum(np.maximum(x, -1), 1),
}
"""Activations that are known by their name alone."""
SLOPED = "prelu"
"""The activation `x if x > 0 else slope * x`, which has its `slope` as an attribute; `leaky_relu` is that of 0.01."""


def activation(attributes: Mapping[str, Any]) -> Callable[[Array], Array]:
    """The function that an operation's attributes name.

    Raises:
        KDError: There is none of that name, or its slope is no finite number.
    """
    name = attributes["function"]
    if name == SLOPED:
        slope = np.float32(attributes["slope"])
        if not np.isfinite(slope):
            raise KDError(f"an activation of slope {slope} is not possible")
        return lambda x: np.where(x > 0, x, slope * x)
    if name not in ACTIVATIONS:
        raise unknown("activation", name, ACTIVATIONS)
    return ACTIVATIONS[name]
