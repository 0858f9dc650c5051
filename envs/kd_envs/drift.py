"""LunarLander in a world that drifts: gravity, wind, turbulence and the power of its engines."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from gymnasium.envs.box2d import lunar_lander
from numpy.typing import NDArray

# Where LunarLander's own `step` applies the impulses of its engines, without the random dispersion.
_AXIS_IMPULSE = lunar_lander.MAIN_ENGINE_Y_LOCATION / lunar_lander.SCALE
_SIDE_IMPULSE = lunar_lander.SIDE_ENGINE_AWAY / lunar_lander.SCALE
_SIDE_POINT = (17 / lunar_lander.SCALE, lunar_lander.SIDE_ENGINE_HEIGHT / lunar_lander.SCALE)


@dataclass(frozen=True)
class World:
    """What can drift; the defaults are LunarLander-v3's world.

    Attributes:
        gravity: Downwards, between -12 and 0.
        wind_power: The wind's greatest force; there is no wind where this and `turbulence_power` are 0.
        turbulence_power: The wind's greatest torque.
        main_engine_power: Of the main engine.
        side_engine_power: Of the orientation engines.
    """

    gravity: float = -10.0
    wind_power: float = 0.0
    turbulence_power: float = 0.0
    main_engine_power: float = lunar_lander.MAIN_ENGINE_POWER
    side_engine_power: float = lunar_lander.SIDE_ENGINE_POWER

    def __post_init__(self) -> None:
        # LunarLander's own bounds, which it checks at its construction alone.
        if not -12 < self.gravity < 0:
            raise ValueError(f"gravity {self.gravity} should be between -12 and 0")

    def towards(self, other: "World", share: float) -> "World":
        """The world on the way to another one.

        Args:
            other: Where the way ends.
            share: How far along it, in [0, 1].
        """
        new = asdict(other)
        between = {name: (1 - share) * value + share * new[name] for name, value in asdict(self).items()}
        return World(**between)


OLD = World()
"""LunarLander's own world."""
NEW = World(wind_power=15.0, turbulence_power=1.5, main_engine_power=11.0)
"""A world where an agent of the old one fares badly: the wind that LunarLander proposes, and a main engine of 11."""


class DriftingLander(lunar_lander.LunarLander):
    """LunarLander whose world goes from an old one to a new one while it is played.

    Each episode is played in one world: the one that the steps since construction, in all episodes, stand for
    (each reset takes one of them). `info["world"]` holds it, `info["drift"]` the share of the way to the new
    one. Observations and rewards are LunarLander's, and so is everything else while the world is its own.

    What an engine's power differs by from LunarLander's acts along that engine's axis, without the random
    dispersion of the rest.

    Args:
        old: The world before: those of `World`'s attributes that differ from LunarLander's; default: none.
        new: The world after, the same way; default: `NEW`.
        begin: Steps until the drift begins.
        duration: Steps that it takes; 0: the world changes at once.
        drift: Stay this share of the way from old (0) to new (1) for ever; None: drift.
        render_mode: LunarLander's.
    """

    def __init__(
        self,
        *,
        old: Mapping[str, float] | None = None,
        new: Mapping[str, float] | None = None,
        begin: int = 4_000,
        duration: int = 4_000,
        drift: float | None = None,
        render_mode: str | None = None,
    ) -> None:
        if begin < 0 or duration < 0 or not 0 <= (drift or 0) <= 1:
            raise ValueError(f"begin {begin} and duration {duration} should be 0 or more, drift {drift} in [0, 1]")
        self.old = OLD if old is None else World(**old)
        self.new = NEW if new is None else World(**new)
        self._begin = begin
        self._duration = duration
        self._fixed = drift
        self._steps = 0
        super().__init__(render_mode)
        self._enter(self.drift)

    @property
    def drift(self) -> float:
        """The share of the way to the new world."""
        if self._fixed is not None:
            return self._fixed
        late = self._steps - self._begin
        if self._duration == 0:
            return float(late >= 0)
        return min(max(late / self._duration, 0.0), 1.0)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.float32], dict[str, Any]]:
        """Begin an episode in the present world.

        Args:
            seed: LunarLander's.
            options: LunarLander's.
        """
        self._enter(self.drift)
        observation, info = super().reset(seed=seed, options=options)
        return observation, {**info, **self._told()}

    def step(self, action: Any) -> tuple[NDArray[np.float32], float, bool, bool, dict[str, Any]]:
        """One step; the engines' powers are those of the present world."""
        self._steps += 1
        if action:
            self._apply_surplus(int(action))
        observation, reward, terminated, truncated, info = super().step(action)
        return observation, float(reward), terminated, truncated, {**info, **self._told()}

    def _world_at(self, share: float) -> World:
        return self.old.towards(self.new, share)

    def _enter(self, share: float) -> None:
        world = self._world_at(share)
        self._share = share
        self.present = world
        # LunarLander reads these at each reset and step; its engines' powers are constants of its module.
        self.gravity = world.gravity
        self.wind_power = world.wind_power
        self.turbulence_power = world.turbulence_power
        self.enable_wind = world.wind_power > 0 or world.turbulence_power > 0

    def _told(self) -> dict[str, Any]:
        return {"world": asdict(self.present), "drift": self._share}

    def _apply_surplus(self, action: int) -> None:
        """The impulse by which the engine that fires exceeds LunarLander's (or falls short of it)."""
        lander = self.lander
        assert lander is not None, "You forgot to call reset()"
        sin, cos = math.sin(lander.angle), math.cos(lander.angle)
        main = self.present.main_engine_power - lunar_lander.MAIN_ENGINE_POWER
        side = self.present.side_engine_power - lunar_lander.SIDE_ENGINE_POWER
        if action == 2 and main:
            impulse = (-sin * _AXIS_IMPULSE * main, cos * _AXIS_IMPULSE * main)
            lander.ApplyLinearImpulse(impulse, lander.worldCenter, True)
        elif action != 2 and side:
            # Actions 1 and 3 fire the left and the right engine: the side is -1 or 1.
            direction = action - 2
            x = -cos * direction * _SIDE_IMPULSE
            y = -sin * direction * _SIDE_IMPULSE
            point = (lander.position[0] + x - sin * _SIDE_POINT[0], lander.position[1] + y + cos * _SIDE_POINT[1])
            lander.ApplyLinearImpulse((-x * side, -y * side), point, True)
