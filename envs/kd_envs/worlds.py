"""LunarLander in another world each episode: where a teacher learns to cope with a range of them."""

from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kd_envs.drift import DriftingLander, World


class ManyWorldsLander(DriftingLander):
    """LunarLander whose every episode has a world of its own, drawn between an old one and a new one.

    Each attribute of `World` is drawn uniformly and independently of the others (domain randomisation, Tobin
    et al. 2017); the episode's seed decides. The arguments are those of `DriftingLander`, without its clock.
    """

    def __init__(
        self,
        *,
        old: dict[str, float] | None = None,
        new: dict[str, float] | None = None,
        render_mode: str | None = None,
    ) -> None:
        self._rng = np.random.default_rng(0)
        super().__init__(old=old, new=new, render_mode=render_mode)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.float32], dict[str, Any]]:
        """Begin an episode in the world that its seed stands for."""
        if seed is not None:
            self._rng = np.random.default_rng([seed, 1])
        return super().reset(seed=seed, options=options)

    def _world_at(self, share: float) -> World:
        old, new = asdict(self.old), asdict(self.new)
        shares = dict(zip(old, self._rng.random(len(old)), strict=True))
        return World(**{name: old[name] + shares[name] * (new[name] - old[name]) for name in old})
