"""What all students share: encode each observation, join them, hidden layers, the head's row."""

import itertools
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from kd_agent.networks import ActionHead, PolicyOutput, Student
from kd_agent.policies import PARAMS, Array, Normalizer, ObservationSpec, Op

_ACTIVATIONS: dict[str, type[nn.Module]] = {
    "relu": nn.ReLU,
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
    "silu": nn.SiLU,
    "elu": nn.ELU,
    "leaky_relu": nn.LeakyReLU,
    "softplus": nn.Softplus,
}


class Trunk(Student):
    """Normalised observations, side by side, through hidden layers with dropout; plug-ins change a step of it.

    Beside the head, a linear critic reads the last layer, for losses that want it; it is not part of the program.
    Gaussian heads have log standard deviations that do not depend on the observation and do not count
    as acting parameters.

    Args:
        observations: What it sees.
        head: Its action head.
        normalizers: Frozen statistics by observation key.
        hidden: Units of each hidden layer.
        activation: Name of the activation.
        dropout: Dropout after each hidden layer, while fitting only.
        bias: Whether the last layer has one.
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
        bias: bool = True,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.head, self.observations, self.normalizers = head, dict(observations), dict(normalizers)
        self.activation = activation
        for key, normalizer in self.normalizers.items():
            self.register_buffer(f"mean_{key}", torch.tensor(normalizer.mean, dtype=torch.float32), persistent=False)
            self.register_buffer(f"scale_{key}", torch.tensor(normalizer.scale), persistent=False)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            sizes = [sum(self.make_encoder(key) for key in self.observations), *hidden]
            layers: list[nn.Module] = []
            for index, (fan_in, fan_out) in enumerate(itertools.pairwise(sizes), 1):
                layers += [*self.make_layer(fan_in, fan_out, last=index == len(hidden)), nn.Dropout(dropout)]
            self.layers = nn.Sequential(*layers, nn.Linear(sizes[-1], head.spec.num_acting, bias=bias))
            self.critic = nn.Linear(sizes[-1], 1)
        self.log_std = nn.Parameter(torch.zeros(head.num_params - head.spec.num_acting))

    def make_encoder(self, key: str) -> int:
        """Make what encodes an observation; the number of features it gives."""
        return self.observations[key].features

    def make_layer(self, fan_in: int, fan_out: int, *, last: bool) -> list[nn.Module]:
        """A hidden layer, the last or an earlier one: linear and activation."""
        return [nn.Linear(fan_in, fan_out), _ACTIVATIONS[self.activation]()]

    def encode(self, key: str, x: Tensor) -> Tensor:
        """Features `[B, F]` of observations `[B, *O]`: normalised and flat; one-hot where they are categories."""
        categories = self.observations[key].categories
        if categories:
            parts = x.long().reshape(len(x), -1).unbind(-1)
            hot = [nn.functional.one_hot(part, n) for part, n in zip(parts, categories, strict=True)]
            return torch.cat(hot, dim=-1).to(torch.float32)
        clip = self.normalizers[key].clip
        mean, scale = self.get_buffer(f"mean_{key}"), self.get_buffer(f"scale_{key}")
        return ((x.to(torch.float32) - mean) * scale).clamp(-clip, clip).flatten(1)

    def encoder_ops(self, key: str) -> list[Op]:
        """The same as operations."""
        if categories := self.observations[key].categories:
            return [Op("one_hot", (key,), f"{key}.hot", {"sizes": list(categories)})]
        normalise = self.normalizers[key].op(key, f"{key}.normal")
        if len(self.observations[key].shape) == 1:
            return [normalise]
        return [normalise, Op("flatten", (f"{key}.normal",), f"{key}.flat")]

    def forward(self, observations: Mapping[str, Tensor]) -> PolicyOutput:
        """Output for a batch; `features` holds each hidden layer by name ("hidden.0", ...), the last one last."""
        return self.read(observations)

    def read(self, observations: Mapping[str, Tensor], starts: Tensor | None = None) -> PolicyOutput:
        """As `forward`; windows `[L, B, *O]` with their `starts` are read flat."""
        flat = observations if starts is None else {key: x.flatten(0, 1) for key, x in observations.items()}
        x = torch.cat([self.encode(key, flat[key]) for key in self.observations], dim=-1)
        features: dict[str, Tensor] = {}
        *hidden, last = self.layers
        for layer in hidden:
            x = self.run_layer(layer, x, starts)
            if isinstance(layer, nn.Dropout):
                features[f"hidden.{len(features)}"] = x
        acting = last(x)
        params = torch.cat([acting, self.log_std.expand(len(x), -1)], dim=-1) if len(self.log_std) else acting
        return PolicyOutput(params, self.critic(x)[:, 0], features)

    def run_layer(self, layer: nn.Module, x: Tensor, starts: Tensor | None) -> Tensor:
        """One layer on features `[S, F]`, which are windows `[L * B, F]` where `starts` is given."""
        output: Tensor = layer(x)
        return output

    def ops(self) -> list[Op]:
        """Encode each key, join them, then the layers."""
        ops, outputs = [], []
        for key in self.observations:
            ops += self.encoder_ops(key)
            outputs.append(ops[-1].output)
        if len(outputs) > 1:
            ops.append(Op("concatenate", tuple(outputs), "joined"))
        for layer in self.layers:
            ops += self.layer_ops(layer, ops[-1].output, len(ops))
        mean = "mean" if len(self.log_std) else PARAMS
        ops[-1] = Op(ops[-1].kind, ops[-1].inputs, mean, ops[-1].attributes, ops[-1].tensors)
        if len(self.log_std):
            ops.append(Op("append", (mean,), PARAMS, {}, {"value": as_array(self.log_std)}))
        return ops

    def layer_ops(self, layer: nn.Module, source: str, position: int) -> list[Op]:
        """One layer as operations (none for dropout)."""
        if isinstance(layer, nn.Linear):
            bias = np.zeros(layer.out_features, np.float32) if layer.bias is None else as_array(layer.bias)
            return [Op("linear", (source,), f"linear.{position}", {}, {"weight": as_array(layer.weight), "bias": bias})]
        if isinstance(layer, nn.Dropout):
            return []
        return [Op("activation", (source,), f"hidden.{position}", {"function": self.activation})]


def as_array(tensor: Tensor) -> Array:
    """A copy of a tensor as float32."""
    return tensor.detach().cpu().numpy().astype(np.float32)
