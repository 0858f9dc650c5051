"""Any policy without memory as a student: a pruned teacher is fitted as every student is."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from kd_agent.errors import KDError, unknown
from kd_agent.networks.base import PolicyOutput, Student
from kd_agent.networks.distributions import ActionHead
from kd_agent.policies import Array, Op, PolicyGraph, int8, packed
from kd_agent.policies.packed import Packed
from kd_agent.policies.torch_policy import TorchOp, TorchPolicy

Grid = Callable[[Array], tuple[Array, Array]]
"""From a weight `[m, n]` to whole numbers `[m, n]` and scales `[m]`, whose product is near it."""


def _packed(nearest: Callable[[Array], Packed]) -> Grid:
    def _grid(weight: Array) -> tuple[Array, Array]:
        packed = nearest(weight)
        return packed.whole, packed.scale

    return _grid


GRIDS: dict[str, Grid] = {"int8": int8.quantise} | {name: _packed(nearest) for name, nearest in packed.GRIDS.items()}
"""What a fit may keep the weights of linear layers on."""


class _Rounded(torch.autograd.Function):
    """Weights on a grid; the gradient passes straight through (Bengio et al. 2013), plus a pull.

    Weights whose best value lies between two steps would hop to and fro until the end. So each is drawn to
    its nearest step, by its distance in steps times the row's mean gradient (after Nagel et al. 2022,
    Overcoming Oscillations in Quantization-Aware Training).
    """

    @staticmethod
    def forward(ctx: Any, weight: Tensor, grid: Grid) -> Tensor:
        """The weight as the grid has it.

        Args:
            ctx: Torch's, to remember what `backward` needs.
            weight: `[m, n]`.
            grid: The grid.
        """
        # By NumPy, so that the fit sees the very numbers that are stored.
        whole, scale = map(torch.from_numpy, grid(weight.detach().cpu().numpy()))
        step = scale[:, None].to(weight)
        rounded = whole.to(weight) * step
        ctx.save_for_backward((weight - rounded) / step)
        return rounded

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        """Gradient `[m, n]` of the weight."""
        [gradient] = gradients
        [distance] = ctx.saved_tensors
        pull = distance * gradient.abs().mean(dim=1, keepdim=True)
        return gradient + pull, None


class OnGrid(nn.Module):
    """A weight as a grid says it, to be fitted there.

    Args:
        name: A key of `GRIDS`.
    """

    def __init__(self, name: str) -> None:
        super().__init__()
        self.grid = GRIDS[name]

    def forward(self, weight: Tensor) -> Tensor:
        """`weight [m, n]` moved to the grid."""
        rounded: Tensor = _Rounded.apply(weight, self.grid)  # type: ignore[no-untyped-call]
        return rounded


class GraphStudent(Student):
    """A student that is the network of a graph.

    Args:
        graph: The policy to start from.
        grid: Fit the weights of linear layers on this of `GRIDS` (quantisation-aware); None: on none.

    Raises:
        KDError: The policy has a memory, or there is no such grid.
    """

    def __init__(self, graph: PolicyGraph, *, grid: str | None = None) -> None:
        super().__init__()
        if graph.states:
            raise KDError("a policy with a memory cannot be fitted as a graph")
        self.head = ActionHead(graph.head)
        self.observations = graph.observations
        self.network = TorchPolicy(graph)
        if grid is not None:
            self._round_linear_layers(grid)

    def forward(self, observations: Mapping[str, Tensor]) -> PolicyOutput:
        """Differentiable output for a batch `[B, *O]` by key."""
        return PolicyOutput(self.network(observations))

    def ops(self) -> list[Op]:
        """The operations with the present weights."""
        return list(self.network.program().ops)

    def _round_linear_layers(self, grid: str) -> None:
        if grid not in GRIDS:
            raise unknown("grid of weights", grid, GRIDS)
        for step in self.network.ops:
            if isinstance(step, TorchOp) and step.op.kind == "linear":
                # The optimiser sees the weight of full precision; whoever reads `t_weight` sees the rounded one.
                parametrize.register_parametrization(step, "t_weight", OnGrid(grid))
