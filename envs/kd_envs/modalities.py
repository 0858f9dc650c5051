"""One task through several senses: the usual state beside a picture, or beside positions and the last action.

Letters: `H`, `W` height and width of a picture in pixels, `C` pictures.
"""

import math
from collections import deque
from collections.abc import Iterable, Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.envs.box2d import lunar_lander
from numpy.typing import NDArray

from kd_envs.wrappers import MaskVelocityWrapper, inner

Picture = NDArray[np.uint8]
Point = tuple[float, float]

LANDER = [(x / lunar_lander.SCALE, y / lunar_lander.SCALE) for x, y in lunar_lander.LANDER_POLY]
_LEG_WIDTH = lunar_lander.LEG_W / lunar_lander.SCALE
_LEG_HEIGHT = lunar_lander.LEG_H / lunar_lander.SCALE
# Box2D's boxes are given by half their sides.
LEG = [(-_LEG_WIDTH, -_LEG_HEIGHT), (_LEG_WIDTH, -_LEG_HEIGHT), (_LEG_WIDTH, _LEG_HEIGHT), (-_LEG_WIDTH, _LEG_HEIGHT)]


class Canvas:
    """Draws filled convex polygons, in world coordinates, smoothly: what covers a pixel by half is half as bright.

    So a movement by a small part of a pixel can be seen.

    Args:
        size: `(H, W)`.
        left: World x of the left edge.
        top: World y of the upper edge.
        scale: Pixels a unit of the world.
    """

    def __init__(self, size: tuple[int, int], left: float, top: float, scale: float) -> None:
        self.pixels = np.zeros(size, np.float32)
        self._left = left
        self._top = top
        self._scale = scale
        # A pixel stands for its middle.
        self._rows = np.arange(size[0]) + 0.5
        self._columns = np.arange(size[1]) + 0.5

    def place(self, points: Iterable[Point]) -> list[Point]:
        """World coordinates as column and row, in pixels."""
        return [((x - self._left) * self._scale, (self._top - y) * self._scale) for x, y in points]

    def polygon(self, points: Iterable[Point], grey: int) -> None:
        """Fill a convex polygon.

        Args:
            points: Its corners, counter-clockwise, in world coordinates.
            grey: What it is filled with, 0 to 255.
        """
        corners = self.place(points)
        x_of_corners, y_of_corners = zip(*corners, strict=True)
        # Only the pixels around it are looked at: most of a picture is none of its business.
        window = (_span(y_of_corners), _span(x_of_corners))
        rows = self._rows[window[0]]
        columns = self._columns[window[1]]
        edges = list(map(_half_plane, corners, corners[1:] + corners[:1]))
        x, y, offset = np.array(edges).T[:, :, None]
        # How many pixels `[H, W]` outside of the edge that it is farthest outside of.
        outside = ((y * rows - offset)[:, :, None] + (x * columns)[:, None]).max(axis=0)
        covered = np.minimum(np.maximum(0.5 - outside, 0), 1)
        pixels = self.pixels[window]
        pixels += covered * (grey - pixels)

    def ground(self, points: Iterable[Point], grey: int) -> None:
        """Fill what lies below a line.

        Args:
            points: The line's corners from left to right, in world coordinates.
            grey: What is filled in, 0 to 255.
        """
        x, y = zip(*self.place(points), strict=True)
        covered = np.clip(self._rows[:, None] + 0.5 - np.interp(self._columns, x, y), 0, 1)
        self.pixels += covered * (grey - self.pixels)

    def picture(self) -> Picture:
        """What has been drawn, `[H, W]`."""
        return np.rint(self.pixels).astype(np.uint8)


def _span(places: Sequence[float]) -> slice:
    """The pixels of an axis that places on it may touch, from 0 on."""
    return slice(max(int(min(places)) - 1, 0), max(int(max(places)) + 2, 0))


def _half_plane(start: Point, end: Point) -> tuple[float, float, float]:
    """`(a, b, c)`: the pixel `(x, y)` lies `a x + b y - c` pixels outside of an edge."""
    along = (end[0] - start[0], end[1] - start[1])
    length = math.hypot(*along)
    a, b = -along[1] / length, along[0] / length
    return a, b, a * start[0] + b * start[1]


def turned(points: Iterable[Point], angle: float, by: Point) -> list[Point]:
    """Points turned counter-clockwise around the origin, then moved.

    Args:
        points: In world coordinates.
        angle: In radians.
        by: How far they are moved, `(x, y)`.
    """
    sin, cos = math.sin(angle), math.cos(angle)
    return [(cos * x - sin * y + by[0], sin * x + cos * y + by[1]) for x, y in points]


class LanderPainter:
    """LunarLander's own picture, in grey and small: ground, lander and legs, from the same bodies and colours.

    Two cameras: one stands and sees the whole scene, one follows the lander and sees it four times larger. The game's
    renderer smooths 600 x 400 pixels and draws the exhaust and the flags; this draws three polygons over a line.
    The standing camera looks 2 m higher than the game's, for the lander begins at the upper edge of that.

    Args:
        width: Pixels across the game's 20 m; two thirds as many down.
    """

    AGES = (8, 0)
    GROUND, LANDER, ZOOM = 255, 124, 4
    _RAISED = 2.0

    def __init__(self, width: int = 60) -> None:
        self._scale = width / 20
        self.shape = (width * 2 // 3, width, 2)

    def __call__(self, env: Any) -> Picture:
        """The present pictures `[H, W, 2]` of an unwrapped LunarLander: the standing camera's, the following one's."""
        height, width, _ = self.shape
        standing = Canvas((height, width), 0.0, 40 / 3 + self._RAISED, self._scale)
        near = self._scale * self.ZOOM
        x, y = env.lander.position
        following = Canvas((height, width), x - width / near / 2, y + height / near / 2, near)
        # The game keeps the sky, piece by piece: each begins with two points of the ground below it.
        ground = [env.sky_polys[0][0], *(piece[1] for piece in env.sky_polys)]
        outlines = []
        for body, corners in zip(env.drawlist, (LANDER, LEG, LEG), strict=True):
            outlines.append(turned(corners, body.angle, body.position))
        for canvas in (standing, following):
            canvas.ground(ground, self.GROUND)
            for outline in outlines:
                canvas.polygon(outline, self.LANDER)
        return np.stack([standing.picture(), following.picture()], axis=-1)


class CartPolePainter:
    """CartPole's own picture, in grey and small, cut to where cart and pole can be, on black.

    Args:
        width: Pixels across the track of 4.8 m.
    """

    AGES = (4, 2, 0)
    CART, POLE = 128, 255

    def __init__(self, width: int = 96) -> None:
        self._scale = width / 4.8
        self.shape = (int(1.4 * self._scale), width, 1)

    def __call__(self, env: Any) -> Picture:
        """The present picture `[H, W, 1]` of an unwrapped CartPole."""
        x, _, angle, _ = env.state
        canvas = Canvas(self.shape[:2], -2.4, 1.3, self._scale)
        # The game draws a cart of 50 x 30 pixels, a pole of 10 x 125 and its axle 7.5 above the cart's middle; 125 of
        # its pixels are a unit.
        cart = [(-0.2, -0.12), (0.2, -0.12), (0.2, 0.12), (-0.2, 0.12)]
        pole = [(-0.04, -0.04), (0.04, -0.04), (0.04, 0.96), (-0.04, 0.96)]
        canvas.polygon(turned(cart, 0, (x, 0)), self.CART)
        canvas.polygon(turned(pole, -angle, (x, 0.06)), self.POLE)
        return canvas.picture()[..., None]


PAINTERS: dict[str, Any] = {"LunarLander": LanderPainter, "CartPole": CartPolePainter}
"""Who draws, by the environment's name; called with the width in pixels."""


class StateAndPixels(gym.Wrapper[Any, Any, Any, Any], gym.utils.RecordConstructorArgs):
    """Shows the state beside pictures of now and of some steps before, so that velocities can be seen.

    Observations are `{"state": the usual vector, "pixels": uint8 [H, W, C]}`, the latest pictures last; before the
    episode's first pictures there were those.

    Args:
        env: One of `PAINTERS`, in any version.
        width: Pixels across; default: the painter's.
        ages: How many steps ago each picture was taken, the oldest first; default: the painter's.
    """

    def __init__(self, env: gym.Env[Any, Any], width: int | None = None, ages: Sequence[int] | None = None) -> None:
        gym.utils.RecordConstructorArgs.__init__(self, width=width, ages=ages)
        gym.Wrapper.__init__(self, env)
        painter = PAINTERS[name_of(env)]
        self._paint = painter(width) if width else painter()
        self._ages = ages or painter.AGES
        self._pictures: deque[Picture] = deque(maxlen=max(self._ages) + 1)
        *size, cameras = self._paint.shape
        pixels = gym.spaces.Box(0, 255, (*size, cameras * len(self._ages)), np.uint8)
        self.observation_space = gym.spaces.Dict({"state": env.observation_space, "pixels": pixels})

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Begin an episode, and with it the pictures.

        Args:
            seed: The environment's.
            options: The environment's.
        """
        state, info = self.env.reset(seed=seed, options=options)
        self._pictures.clear()
        return self._show(state), info

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """One step, one picture."""
        state, reward, terminated, truncated, info = self.env.step(action)
        return self._show(state), reward, terminated, truncated, info

    def _show(self, state: NDArray[Any]) -> dict[str, NDArray[Any]]:
        self._pictures.append(self._paint(self.env.unwrapped))
        last = len(self._pictures) - 1
        shown = [self._pictures[max(last - age, 0)] for age in self._ages]
        return {"state": state, "pixels": np.concatenate(shown, axis=-1)}


class StateAndPositions(gym.Wrapper[Any, Any, Any, Any], gym.utils.RecordConstructorArgs):
    """Shows the state beside what is known without velocities: `{"state": ..., "positions": ..., "last_action": ...}`.

    The last action is flat, zeros before the first: what the present velocity is follows from the positions and from
    what was done last, not from the positions alone (CartPole moves by the velocity before the push).

    Args:
        env: One of `MaskVelocityWrapper.velocities`.
    """

    def __init__(self, env: gym.Env[Any, Any]) -> None:
        gym.utils.RecordConstructorArgs.__init__(self)
        gym.Wrapper.__init__(self, env)
        space = env.observation_space
        assert isinstance(space, gym.spaces.Box)
        # Left out, not zeros as behind `MaskVelocityWrapper`: a student pays for each number that it reads.
        self._kept = np.delete(np.arange(space.shape[0]), MaskVelocityWrapper.velocities[name_of(env)])
        positions = gym.spaces.Box(space.low[self._kept], space.high[self._kept], dtype=np.float32)
        actions = gym.spaces.utils.flatten_space(env.action_space)
        assert isinstance(actions, gym.spaces.Box)
        # Zeros, for the action before the first, are within the bounds of indicators and of centred actions alike.
        done = gym.spaces.Box(actions.low.astype(np.float32), actions.high.astype(np.float32), dtype=np.float32)
        self.observation_space = gym.spaces.Dict({"state": space, "positions": positions, "last_action": done})

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Begin an episode, in which nothing has been done.

        Args:
            seed: The environment's.
            options: The environment's.
        """
        state, info = self.env.reset(seed=seed, options=options)
        size = gym.spaces.utils.flatdim(self.env.action_space)
        return self._show(state, np.zeros(size, np.float32)), info

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """One step, whose action is shown with what follows."""
        state, reward, terminated, truncated, info = self.env.step(action)
        done = gym.spaces.utils.flatten(self.env.action_space, action)
        return self._show(state, np.asarray(done, np.float32)), reward, terminated, truncated, info

    def _show(self, state: NDArray[np.float32], last_action: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
        return {"state": state, "positions": state[self._kept], "last_action": last_action}


def name_of(env: gym.Env[Any, Any]) -> str:
    """The environment's id without its version."""
    if env.spec is None:
        return ""
    return env.spec.id.rpartition("-v")[0]


def with_pixels(
    base: str, width: int | None = None, ages: Sequence[int] | None = None, **kwargs: Any
) -> gym.Env[Any, Any]:
    """The environment `base` behind `StateAndPixels`.

    Args:
        base: A registered id.
        width: Pixels across; default: the painter's.
        ages: How many steps ago each picture was taken, the oldest first; default: the painter's.
        kwargs: Keyword arguments of `base`.
    """
    return StateAndPixels(inner(base, **kwargs), width, ages)


def with_positions(base: str, **kwargs: Any) -> gym.Env[Any, Any]:
    """The environment `base` behind `StateAndPositions`."""
    return StateAndPositions(inner(base, **kwargs))
