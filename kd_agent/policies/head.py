"""How a flat row of numbers becomes an action: the last step of every policy, in NumPy.

Letters: `B` batch, `P` parameters of the action distribution, `M` flags of an action mask, `*A` shape of an action.
The training side of the same heads (densities, softening) is `kd_agent.networks.distributions`.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kd_agent.errors import KDError, unknown

Array = NDArray[Any]

KINDS = ("categorical", "multi_categorical", "bernoulli", "diag_gaussian", "squashed_gaussian")
MASKED = -1e8
"""The logit of an action that a mask forbids, as sb3_contrib has it: nothing beside any other, and yet finite."""


@dataclass(frozen=True)
class HeadSpec:
    """Layout of the row `params [B, P]` and the action space it stands for.

    Attributes:
        kind: One of `KINDS`. Categorical: `n` logits. Multi-categorical: the logits of all parts, one
            after the other. Bernoulli: a logit a bit. Both Gaussians: means, then log standard
            deviations (of the action before tanh where squashed).
        shape: Shape `*A` of one action.
        dtype: NumPy dtype of an action.
        nvec: Number of categories of each part (discrete kinds).
        start: Smallest action of each part (discrete kinds).
        low, high: Bounds of the Box, flat, in the environment's units (Gaussian kinds).
        expects_masks: Whether the row is only meant to be read through an action mask (discrete kinds).
    """

    kind: str
    shape: tuple[int, ...]
    dtype: str
    nvec: tuple[int, ...] = ()
    start: tuple[int, ...] = ()
    low: tuple[float, ...] = ()
    high: tuple[float, ...] = ()
    expects_masks: bool = False

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise unknown("action head", self.kind, KINDS)
        if np.dtype(self.dtype).kind not in "fiub":
            raise KDError(f"actions of type {self.dtype} are not numbers")
        size = int(np.prod(self.shape, dtype=np.int64))
        # A damaged file may name more parts than its shape holds, or bounds on one side alone.
        parts = len(self.low if self.is_gaussian else self.nvec)
        if parts != size or len(self.low) != len(self.high) or size < 1:
            raise KDError(f"action head {self.kind!r} has {parts} parts for actions of shape {self.shape}")
        if self.expects_masks and self.is_gaussian:
            raise KDError(f"action head {self.kind!r} cannot have masks: its actions cannot be listed")

    @property
    def is_gaussian(self) -> bool:
        """Whether actions are continuous."""
        return self.kind.endswith("gaussian")

    @property
    def num_params(self) -> int:
        """`P`, the length of the row."""
        if self.is_gaussian:
            return 2 * len(self.low)
        return self.num_acting

    @property
    def num_acting(self) -> int:
        """How many leading columns decide the greedy action (the log standard deviations do not)."""
        if self.is_gaussian:
            return len(self.low)
        if self.kind == "bernoulli":
            return len(self.nvec)
        return sum(self.nvec)

    @property
    def num_masks(self) -> int:
        """`M`, flags of a mask: one a category; of a bit one for 0 and one for 1 (sb3_contrib's layout)."""
        return sum(self.nvec)

    def allowed(self, action_masks: Any, batch: int) -> Array:
        """Action masks as flags `[B, M]`.

        Args:
            action_masks: Array-likes of `B * M` flags, in any shape; what is not 0 is allowed.
            batch: `B`.

        Raises:
            KDError: They are no flags, not as many, or the actions cannot be listed.
        """
        if self.is_gaussian:
            raise KDError(f"action masks are for actions that can be listed, and a {self.kind} head has none")
        try:
            flags = np.asarray(action_masks)
        except ValueError:
            flags = np.empty(0)
        if flags.dtype.kind not in "fiub" or flags.size != batch * self.num_masks:
            raise KDError(f"action_masks has shape {flags.shape}, expected ({batch}, {self.num_masks}) flags")
        return flags.astype(bool).reshape(batch, self.num_masks)

    def masked(self, params: Array, action_masks: Any) -> Array:
        """The rows of the distribution over what is allowed.

        Args:
            params: `[B, P]`.
            action_masks: As for `allowed`.

        Raises:
            KDError: As by `allowed`.
        """
        rows = self.where_allowed(params, self.allowed(action_masks, len(params)))
        return np.asarray(rows, params.dtype)

    def open_columns(self, allowed: Any) -> Any:
        """Which columns `[B, P]` a mask leaves as they are: of a bit, those that may be 0 and 1.

        Args:
            allowed: Flags `[B, M]`, of NumPy or of torch.
        """
        if self.kind == "bernoulli":
            return allowed[..., 0::2] & allowed[..., 1::2]
        return allowed

    def where_allowed(self, params: Any, allowed: Any, where: Callable[..., Any] = np.where) -> Any:
        """The mask's whole arithmetic, for NumPy and torch; the exports print the same.

        Where nothing is allowed, all is alike, as in sb3_contrib: the choice falls on the first action, the bit 0.

        Args:
            params: `[B, P]`.
            allowed: Flags `[B, M]`.
            where: The library's.
        """
        forced: Any = MASKED
        if self.kind == "bernoulli":
            no, yes = allowed[..., 0::2], allowed[..., 1::2]
            # A bit's logit is that of 1 less that of 0, and so what forbids 0 lifts it.
            forced = where(no, MASKED, where(yes, -MASKED, 0.0))
        return where(self.open_columns(allowed), params, forced)

    def greedy(self, params: Array) -> Array:
        """The distribution's mode, in the environment's units.

        Args:
            params: `[B, P]` (the acting columns alone suffice).

        Returns:
            Actions `[B, *A]` of `dtype`. Ties go to the first category; a diagonal Gaussian is clipped
            to the Box.
        """
        if self.kind == "categorical":
            flat = params.argmax(axis=-1)[:, None] + self.start
        elif self.kind == "multi_categorical":
            categories = [part.argmax(axis=-1) for part in self.split(params)]
            flat = np.stack(categories, axis=-1) + self.start
        elif self.kind == "bernoulli":
            flat = np.asarray(params > 0)
        else:
            flat = self.to_box(params[:, : len(self.low)])
        return np.asarray(flat, self.dtype).reshape(len(params), *self.shape)

    def sample(self, params: Array, rng: "np.random.Generator") -> Array:
        """Actions drawn from the distribution.

        Args:
            params: `[B, P]`.
            rng: Where chance comes from.

        Returns:
            Actions `[B, *A]` of `dtype`, in the environment's units.
        """
        if self.is_gaussian:
            mean, log_std = np.split(params, 2, axis=-1)
            noisy = mean + np.exp(log_std) * rng.standard_normal(mean.shape)
            return self.to_box(noisy).astype(self.dtype).reshape(len(params), *self.shape)
        # A logit with logistic noise is positive as often as its sigmoid says; the largest of logits with Gumbel
        # noise is distributed as their softmax (Gumbel 1954). So a greedy choice of noisy logits is a sample.
        if self.kind == "bernoulli":
            return self.greedy(params + rng.logistic(size=params.shape))
        return self.greedy(params + rng.gumbel(size=params.shape))

    def probabilities(self, params: Array) -> Array:
        """Probabilities laid out as `params [B, P]`: of each category, or of each bit being 1.

        Raises:
            KDError: The action space is continuous.
        """
        if self.is_gaussian:
            raise KDError(f"a {self.kind} head has a density, not probabilities; use params()")
        if self.kind == "bernoulli":
            # A bit that a mask forbids overflows to infinity, and has the probability 0 that it should have.
            with np.errstate(over="ignore"):
                return np.asarray(1 / (1 + np.exp(-params)))
        return np.concatenate(list(map(_softmax, self.split(params))), axis=-1)

    def split(self, params: Array) -> list[Array]:
        """The logits `[B, n]` of each part of a (multi-)categorical row."""
        return np.split(params, np.cumsum(self.nvec)[:-1], axis=-1)

    def to_box(self, latent: Array) -> Array:
        """Gaussian values `[B, A]` in the environment's units: tanh and affine map, or clipped."""
        low, high = np.asarray(self.low, np.float32), np.asarray(self.high, np.float32)
        if self.kind == "squashed_gaussian":
            return np.asarray(low + (np.tanh(latent) + 1) * (0.5 * (high - low)))
        return np.clip(latent, low, high)

    def to_json(self) -> dict[str, Any]:
        """Plain data; an unbounded side is null."""
        plain = asdict(self)
        # Said only where it is so: other files are the same bytes as ever.
        if not self.expects_masks:
            del plain["expects_masks"]
        # JSON has no infinity.
        plain["low"] = list(map(_finite_or_none, self.low))
        plain["high"] = list(map(_finite_or_none, self.high))
        return plain

    @staticmethod
    def from_json(plain: Mapping[str, Any]) -> "HeadSpec":
        """Inverse of `to_json`; raises KDError on anything else."""
        try:
            return HeadSpec(
                kind=str(plain["kind"]),
                shape=tuple(map(int, plain["shape"])),
                dtype=np.dtype(str(plain["dtype"])).name,
                nvec=tuple(map(int, plain["nvec"])),
                start=tuple(map(int, plain["start"])),
                low=_bounds(plain["low"], -np.inf),
                high=_bounds(plain["high"], np.inf),
                expects_masks=bool(plain.get("expects_masks", False)),
            )
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise KDError(f"the action head's description is damaged: {error}") from None


def _finite_or_none(bound: float) -> float | None:
    return float(bound) if np.isfinite(bound) else None


def _bounds(plain: Iterable[float | None], unbounded: float) -> tuple[float, ...]:
    """Inverse of `_finite_or_none` for the bounds of one side."""
    return tuple(unbounded if bound is None else float(bound) for bound in plain)


def _softmax(logits: Array) -> Array:
    # The largest logit becomes 0, so that exp cannot overflow.
    exp = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return np.asarray(exp / exp.sum(axis=-1, keepdims=True))
