"""CNN student: a small convolutional encoder for each image, the other observations beside it."""

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn

from kd_agent.environments import is_image
from kd_agent.policies import Normalizer, Op
from kd_agent.students._trunk import Trunk, as_array

_LAYERS = ((16, 8, 4), (32, 4, 2))
"""Channels, window and stride of each convolution (Mnih et al. 2013)."""


class CNN(Trunk):
    """An MLP whose images go through convolutions with ReLU first.

    An image is a `uint8` observation of three axes. The axis of the fewest entries is taken for the
    channels. Each pixel's mean is taken away, and one scale for all of them brings their variance to 1 on
    average, or below where greys would be clipped: where little moves, that fits in half the steps that numbers in
    [0, 1] need. A picture too small for all the convolutions goes through the first ones alone.
    """

    def make_encoder(self, key: str) -> int:
        """Convolutions for an image."""
        if not self._is_image(key):
            return super().make_encoder(key)
        self.normalizers[key] = _evened(self.normalizers[key])
        # The buffer was made before, of each pixel's own variance.
        self.get_buffer(f"scale_{key}").copy_(torch.from_numpy(self.normalizers[key].scale))
        shape = self.observations[key].shape
        channels, height, width = (shape[axis] for axis in self._axes(key))
        layers: list[nn.Module] = []
        for out, window, stride in _LAYERS:
            if min(height, width) < window:
                break
            height = (height - window) // stride + 1
            width = (width - window) // stride + 1
            layers += [nn.Conv2d(channels, out, window, stride), nn.ReLU()]
            channels = out
        self.add_module(f"image_{key}", nn.Sequential(*layers, nn.Flatten()))
        return channels * height * width

    def encode(self, key: str, x: Tensor) -> Tensor:
        """Features `[B, F]` of images.

        Args:
            key: Which observation.
            x: `[B, height, width, C]` or `[B, C, height, width]`.
        """
        if not self._is_image(key):
            return super().encode(key, x)
        normal = super().encode(key, x).unflatten(1, self.observations[key].shape)
        channels, rows, columns = self._axes(key)
        turned = normal.permute(0, channels + 1, rows + 1, columns + 1)
        features: Tensor = self.get_submodule(f"image_{key}")(turned)
        return features

    def encoder_ops(self, key: str) -> list[Op]:
        """Normalised, channels first, convolutions."""
        if not self._is_image(key):
            return super().encoder_ops(key)
        normalise = self.normalizers[key].op(key, f"{key}.normal")
        turn = Op("transpose", (normalise.output,), f"{key}.turned", {"axes": list(self._axes(key))})
        ops = [normalise, turn]
        convolutions = [layer for layer in self.get_submodule(f"image_{key}").modules() if isinstance(layer, nn.Conv2d)]
        for index, layer in enumerate(convolutions):
            tensors = {"weight": as_array(layer.weight), "bias": as_array(layer.bias)}  # type: ignore[arg-type]
            stride = {"stride": layer.stride[0]}
            ops.append(Op("conv2d", (ops[-1].output,), f"{key}.conv.{index}", stride, tensors))
            ops.append(Op("activation", (ops[-1].output,), f"{key}.image.{index}", {"function": "relu"}))
        return [*ops, Op("flatten", (ops[-1].output,), f"{key}.flat")]

    def _is_image(self, key: str) -> bool:
        return is_image(self.observations[key])

    def _axes(self, key: str) -> tuple[int, int, int]:
        """Which axes of an image are channels, rows and columns."""
        shape = self.observations[key].shape
        # Nobody says where the channels are; pictures have more pixels along each side than channels.
        return (0, 1, 2) if shape[0] == min(shape) else (2, 0, 1)


def _evened(known: Normalizer) -> Normalizer:
    """The mean of each pixel, and one variance for all of them, so large that no grey value is clipped."""
    # Two greys are 255 apart at most, which is `clip` standard deviations of this variance.
    unclipped = (255 / known.clip) ** 2
    var = max(float(np.mean(known.var)), unclipped)
    return replace(known, var=np.full(np.shape(known.mean), var))


build = CNN
