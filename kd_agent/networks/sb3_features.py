"""What a policy computes before its hidden layers, as a features extractor of Stable-Baselines3.

Zips that `kd-agent export --to sb3` writes name this class where none of Stable-Baselines3's own computes the same:
whoever loads one needs kd_agent. Its module and its arguments are part of those files, and so a promise.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from torch import Tensor, nn

from kd_agent.policies import OBSERVATION, Op
from kd_agent.policies.torch_policy import TorchOp


class ProgramFeatures(BaseFeaturesExtractor):
    """Operations of a policy's program; what is fitted among their tensors is trained on, a normaliser stays.

    Args:
        observation_space: What Stable-Baselines3 shows: categories come one-hot, images with the channels first.
        operations: Each as `describe` has it; the tensors themselves are the module's state.
        output: The register that holds the features `[B, F]`.
        features_dim: `F`.
    """

    def __init__(
        self,
        observation_space: gym.Space[Any],
        operations: Sequence[Mapping[str, Any]],
        output: str,
        features_dim: int,
    ) -> None:
        super().__init__(observation_space, features_dim)
        self.output = output
        self.ops = nn.ModuleList(TorchOp(_blank(plain)) for plain in operations)

    def forward(self, observations: Tensor | Mapping[str, Tensor]) -> Tensor:
        """Features `[B, F]` of observations `[B, *O]`, or of such by key."""
        registers = dict(observations) if isinstance(observations, Mapping) else {OBSERVATION: observations}
        for step in self.ops:
            assert isinstance(step, TorchOp)
            registers[step.op.output] = step(*(registers[name] for name in step.op.inputs))
        features: Tensor = registers[self.output]
        return features


def describe(op: Op) -> dict[str, Any]:
    """An operation as `ProgramFeatures` takes it: of its tensors, only the shapes by role."""
    return {
        "kind": op.kind,
        "inputs": list(op.inputs),
        "output": op.output,
        "attributes": dict(op.attributes),
        "shapes": {role: list(tensor.shape) for role, tensor in op.tensors.items()},
    }


def _blank(plain: Mapping[str, Any]) -> Op:
    """The operation of a description, its tensors zeros."""
    tensors = {role: np.zeros(shape, np.float32) for role, shape in plain["shapes"].items()}
    return Op(plain["kind"], tuple(plain["inputs"]), plain["output"], plain["attributes"], tensors)
