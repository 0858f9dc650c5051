"""A PolicyGraph as a torch module, to embed, to fine-tune and to export.

Letters: `B` batch, `P` head parameters, `M` flags of an action mask, `*A` shape of an action.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from kd_agent.policies.activations import SLOPED
from kd_agent.policies.graph import LEARNT, OBSERVATION, PARAMS, Op, PolicyGraph, following
from kd_agent.policies.ops import SPLIT_ROLES, tree_depth
from kd_agent.policies.torch_head import greedy, masked, noisy

_FUNCTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": torch.relu,
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    "silu": F.silu,
    "elu": F.elu,
    "leaky_relu": F.leaky_relu,
    "softplus": F.softplus,
    "gelu": F.gelu,
    "mish": F.mish,
    "selu": F.selu,
    "softsign": F.softsign,
    "relu6": F.relu6,
    "hardtanh": F.hardtanh,
}


class TorchOp(nn.Module):
    """One operation; its fitted tensors are Parameters, the others (and what makes a tree's shape) buffers."""

    def __init__(self, op: Op) -> None:
        super().__init__()
        self.op = op
        for role, array in op.tensors.items():
            shapes_a_tree = op.kind == "tree" and role in SPLIT_ROLES
            # Torch takes int64 alone as indices.
            dtype = np.int64 if shapes_a_tree and array.dtype == np.int32 else np.float32
            tensor = torch.tensor(np.asarray(array, dtype))
            # What is appended are log standard deviations: they do not act, but PPO goes on to learn them.
            learns = op.kind == "append" or (op.kind in LEARNT and not shapes_a_tree)
            # "t_": a role like "weight" alone could shadow something of nn.Module's.
            if learns:
                setattr(self, f"t_{role}", nn.Parameter(tensor))
            else:
                self.register_buffer(f"t_{role}", tensor)

    def forward(self, *inputs: Tensor) -> Tensor:
        """The register written, `[B, ...]`."""
        return OPERATIONS[self.op.kind](self, *inputs)

    def tensor(self, role: str) -> Tensor:
        """One of its tensors."""
        found: Tensor = getattr(self, f"t_{role}")
        return found

    def present(self) -> Op:
        """The operation with the present tensors, in the dtypes that it began with."""
        tensors = {}
        for role, first in self.op.tensors.items():
            tensors[role] = self.tensor(role).detach().cpu().numpy().astype(first.dtype)
        return replace(self.op, tensors=tensors)

    def number(self, name: str, default: int = 0) -> int:
        """A whole attribute.

        Args:
            name: Its name.
            default: What it is where the operation does not say.
        """
        return int(self.op.attributes.get(name, default))


class TorchPolicy(nn.Module):
    """A policy as an `nn.Module`.

    Attributes:
        graph: The program.
    """

    def __init__(self, graph: PolicyGraph) -> None:
        super().__init__()
        self.graph = graph
        self.ops = nn.ModuleList(TorchOp(op) for op in graph.ops)
        self.register_buffer("low", torch.tensor(graph.head.low, dtype=torch.float32), persistent=False)
        self.register_buffer("high", torch.tensor(graph.head.high, dtype=torch.float32), persistent=False)

    def forward(self, obs: Tensor | Mapping[str, Tensor], action_masks: Tensor | None = None) -> Tensor:
        """Head parameters `[B, P]` of a batch; of a first step, where there is a memory.

        Args:
            obs: Observations `[B, *O]`, or such by key.
            action_masks: `[B, M]`, what is allowed; None: everything.
        """
        return self.step(obs, action_masks=action_masks)[0]

    def step(
        self,
        obs: Tensor | Mapping[str, Tensor],
        state: tuple[Tensor, ...] | None = None,
        action_masks: Tensor | None = None,
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Head parameters `[B, P]` and the next state (empty without a memory).

        Args:
            obs: Observations `[B, *O]`, or such by key.
            state: What the last step returned; None: a first step.
            action_masks: `[B, M]`, what is allowed; None: everything.
        """
        observations = obs if isinstance(obs, Mapping) else {OBSERVATION: obs}
        names = sorted(self.graph.states)
        registers = {key: observations[key].to(torch.float32) for key in self.graph.observations}
        first = next(iter(registers.values()))
        if state is None:
            state = tuple(first.new_zeros((first.shape[0], *self.graph.states[name])) for name in names)
        registers |= dict(zip(names, state, strict=True))
        for op in self.ops:
            assert isinstance(op, TorchOp)
            registers[op.op.output] = op(*(registers[name] for name in op.op.inputs))
        params = registers[PARAMS]
        if action_masks is not None:
            params = masked(self.graph.head, params, action_masks)
        return params, tuple(registers[following(name)] for name in names)

    def program(self) -> PolicyGraph:
        """The graph with the present weights."""
        steps = [op for op in self.ops if isinstance(op, TorchOp)]
        return replace(self.graph, ops=tuple(step.present() for step in steps))

    def act(self, obs: Tensor | Mapping[str, Tensor], action_masks: Tensor | None = None) -> Tensor:
        """Actions `[B, *A]` in the environment's units, as `choose` has them.

        Args:
            obs: Observations `[B, *O]`, or such by key.
            action_masks: `[B, M]`, what is allowed; None: everything.
        """
        return self.choose(self(obs, action_masks))

    def choose(self, params: Tensor) -> Tensor:
        """Actions `[B, *A]` of `params [B, P]` as the policy is meant to be played: drawn or greedy."""
        return self.sample(params) if self.graph.sampled else self.greedy(params)

    def sample(self, params: Tensor) -> Tensor:
        """Actions `[B, *A]` drawn from `params [B, P]`, by torch's own generator."""
        return self.greedy(noisy(self.graph.head, params))

    def greedy(self, params: Tensor) -> Tensor:
        """Greedy actions `[B, *A]` of `params [B, P]`."""
        flat = greedy(self.graph.head, params, self.get_buffer("low"), self.get_buffer("high"))
        dtype = getattr(torch, self.graph.head.dtype)
        return flat.to(dtype).reshape(params.shape[0], *self.graph.head.shape)


class WithAction(nn.Module):
    """A policy that answers `(params [B, P], action [B, *A])`, to be exported."""

    def __init__(self, graph: PolicyGraph) -> None:
        super().__init__()
        self.policy = TorchPolicy(graph)

    def forward(self, obs: Tensor | Mapping[str, Tensor], action_masks: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Of a batch `[B, *O]`, or such by key.

        Args:
            obs: The observations.
            action_masks: `[B, M]`, what is allowed; None: everything.
        """
        params = self.policy(obs, action_masks)
        return params, self.policy.choose(params)


def _activation(op: TorchOp, x: Tensor) -> Tensor:
    name = op.op.attributes["function"]
    if name == SLOPED:
        return F.leaky_relu(x, float(op.op.attributes["slope"]))
    return _FUNCTIONS[name](x)


def _normalise(op: TorchOp, x: Tensor) -> Tensor:
    # By way of float32: the bound that the other runtimes compare with.
    clip = float(np.float32(op.op.attributes["clip"]))
    return ((x - op.tensor("mean")) * op.tensor("scale")).clamp(-clip, clip)


def _clip(op: TorchOp, x: Tensor) -> Tensor:
    low = float(np.float32(op.op.attributes["low"]))
    high = float(np.float32(op.op.attributes["high"]))
    return x.clamp(low, high)


def _linear(op: TorchOp, x: Tensor) -> Tensor:
    # Not F.linear's own bias, which takes fewer shapes than a sum that is broadcast as NumPy's is.
    return F.linear(x, op.tensor("weight")) + op.tensor("bias")


def _conv2d(op: TorchOp, x: Tensor) -> Tensor:
    return F.conv2d(x, op.tensor("weight"), op.tensor("bias"), op.number("stride"), op.number("padding"))


def _transpose(op: TorchOp, x: Tensor) -> Tensor:
    return x.permute(0, *(int(axis) + 1 for axis in op.op.attributes["axes"]))


def _slice(op: TorchOp, x: Tensor) -> Tensor:
    return x[..., op.number("start") : op.number("stop")]


def _append(op: TorchOp, x: Tensor) -> Tensor:
    return torch.cat([x, op.tensor("value").expand(x.shape[0], -1)], dim=-1)


def _one_hot(op: TorchOp, x: Tensor) -> Tensor:
    # Not F.one_hot, which refuses a number out of range: here it names no category.
    sizes = list(map(int, op.op.attributes["sizes"]))
    columns = x.reshape(-1, len(sizes)).split(1, dim=-1)
    parts = []
    for column, size in zip(columns, sizes, strict=True):
        parts.append(column == torch.arange(size, device=x.device))
    return torch.cat(parts, dim=-1).to(torch.float32)


def _sde_log_std(op: TorchOp, x: Tensor) -> Tensor:
    return 0.5 * torch.log((x * x) @ op.tensor("variance") + 1e-6)


def _lstm(op: TorchOp, x: Tensor, memory: Tensor) -> Tensor:
    hidden, cell = memory.chunk(2, dim=-1)
    gates = F.linear(x, op.tensor("weight_input"), op.tensor("bias")) + F.linear(hidden, op.tensor("weight_hidden"))
    into, keep, new, out = gates.chunk(4, dim=-1)
    cell = torch.sigmoid(keep) * cell + torch.sigmoid(into) * torch.tanh(new)
    return torch.cat([torch.sigmoid(out) * torch.tanh(cell), cell], dim=-1)


def _gru(op: TorchOp, x: Tensor, memory: Tensor) -> Tensor:
    from_x = F.linear(x, op.tensor("weight_input"), op.tensor("bias_input")).chunk(3, dim=-1)
    from_h = F.linear(memory, op.tensor("weight_hidden"), op.tensor("bias_hidden")).chunk(3, dim=-1)
    update = torch.sigmoid(from_x[1] + from_h[1])
    new = torch.tanh(from_x[2] + torch.sigmoid(from_x[0] + from_h[0]) * from_h[2])
    return (1 - update) * new + update * memory


def _tree(op: TorchOp, x: Tensor) -> Tensor:
    """The leaves' rows are Parameters; which leaf it is has no gradient."""
    feature, threshold, left, right = map(op.tensor, SPLIT_ROLES)
    splits = len(feature)
    node = torch.zeros(x.shape[0], dtype=torch.long, device=x.device)
    for _ in range(tree_depth(op.op)):
        # Who has arrived at a leaf waits there, and its comparison with the last split goes unused.
        split = node.clamp(max=splits - 1)
        below = x.gather(1, feature[split][:, None])[:, 0] <= threshold[split]
        node = torch.where(node < splits, torch.where(below, left[split], right[split]), node)
    return op.tensor("value")[node - splits]


OPERATIONS: dict[str, Callable[..., Tensor]] = {
    "flatten": lambda op, x: x.reshape(x.shape[0], -1),
    "transpose": _transpose,
    "concatenate": lambda op, *xs: torch.cat(xs, dim=-1),
    "slice": _slice,
    "append": _append,
    "one_hot": _one_hot,
    "normalise": _normalise,
    "scale": lambda op, x: x * op.tensor("scale") + op.tensor("shift"),
    "clip": _clip,
    "linear": _linear,
    "conv2d": _conv2d,
    "lstm": _lstm,
    "gru": _gru,
    "activation": _activation,
    "sde_log_std": _sde_log_std,
    "tree": _tree,
}
"""The kinds of operation that torch computes: all of `kd_agent.policies.ops.KERNELS`, differentiable."""
