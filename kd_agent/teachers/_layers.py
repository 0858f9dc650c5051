"""Building graph operations from the tensors of somebody else's network."""

import re
from collections.abc import Callable

import numpy as np

from kd_agent.errors import KDError
from kd_agent.policies import PARAMS, Array, Op, following
from kd_agent.teachers._activation import Function
from kd_agent.teachers._archive import Archive, NotUnderstoodError

DETERMINISTIC_LOG_STD = float(np.log(0.1))
"""The log standard deviation stated for teachers that have none (TD3, DDPG, ARS, plain functions).

0.1, before tanh where there is one, is the exploration noise of TD3 (Fujimoto et al. 2018).
"""


def _unchanged(tensor: Array) -> Array:
    return tensor


class Program:
    """Operations under construction, each reading what the last one wrote.

    Attributes:
        archive: Whose tensors they use.
        ops: The operations so far.
        last: The register that the last one wrote.
        used: Names of the tensors used so far, shared with every branch.
        states: States of a recurrent network, `{name: (size,)}`.
    """

    def __init__(self, archive: Archive, register: str, used: set[str] | None = None) -> None:
        self.archive = archive
        self.source = archive.source
        self.ops: list[Op] = []
        self.last = register
        self.used: set[str] = set() if used is None else used
        self.states: dict[str, tuple[int, ...]] = {}

    def branch(self, register: str) -> "Program":
        """A program that goes on from `register` with the same tensors."""
        return Program(self.archive, register, self.used)

    def add(self, op: Op) -> None:
        """Append an operation."""
        self.ops.append(op)
        self.last = op.output

    def linear(self, prefix: str, output: str, change: Callable[[Array], Array] = _unchanged) -> None:
        """`x W^T + b` with the tensors `<prefix>.weight [out, in]` and `<prefix>.bias [out]` (or none).

        Args:
            prefix: Name of the layer.
            output: Register to write.
            change: What becomes of weight and bias first (along `out`).
        """
        weight = self.tensor(f"{prefix}.weight", 2)
        bias = np.zeros(len(weight), np.float32)
        if self.has(f"{prefix}.bias"):
            bias = self.tensor(f"{prefix}.bias", 1)
        if bias.shape != weight.shape[:1]:
            raise KDError(f"{self.source}: {prefix}.bias does not fit its weight")
        self.add(Op("linear", (self.last,), output, {}, {"weight": change(weight), "bias": change(bias)}))

    def conv2d(self, prefix: str, output: str, stride: int) -> None:
        """A convolution without padding.

        Args:
            prefix: Name of the layer.
            output: Register to write.
            stride: In pixels, both ways.
        """
        tensors = {"weight": self.tensor(f"{prefix}.weight", 4), "bias": self.tensor(f"{prefix}.bias", 1)}
        self.add(Op("conv2d", (self.last,), output, {"stride": stride}, tensors))

    def batch_renorm(self, prefix: str) -> None:
        """sb3-contrib's BatchRenorm in eval mode: fixed statistics, so an affine map of each feature."""
        mean = self.tensor(f"{prefix}.ra_mean", 1).astype(np.float64)
        var = self.tensor(f"{prefix}.ra_var", 1).astype(np.float64)
        scale = self.tensor(f"{prefix}.scale", 1).astype(np.float64)
        bias = self.tensor(f"{prefix}.bias", 1).astype(np.float64)
        # It counts the steps of training until the statistics are trusted; in eval mode nobody reads it.
        self.used.add(f"{prefix}.steps")
        factor = scale / np.sqrt(var + self.archive.policy_number("batch_norm_eps", 1e-3))
        tensors = {"scale": factor.astype(np.float32), "shift": (bias - mean * factor).astype(np.float32)}
        self.add(Op("scale", (self.last,), prefix, {}, tensors))

    def lstm(self, prefix: str) -> None:
        """All layers of a torch LSTM; each has a memory `[B, 2H]` (hidden, cell)."""
        layer = 0
        while layer == 0 or self.has(f"{prefix}.weight_ih_l{layer}"):
            weight_input = self.tensor(f"{prefix}.weight_ih_l{layer}", 2)
            weight_hidden = self.tensor(f"{prefix}.weight_hh_l{layer}", 2)
            # Torch keeps two biases for cuDNN's sake; only their sum acts.
            bias = np.zeros(len(weight_input), np.float32)
            for name in (f"{prefix}.bias_ih_l{layer}", f"{prefix}.bias_hh_l{layer}"):
                if self.has(name):
                    bias = bias + self.tensor(name, 1)
            state = f"memory.{layer}"
            size = weight_hidden.shape[1]
            self.states[state] = (2 * size,)
            tensors = {"weight_input": weight_input, "weight_hidden": weight_hidden, "bias": bias}
            self.add(Op("lstm", (self.last, state), following(state), {}, tensors))
            # The next layer reads the hidden half alone, not the cell.
            self.add(Op("slice", (self.last,), f"{prefix}.{layer}", {"start": 0, "stop": size}))
            layer += 1

    def gru(self, prefix: str) -> None:
        """All layers of a torch GRU; each has a memory `[B, H]`."""
        layer = 0
        while layer == 0 or self.has(f"{prefix}.weight_ih_l{layer}"):
            weight_input = self.tensor(f"{prefix}.weight_ih_l{layer}", 2)
            tensors = {"weight_input": weight_input, "weight_hidden": self.tensor(f"{prefix}.weight_hh_l{layer}", 2)}
            for role, name in (("bias_input", "bias_ih"), ("bias_hidden", "bias_hh")):
                bias = f"{prefix}.{name}_l{layer}"
                tensors[role] = self.tensor(bias, 1) if self.has(bias) else np.zeros(len(weight_input), np.float32)
            state = f"memory.{layer}"
            self.states[state] = (tensors["weight_hidden"].shape[1],)
            self.add(Op("gru", (self.last, state), following(state), {}, tensors))
            layer += 1

    def memory(self, prefix: str) -> None:
        """An LSTM or a GRU, told apart by the rows of their gates: four times their units, or three times."""
        rows, units = self.tensor(f"{prefix}.weight_hh_l0", 2).shape
        if rows == 4 * units:
            self.lstm(prefix)
        else:
            self.gru(prefix)

    def activation(self, function: Function, output: str) -> None:
        """An activation function of the last register; the identity leaves that as it is.

        Args:
            function: Which.
            output: Register to write.
        """
        if function.name == "identity":
            return
        attributes: dict[str, str | float] = {"function": function.name}
        if function.slope is not None:
            attributes["slope"] = function.slope
        self.add(Op("activation", (self.last,), output, attributes))

    def clip(self, low: float, high: float, output: str) -> None:
        """Bound the last register.

        Args:
            low: The least that passes.
            high: The most that passes.
            output: Register to write.
        """
        self.add(Op("clip", (self.last,), output, {"low": low, "high": high}))

    def sequence(
        self, prefix: str, function: Function, output: str | None = None, change: Callable[[Array], Array] = _unchanged
    ) -> None:
        """`nn.Sequential` of linear layers (and batch renorms before them), an activation after each.

        Args:
            prefix: Name of the sequence.
            function: Its activation.
            output: Register of the last linear layer, which then has no activation.
            change: What becomes of that layer's weight and bias first.
        """
        indices = self.indices(prefix)
        for index in indices:
            name = f"{prefix}.{index}"
            if self.has(f"{name}.ra_mean"):
                self.batch_renorm(name)
            elif output is not None and index == indices[-1]:
                self.linear(name, output, change)
            else:
                self.linear(name, name)
                self.activation(function, f"{name}.active")

    def indices(self, prefix: str) -> list[int]:
        """Positions in the sequence `prefix` that have tensors, ascending."""
        pattern = re.compile(re.escape(prefix) + r"\.(\d+)\.\w+")
        found = set()
        for name in self.archive.tensors:
            match = pattern.fullmatch(name)
            if match:
                found.add(int(match.group(1)))
        return sorted(found)

    def append_log_std(self, value: Array | float, size: int) -> None:
        """Constant log standard deviations beside the means of the last register.

        Args:
            value: One for all, or one for each action part, `[A]`.
            size: `A`, number of action parts.
        """
        self.add(Op("append", (self.last,), PARAMS, {}, {"value": np.full(size, value, np.float32)}))

    def has(self, name: str) -> bool:
        """Whether there is such a tensor."""
        return name in self.archive.tensors

    def tensor(self, name: str, rank: int) -> Array:
        """A tensor, which counts as used from now on.

        Args:
            name: Its name in the state dict.
            rank: How many axes it must have.

        Raises:
            NotUnderstoodError: There is no such tensor, or it has another rank.
        """
        tensors = self.archive.tensors
        if name not in tensors or tensors[name].ndim != rank:
            raise NotUnderstoodError(f"{self.source}: it has no usable {name!r}")
        self.used.add(name)
        return tensors[name]


def is_true(value: object) -> bool:
    """Whether a readable value says True."""
    return str(value) == "True"


def gsde_log_std(program: Program, name: str, latent: str, size: int) -> None:
    """Log standard deviations of gSDE (Raffin et al. 2021), which depend on the latent.

    Args:
        program: Writes the register "log_std".
        name: The tensor, `[F, A]` or `[F, 1]`.
        latent: Register of the latent `[B, F]`.
        size: `A`, number of action parts.
    """
    log_std = program.tensor(name, 2).astype(np.float64)
    if is_true(program.archive.policy_kwarg("use_expln", False)):
        # SB3's expln grows linearly above 0, and 1e-6 is its own guard against a logarithm of 0.
        std = np.where(log_std > 0, np.log1p(np.maximum(log_std, 0) + 1e-6) + 1, np.exp(np.minimum(log_std, 0)))
    else:
        std = np.exp(log_std)
    variance = np.ascontiguousarray(np.broadcast_to(std**2, (len(std), size)), np.float32)
    program.add(Op("sde_log_std", (latent,), "log_std", {}, {"variance": variance}))


def gsde_latent(program: Program, prefix: str, features: str, latent: str, function: Function) -> str:
    """Register of gSDE's latent `[B, F]`: the policy's own, or (before SB3 1.8) that of a network of its own.

    Args:
        program: Gains that network's operations.
        prefix: What its tensors' names begin with, "" or "actor.".
        features: Register of the policy's features.
        latent: Register of the policy's last hidden layer.
        function: The network's activation.
    """
    name = f"{prefix}sde_features_extractor"
    # An empty network of its own is the identity, and has no tensors to be told by.
    if program.archive.policy_kwarg("sde_net_arch") == []:
        return features
    if not program.indices(name):
        return latent
    program.last = features
    program.sequence(name, function)
    return program.last
