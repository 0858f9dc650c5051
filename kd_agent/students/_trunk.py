"""What all students share: encode each observation, join them, hidden layers, the head's row."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn

from kd_agent.networks import ACTIVATION_LAYERS, ActionHead, PolicyOutput, Student
from kd_agent.policies import PARAMS, Array, Normalizer, ObservationSpec, Op


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
        bias: Whether the linear layers have one.
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
        self.head = head
        self.observations = dict(observations)
        self.normalizers = dict(normalizers)
        self.activation = activation
        self.has_bias = bias
        for key, normalizer in self.normalizers.items():
            # Not among the weights: they are frozen, and a checkpoint is read into a student that has them already.
            self.register_buffer(f"mean_{key}", torch.tensor(normalizer.mean, dtype=torch.float32), persistent=False)
            self.register_buffer(f"scale_{key}", torch.tensor(normalizer.scale), persistent=False)
        # The seed decides these weights alone: torch's generator goes on afterwards as if nothing had been drawn.
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            inputs = sum(map(self.make_encoder, self.observations))
            sizes = [inputs, *hidden]
            layers: list[nn.Module] = []
            for index, (fan_in, fan_out) in enumerate(itertools.pairwise(sizes), 1):
                layers += self.make_layer(fan_in, fan_out, last=index == len(hidden))
                # Also where its share is 0: `read` takes what follows a hidden layer for the layer's end.
                layers.append(nn.Dropout(dropout))
            self.layers = nn.Sequential(*layers, nn.Linear(sizes[-1], head.spec.num_acting, bias=bias))
            self.critic = nn.Linear(sizes[-1], 1)
        self.log_std = nn.Parameter(torch.zeros(head.num_params - head.spec.num_acting))

    def make_encoder(self, key: str) -> int:
        """Make what encodes an observation; the number of features it gives."""
        return self.observations[key].features

    def make_layer(self, fan_in: int, fan_out: int, *, last: bool) -> list[nn.Module]:
        """A hidden layer: linear and activation.

        Args:
            fan_in: Features that it reads.
            fan_out: Its units.
            last: Whether it is the last hidden layer.
        """
        return [nn.Linear(fan_in, fan_out, bias=self.has_bias), ACTIVATION_LAYERS[self.activation]()]

    def encode(self, key: str, x: Tensor) -> Tensor:
        """Features `[B, F]` of an observation: normalised and flat; one-hot where it is categories.

        Args:
            key: Which observation.
            x: `[B, *O]`.
        """
        categories = self.observations[key].categories
        if categories:
            parts = x.long().reshape(len(x), -1).unbind(-1)
            hot = list(map(nn.functional.one_hot, parts, categories))
            return torch.cat(hot, dim=-1).to(torch.float32)
        clip = self.normalizers[key].clip
        mean, scale = self.get_buffer(f"mean_{key}"), self.get_buffer(f"scale_{key}")
        normal = ((x.to(torch.float32) - mean) * scale).clamp(-clip, clip)
        # A Box of no axes is one number.
        return normal.flatten(1) if normal.ndim > 1 else normal[:, None]

    def encoder_ops(self, key: str) -> list[Op]:
        """The same as operations."""
        categories = self.observations[key].categories
        if categories:
            return [Op("one_hot", (key,), f"{key}.hot", {"sizes": list(categories)})]
        normalise = self.normalizers[key].op(key, f"{key}.normal")
        if len(self.observations[key].shape) == 1:
            return [normalise]
        return [normalise, Op("flatten", (f"{key}.normal",), f"{key}.flat")]

    def forward(self, observations: Mapping[str, Tensor]) -> PolicyOutput:
        """Output for a batch; `features` holds each hidden layer by name ("hidden.0", ...), the last one last."""
        return self.read(observations)

    def read(self, observations: Mapping[str, Tensor], starts: Tensor | None = None) -> PolicyOutput:
        """As `forward`; windows are read flat.

        Args:
            observations: States `[S, *O]` by key, or windows `[L, B, *O]`.
            starts: `[L, B]`, where an episode begins in the windows; None: `observations` are states.
        """
        flat = observations
        if starts is not None:
            flat = {key: x.flatten(0, 1) for key, x in observations.items()}
        encoded = [self.encode(key, flat[key]) for key in self.observations]
        x = torch.cat(encoded, dim=-1)
        features: dict[str, Tensor] = {}
        *hidden, last = self.layers
        for layer in hidden:
            x = self.run_layer(layer, x, starts)
            if isinstance(layer, nn.Dropout):
                features[f"hidden.{len(features)}"] = x
        params = last(x)
        if len(self.log_std):
            params = torch.cat([params, self.log_std.expand(len(x), -1)], dim=-1)
        return PolicyOutput(params, self.critic(x)[:, 0], features)

    def run_layer(self, layer: nn.Module, x: Tensor, starts: Tensor | None) -> Tensor:
        """One layer's output.

        Args:
            layer: One of `layers`.
            x: Features `[S, F]`; windows `[L * B, F]` where `starts` is given.
            starts: `[L, B]`, where an episode begins in the windows.
        """
        output: Tensor = layer(x)
        return output

    def ops(self) -> list[Op]:
        """Encode each key, join them, then the layers."""
        ops: list[Op] = []
        outputs: list[str] = []
        for key in self.observations:
            ops += self.encoder_ops(key)
            outputs.append(ops[-1].output)
        if len(outputs) > 1:
            ops.append(Op("concatenate", tuple(outputs), "joined"))
        for layer in self.layers:
            ops += self.layer_ops(layer, ops[-1].output, len(ops))
        if not len(self.log_std):
            ops[-1] = replace(ops[-1], output=PARAMS)
            return ops
        ops[-1] = replace(ops[-1], output="mean")
        return [*ops, Op("append", ("mean",), PARAMS, {}, {"value": as_array(self.log_std)})]

    def layer_ops(self, layer: nn.Module, source: str, position: int) -> list[Op]:
        """One layer as operations (none for dropout).

        Args:
            layer: One of `layers`.
            source: The register that it reads.
            position: A number for the registers that it writes, another one for each layer.
        """
        if isinstance(layer, nn.Linear):
            # The operation has a bias always; zeros where the layer has none, and they do not count as parameters.
            bias = np.zeros(layer.out_features, np.float32) if layer.bias is None else as_array(layer.bias)
            return [Op("linear", (source,), f"linear.{position}", {}, {"weight": as_array(layer.weight), "bias": bias})]
        if isinstance(layer, nn.Dropout):
            return []
        return [Op("activation", (source,), f"hidden.{position}", {"function": self.activation})]


def as_array(tensor: Tensor) -> Array:
    """A copy of a tensor as float32."""
    return tensor.detach().cpu().numpy().astype(np.float32)
