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
        # Before LunarLander's construction, which enters a world.
        self._rng = np.random.default_rng(0)
        super().__init__(old=old, new=new, render_mode=render_mode)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.float32], dict[str, Any]]:
        """Begin an episode in the world that its seed stands for.

        Args:
            seed: Of the episode and of its world; None: the next world.
            options: LunarLander's.
        """
        if seed is not None:
            # Not LunarLander's own generator: drawing a world from it would change the ground of a seed.
            self._rng = np.random.default_rng([seed, 1])
        return super().reset(seed=seed, options=options)

    def _world_at(self, share: float) -> World:
        old, new = asdict(self.old), asdict(self.new)
        shares = self._rng.random(len(old))
        drawn = {}
        for name, own_share in zip(old, shares, strict=True):
            drawn[name] = old[name] + own_share * (new[name] - old[name])
        return World(**drawn)
