"""MLP student: normalise, then linear layers with an activation between them (none: linear)."""

import itertools
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from kd_agent.actions import ActionHead
from kd_agent.graph import PARAMS, ObservationSpec, Op
from kd_agent.normalizer import Normalizer
from kd_agent.policy import PolicyOutput, Student

_ACTIVATIONS: dict[str, type[nn.Module]] = {
    "relu": nn.ReLU,
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
    "silu": nn.SiLU,
    "elu": nn.ELU,
    "leaky_relu": nn.LeakyReLU,
    "softplus": nn.Softplus,
}


class MLP(Student):
    """A multilayer perceptron over all observation keys, side by side.

    Gaussian heads have log standard deviations that do not depend on the observation and do not count
    as acting parameters.

    Args:
        observations: What it sees.
        head: Its action head.
        normalizers: Frozen statistics by observation key.
        hidden: Units of each hidden layer.
        activation: Name of the activation.
        dropout: Dropout after each hidden layer, while fitting only.
        seed: Seed of the initial weights.
    """

    def __init__(
        self,
        observations: Mapping[str, ObservationSpec],
        head: ActionHead,
        normalizers: Mapping[str, Normalizer],
        *,
        hidden: Sequence[int] = (16, 16),
        activation: str = "silu",
        dropout: float = 0.0,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.head, self.observations, self.normalizers = head, dict(observations), dict(normalizers)
        self.activation = activation
        for key, normalizer in self.normalizers.items():
            self.register_buffer(f"mean_{key}", torch.tensor(normalizer.mean, dtype=torch.float32), persistent=False)
            self.register_buffer(f"scale_{key}", torch.tensor(normalizer.scale), persistent=False)
        sizes = [sum(int(np.prod(s.shape)) for s in observations.values()), *hidden]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            layers: list[nn.Module] = []
            for fan_in, fan_out in itertools.pairwise(sizes):
                layers += [nn.Linear(fan_in, fan_out), _ACTIVATIONS[activation](), nn.Dropout(dropout)]
            self.layers = nn.Sequential(*layers, nn.Linear(sizes[-1], head.spec.num_acting))
        self.log_std = nn.Parameter(torch.zeros(head.num_params - head.spec.num_acting))

    def forward(self, observations: Mapping[str, Tensor]) -> PolicyOutput:
        """Output for a batch; `features` holds each hidden layer by name ("hidden.0", ...)."""
        x = torch.cat([self._normalised(key, observations[key]).flatten(1) for key in self.observations], dim=-1)
        features: dict[str, Tensor] = {}
        for layer in self.layers:
            x = layer(x)
            if isinstance(layer, nn.Dropout):
                features[f"hidden.{len(features)}"] = x
        params = torch.cat([x, self.log_std.expand(len(x), -1)], dim=-1) if len(self.log_std) else x
        return PolicyOutput(params, features=features)

    def ops(self) -> list[Op]:
        """Flatten and normalise each key, join them, then the layers."""
        ops = [op for key in self.observations for op in self._input_ops(key)]
        current = ops[-1].output
        if len(self.observations) > 1:
            ops.append(Op("concatenate", tuple(f"{key}.normal" for key in self.observations), "joined"))
            current = "joined"
        linears = [layer for layer in self.layers if isinstance(layer, nn.Linear)]
        for index, layer in enumerate(linears):
            tensors = {"weight": _array(layer.weight), "bias": _array(layer.bias)}
            last = index == len(linears) - 1
            output = (PARAMS if not len(self.log_std) else "mean") if last else f"linear.{index}"
            ops.append(Op("linear", (current,), output, {}, tensors))
            current = output
            if not last:
                ops.append(Op("activation", (current,), f"hidden.{index}", {"function": self.activation}))
                current = f"hidden.{index}"
        if len(self.log_std):
            ops.append(Op("append", (current,), PARAMS, {}, {"value": _array(self.log_std)}))
        return ops

    def _normalised(self, key: str, x: Tensor) -> Tensor:
        clip = self.normalizers[key].clip
        mean, scale = self.get_buffer(f"mean_{key}"), self.get_buffer(f"scale_{key}")
        return ((x.to(torch.float32) - mean) * scale).clamp(-clip, clip)

    def _input_ops(self, key: str) -> list[Op]:
        if len(self.observations[key].shape) == 1:
            return [self.normalizers[key].op(key, f"{key}.normal")]
        scaled = f"{key}.scaled"
        return [self.normalizers[key].op(key, scaled), Op("flatten", (scaled,), f"{key}.normal")]


def _array(tensor: Tensor) -> np.ndarray:
    return tensor.detach().cpu().numpy().astype(np.float32)


build = MLP
