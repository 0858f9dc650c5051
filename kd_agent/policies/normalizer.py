"""Normalizer: frozen statistics that become the `normalise` step of a student's graph."""

from dataclasses import dataclass

import numpy as np

from kd_agent.errors import KDError
from kd_agent.policies.graph import Op
from kd_agent.policies.head import Array

UNBOUNDED = 1e30
"""A clip that no observation of float32 reaches, and whose product with a standard deviation still is one."""


@dataclass(frozen=True)
class Normalizer:
    """`clip((x - mean) / sqrt(var + epsilon), -clip, clip)`, as Stable-Baselines3's VecNormalize.

    Attributes:
        mean, var: Statistics, float64 `[*O]`.
        clip: Largest absolute value let through.
        epsilon: Added to the variance.
    """

    mean: Array
    var: Array
    clip: float = 10.0
    epsilon: float = 1e-8

    def __post_init__(self) -> None:
        if np.shape(self.mean) != np.shape(self.var):
            raise KDError(f"mean of shape {np.shape(self.mean)} but variance of shape {np.shape(self.var)}")
        finite = np.isfinite(self.mean).all() and np.isfinite(self.var).all()
        if not finite or np.min(self.var, initial=0) < 0:
            raise KDError("the normalisation statistics are NaN, infinite or of negative variance")

    @property
    def scale(self) -> Array:
        """`1 / sqrt(var + epsilon)`, float32 `[*O]`."""
        # A factor, not a divisor: C, ONNX and JavaScript multiply by the same float32 number.
        deviation = np.sqrt(np.asarray(self.var, np.float64) + self.epsilon)
        return np.asarray(1 / deviation, np.float32)

    def __call__(self, observations: Array) -> Array:
        """Normalised observations, float32 `[B, *O]`."""
        scaled = (observations - np.asarray(self.mean, np.float32)) * self.scale
        return np.asarray(np.clip(scaled, -self.clip, self.clip), np.float32)

    def op(self, register: str, output: str) -> Op:
        """The graph's step.

        Args:
            register: Where the observation `[B, *O]` is.
            output: Where it goes, normalised.
        """
        tensors = {"mean": np.asarray(self.mean, np.float32), "scale": self.scale}
        return Op("normalise", (register,), output, {"clip": float(self.clip)}, tensors)

    @staticmethod
    def of_op(op: Op) -> "Normalizer":
        """Inverse of `op`: the statistics of a graph's step.

        Args:
            op: The step.
        """
        # The step keeps the factor 1 / sqrt(var + epsilon) alone.
        scale = np.asarray(op.tensors["scale"], np.float64)
        return Normalizer(np.asarray(op.tensors["mean"], np.float64), scale**-2, float(op.attributes["clip"]), 0.0)

    @staticmethod
    def of(observations: Array, *, centred: bool = True) -> "Normalizer":
        """Statistics of a sample; a feature that hardly varies keeps its own scale.

        Args:
            observations: The sample `[B, *O]`.
            centred: Subtract the mean; else only scale by the root of the mean square.
        """
        # float64: the variance of large, steady numbers is lost in float32.
        sample = np.asarray(observations, np.float64)
        mean = sample.mean(axis=0)
        var = sample.var(axis=0)
        if not centred:
            var = var + mean**2
            mean = np.zeros_like(mean)
        # A feature that was constant in the sample would else be blown up to the clip once it moves at all.
        steady = var < 1e-6
        return Normalizer(mean, np.where(steady, 1.0, var))
