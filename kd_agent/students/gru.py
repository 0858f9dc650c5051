"""GRU student: a memory for teachers that have one, and for students that see less than they need."""

import torch
from torch import Tensor, nn

from kd_agent.policies import Op, following
from kd_agent.students._trunk import Trunk, as_array

_MEMORY = "memory"


class GRU(Trunk):
    """An MLP whose last hidden layer is a gated recurrent unit (Cho et al. 2014).

    `hidden` needs one layer at least; its last number is the memory's size.
    """

    def make_layer(self, fan_in: int, fan_out: int, *, last: bool) -> list[nn.Module]:
        """The memory as the last hidden layer.

        Args:
            fan_in: Features that it reads.
            fan_out: Its units.
            last: Whether it is the last hidden layer.
        """
        if last:
            return [nn.GRUCell(fan_in, fan_out)]
        return super().make_layer(fan_in, fan_out, last=last)

    def states(self) -> dict[str, tuple[int, ...]]:
        """Its memory `[H]`."""
        for layer in self.layers:
            if isinstance(layer, nn.GRUCell):
                return {_MEMORY: (layer.hidden_size,)}
        return {}

    def run_layer(self, layer: nn.Module, x: Tensor, starts: Tensor | None) -> Tensor:
        """The memory steps through a window; without `starts` it is empty before each state.

        Args:
            layer: One of `layers`.
            x: Features `[S, F]`; windows `[L * B, F]` where `starts` is given.
            starts: `[L, B]`, where the memory begins anew.
        """
        if not isinstance(layer, nn.GRUCell) or starts is None:
            return super().run_layer(layer, x, starts)
        memory = x.new_zeros(starts.shape[1], layer.hidden_size)
        memories = []
        for now, start in zip(x.unflatten(0, starts.shape), starts, strict=True):
            # Times 0 where an episode begins: the gradient does not flow into the one before.
            memory = layer(now, memory * ~start[:, None])
            memories.append(memory)
        return torch.cat(memories)

    def layer_ops(self, layer: nn.Module, source: str, position: int) -> list[Op]:
        """The memory as one operation.

        Args:
            layer: One of `layers`.
            source: The register that it reads.
            position: A number for the registers of the other layers.
        """
        if not isinstance(layer, nn.GRUCell):
            return super().layer_ops(layer, source, position)
        tensors = {
            "weight_input": as_array(layer.weight_ih),
            "weight_hidden": as_array(layer.weight_hh),
            "bias_input": as_array(layer.bias_ih),
            "bias_hidden": as_array(layer.bias_hh),
        }
        return [Op("gru", (source, _MEMORY), following(_MEMORY), {}, tensors)]


build = GRU
