"""CNN student: a small convolutional encoder for each image, the other observations beside it."""

import numpy as np
import torch
from torch import Tensor, nn

from kd_agent.graph import Op
from kd_agent.students._trunk import Trunk, as_array

_LAYERS = ((8, 8, 4), (16, 4, 2), (16, 3, 2))
"""Channels, window and stride of each convolution: NatureCNN's first two (Mnih et al. 2015), thinner."""


class CNN(Trunk):
    """An MLP whose images go through convolutions with ReLU first.

    An image is a `uint8` observation of three axes. The axis of the fewest entries is taken for the
    channels; numbers are brought to [0, 1]. A picture too small for all the convolutions goes through the first
    ones alone.
    """

    def make_encoder(self, key: str) -> int:
        """Convolutions for an image."""
        if not self._is_image(key):
            return super().make_encoder(key)
        channels, *size = (self.observations[key].shape[axis] for axis in self._axes(key))
        layers: list[nn.Module] = []
        for out, window, stride in _LAYERS:
            if min(size) < window:
                break
            size = [(pixels - window) // stride + 1 for pixels in size]
            layers += [nn.Conv2d(channels, out, window, stride), nn.ReLU()]
            channels = out
        self.add_module(f"image_{key}", nn.Sequential(*layers, nn.Flatten()))
        return int(channels * np.prod(size))

    def encode(self, key: str, x: Tensor) -> Tensor:
        """Features `[B, F]` of images `[B, height, width, C]` or `[B, C, height, width]`."""
        if not self._is_image(key):
            return super().encode(key, x)
        turned = x.permute(0, *(axis + 1 for axis in self._axes(key))).to(torch.float32) / 255
        features: Tensor = self.get_submodule(f"image_{key}")(turned)
        return features

    def encoder_ops(self, key: str) -> list[Op]:
        """Channels first, numbers in [0, 1], convolutions."""
        if not self._is_image(key):
            return super().encoder_ops(key)
        factor = {"scale": np.array([1 / 255], np.float32), "shift": np.zeros(1, np.float32)}
        turned = Op("transpose", (key,), f"{key}.turned", {"axes": list(self._axes(key))})
        ops = [turned, Op("scale", (turned.output,), f"{key}.unit", {}, factor)]
        convolutions = [m for m in self.get_submodule(f"image_{key}").modules() if isinstance(m, nn.Conv2d)]
        for index, layer in enumerate(convolutions):
            tensors = {"weight": as_array(layer.weight), "bias": as_array(layer.bias)}  # type: ignore[arg-type]
            stride = {"stride": layer.stride[0]}
            ops.append(Op("conv2d", (ops[-1].output,), f"{key}.conv.{index}", stride, tensors))
            ops.append(Op("activation", (ops[-1].output,), f"{key}.image.{index}", {"function": "relu"}))
        return [*ops, Op("flatten", (ops[-1].output,), f"{key}.flat")]

    def _is_image(self, key: str) -> bool:
        spec = self.observations[key]
        return spec.dtype == "uint8" and len(spec.shape) == 3

    def _axes(self, key: str) -> tuple[int, int, int]:
        shape = self.observations[key].shape
        return (0, 1, 2) if shape[0] == min(shape) else (2, 0, 1)


build = CNN
