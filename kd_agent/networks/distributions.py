"""ActionHead: an action distribution is one flat row of numbers, `params [B, P]`.

Teacher labels, rollouts, losses and files all speak this row. The layout itself, and what a
deployed policy needs of it, is `kd_agent.policies.head.HeadSpec`; here are the densities for training.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

import gymnasium as gym
import numpy as np
import torch
from torch import Tensor
from torch import distributions as td

from kd_agent.errors import KDError
from kd_agent.policies import HeadSpec
from kd_agent.policies.torch_head import masked

LOG_STD_MIN, LOG_STD_MAX = -20.0, 2.0
"""Bounds of log standard deviations in Stable-Baselines3's SAC; a zero std has no KL."""
_LARGEST_LOG_STD = 10.0
"""Bound of everybody's: gSDE's standard deviations pass SAC's, they grow with the root of the layer's width."""

_ONE = torch.Size()


class MultiCategorical(td.Distribution):
    """Independent categorical parts, their logits side by side in one row `[B, sum(nvec)]`."""

    arg_constraints: ClassVar[dict[str, Any]] = {}

    def __init__(self, logits: Tensor, nvec: tuple[int, ...]) -> None:
        # Nothing here validates its arguments: it would cost time at every batch, and the learner, whose message
        # can say what to do, looks for NaN itself.
        self.parts = [td.Categorical(logits=part, validate_args=False) for part in logits.split(list(nvec), dim=-1)]
        super().__init__(logits.shape[:-1], torch.Size([len(nvec)]), validate_args=False)

    def log_prob(self, value: Tensor) -> Tensor:
        """Log-probability `[B]` of `value [B, parts]`."""
        return torch.stack([p.log_prob(v) for p, v in zip(self.parts, value.unbind(-1), strict=True)]).sum(0)

    def entropy(self) -> Tensor:
        """Entropy `[B]`, in nats."""
        return torch.stack([p.entropy() for p in self.parts]).sum(0)

    def sample(self, sample_shape: Any = _ONE) -> Tensor:
        """A sample `[*sample_shape, B, parts]`."""
        return torch.stack([p.sample(sample_shape) for p in self.parts], dim=-1)


@td.register_kl(MultiCategorical, MultiCategorical)  # type: ignore[untyped-decorator]
def _kl_multi_categorical(p: MultiCategorical, q: MultiCategorical) -> Tensor:
    return torch.stack([td.kl_divergence(a, b) for a, b in zip(p.parts, q.parts, strict=True)]).sum(0)


@dataclass(frozen=True)
class ActionHead:
    """The training side of a head.

    Attributes:
        spec: Layout and action space.
    """

    spec: HeadSpec

    @property
    def kind(self) -> str:
        """Name of the head, one of `kd_agent.policies.head.KINDS`."""
        return self.spec.kind

    @property
    def num_params(self) -> int:
        """`P`, the length of the row."""
        return self.spec.num_params

    def distribution(self, params: Tensor) -> td.Distribution:
        """The distribution of `params [B, P]`, with batch shape `[B]`.

        A diagonal Gaussian is over unclipped actions. A squashed Gaussian ends in tanh and the map to
        the Box; the KL of two of them is taken before the squash, where it is exact and finite.
        """
        if self.kind == "categorical":
            return td.Categorical(logits=params, validate_args=False)
        if self.kind == "multi_categorical":
            return MultiCategorical(params, self.spec.nvec)
        if self.kind == "bernoulli":
            return td.Independent(td.Bernoulli(logits=params, validate_args=False), 1)
        gaussian = self.gaussian(params)
        if self.kind == "diag_gaussian":
            return gaussian
        low = torch.tensor(self.spec.low, dtype=params.dtype)
        high = torch.tensor(self.spec.high, dtype=params.dtype)
        affine = td.AffineTransform((low + high) / 2, (high - low) / 2, event_dim=1)
        # With its cache, the density of a sample needs no inverse of tanh, which saturation makes infinite.
        return td.TransformedDistribution(gaussian, [td.TanhTransform(cache_size=1), affine])

    def gaussian(self, params: Tensor) -> td.Distribution:
        """The Gaussian of a continuous head, before any squash."""
        mean, log_std = self.mean_log_std(params)
        return td.Independent(td.Normal(mean, log_std.exp(), validate_args=False), 1, validate_args=False)

    def mean_log_std(self, params: Tensor) -> tuple[Tensor, Tensor]:
        """Means and bounded log standard deviations, each `[B, A]`."""
        mean, log_std = params.chunk(2, dim=-1)
        return mean, log_std.clamp(LOG_STD_MIN, _LARGEST_LOG_STD)

    def log_probabilities(self, params: Tensor) -> list[Tensor]:
        """Log-probabilities `[B, n]` of each part of a discrete row, finite however large the logits."""
        if self.kind == "bernoulli":
            # log p and log (1 - p) of each bit, which is a part of two actions.
            pairs = torch.stack([params, -params], dim=-1)
            return list(torch.nn.functional.logsigmoid(pairs).unbind(dim=-2))
        return [part.log_softmax(-1) for part in params.split(list(self.spec.nvec), dim=-1)]

    def kl(self, p: Tensor, q: Tensor) -> Tensor:
        """`KL(p || q)` `[B]` of two rows, in nats.

        Discrete heads: from log-probabilities, because torch's own is infinite where a probability
        underflows.

        Args:
            p: `[B, P]`, the distribution that the expectation is over.
            q: `[B, P]`, the other.
        """
        if self.spec.is_gaussian:
            return td.kl_divergence(self.distribution(p), self.distribution(q))
        divergences = []
        for log_p, log_q in zip(self.log_probabilities(p), self.log_probabilities(q), strict=True):
            divergences.append((log_p.exp() * (log_p - log_q)).sum(-1))
        return torch.stack(divergences).sum(0)

    def soften(self, params: Tensor, temperature: float) -> Tensor:
        """The row of the distribution `p^(1/T)`, normalised; the input is left as it is.

        Discrete heads: logits / T (Hinton et al. 2015). Gaussians: the same mean, variance times T.

        Args:
            params: `[B, P]`.
            temperature: `T`, above 0.
        """
        if not self.spec.is_gaussian:
            return params / temperature
        mean, log_std = params.chunk(2, dim=-1)
        # The density exp(-(x - mean)^2 / (2 var)) to the power of 1/T is a Gaussian of variance T var.
        return torch.cat([mean, log_std + 0.5 * float(np.log(temperature))], dim=-1)

    def mode(self, params: Tensor) -> Tensor:
        """Greedy actions `[B, *A]` in the environment's units."""
        return torch.from_numpy(self.spec.greedy(params.detach().cpu().numpy()))

    def masked(self, params: Tensor, mask: Tensor | None) -> Tensor:
        """The rows `[B, P]` of the distribution over what is allowed; without a mask the rows themselves.

        Args:
            params: `[B, P]`.
            mask: Flags `[B, M]`, as `HeadSpec.allowed` has them.
        """
        if mask is None:
            return params
        return masked(self.spec, params, mask)

    def uniform(self, batch: int) -> Tensor:
        """The row `[batch, P]` of the least informed policy, the yardstick for a KL.

        Discrete heads: equal logits. Gaussians: mean at the centre of the Box (0 where unbounded) and
        the standard deviation of a uniform variable over it (1 where unbounded).
        """
        if not self.spec.is_gaussian:
            return torch.zeros(batch, self.num_params)
        low = np.asarray(self.spec.low)
        high = np.asarray(self.spec.high)
        # A squashed Gaussian's row lives before tanh, where there are no bounds.
        bounded = np.isfinite(low) & np.isfinite(high) & (self.kind == "diag_gaussian")
        # A uniform variable over [a, b] has the variance (b - a)^2 / 12, so over these two it is 1.
        low = np.where(bounded, low, -np.sqrt(3))
        high = np.where(bounded, high, np.sqrt(3))
        mean = (low + high) / 2
        log_std = np.log((high - low) / np.sqrt(12))
        row = np.concatenate([mean, log_std])
        return torch.tensor(row, dtype=torch.float32).expand(batch, -1)


def head_for(space: gym.Space[Any], *, squashed: bool = False) -> ActionHead:
    """The head of an action space.

    Args:
        space: Discrete, MultiDiscrete, MultiBinary or Box.
        squashed: For a Box: a Gaussian through tanh (SAC's family) instead of a clipped one (PPO's).

    Raises:
        KDError: No head serves the space.
    """
    spaces = gym.spaces
    if isinstance(space, spaces.Discrete):
        return ActionHead(HeadSpec("categorical", (), "int64", nvec=(int(space.n),), start=(int(space.start),)))
    if isinstance(space, spaces.MultiDiscrete):
        nvec = tuple(map(int, np.ravel(space.nvec)))
        start = tuple(map(int, np.ravel(space.start)))
        return ActionHead(HeadSpec("multi_categorical", space.shape, space.dtype.name, nvec=nvec, start=start))
    if isinstance(space, spaces.MultiBinary):
        return ActionHead(HeadSpec("bernoulli", space.shape, "int8", nvec=(2,) * int(np.prod(space.shape))))
    if isinstance(space, spaces.Box):
        kind = "squashed_gaussian" if squashed else "diag_gaussian"
        low = tuple(map(float, np.ravel(space.low)))
        high = tuple(map(float, np.ravel(space.high)))
        if squashed and not np.isfinite([low, high]).all():
            raise KDError("a squashed Gaussian needs a bounded Box")
        if squashed and (np.ravel(space.high - space.low) < 0).any():
            raise KDError(
                f"{space} is wider than its own {space.dtype} can tell, and Stable-Baselines3 acts wrongly in it"
            )
        # Floats to a Box of whole numbers too, as Stable-Baselines3 passes them: clipped, and not rounded.
        dtype = np.result_type(np.float32, space.dtype)
        return ActionHead(HeadSpec(kind, space.shape, dtype.name, low=low, high=high))
    raise KDError(f"no action head for {space}; served are Discrete, MultiDiscrete, MultiBinary and Box")


@dataclass(frozen=True)
class Softening:
    """Temperature and convention of the distributions that a loss compares.

    Attributes:
        temperature: `T`; above 1 flattens, below 1 sharpens.
        convention: "hinton" softens both sides and scales the loss by T^2, so that its gradients keep
            their size (Hinton et al. 2015); "rusu" softens the teacher alone, without a factor, and the
            student becomes the softened policy (Rusu et al. 2015).
    """

    temperature: float = 1.0
    convention: str = "hinton"

    def apply(self, head: ActionHead, student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor, float]:
        """The softened rows `[B, P]` of student and teacher, and the loss's factor.

        Args:
            head: The action head of both rows.
            student: `[B, P]`.
            teacher: `[B, P]`.
        """
        t = self.temperature
        if self.convention == "rusu":
            return student, head.soften(teacher, t), 1.0
        if head.spec.is_gaussian:
            # Softening divides the mean term of a Gaussian's KL by T and leaves the others as they are; the
            # factor T on that term, which hinton asks for, therefore gives the unsoftened KL back.
            return student, teacher, 1.0
        return head.soften(student, t), head.soften(teacher, t), t * t
