"""Watching a student: a window where there is a display, else a GIF."""

import math
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from kd_agent.environments import Recipe, recipe_of_student
from kd_agent.environments.own_wrappers import TypedWrappers
from kd_agent.environments.vector import make_env
from kd_agent.errors import KDError
from kd_agent.loading import load_policy
from kd_agent.policies import Array, Policy
from kd_agent.rollouts.steps import play
from kd_agent.runs.seeds import seed_of

SEED = 20_000
"""Of the first episode that is shown: what the verdict's first episode was."""
MAX_FRAMES = 500
MAX_SIDE = 400
"""Pixels."""
FPS = 50.0
"""Frames a second of an environment that does not say: what most of Gymnasium's say."""
_SHORTEST = 2
"""Hundredths of a second that a picture is shown at least: browsers take less for a mistake, and show it for 10."""
_EPISODES = 3


def watch(
    student: Path,
    env: str | None,
    env_kwargs: Mapping[str, Any],
    folder: Path,
    *,
    task: str | None = None,
    wrapper: Sequence[str] = (),
    sampled: bool | None = None,
) -> str:
    """Show a saved student; the line to print.

    With a display, three episodes in a window; without one, the first in `replay.gif`. What cannot be
    rendered here is said, never raised: the run before it is not lost for a picture.

    Args:
        student: The student's file.
        env: Gymnasium id; None: the one that it was made for.
        env_kwargs: The environment's keyword arguments.
        folder: Where the replay goes.
        task: Which task's policy, where the file holds several.
        wrapper: Wrappers that were typed.
        sampled: Whether it acts by samples; None: as it is meant to be played.
    """
    policy = load_policy(student, task=task)
    recipe = TypedWrappers(tuple(wrapper)).around(recipe_of_student(policy.graph, str(student), env, env_kwargs))
    env_id = recipe.env_id
    if sampled is None:
        sampled = policy.sampled
    try:
        if has_display():
            for episode in range(_EPISODES):
                play_episode(policy, recipe, "human", SEED + episode, sampled)
            return f"watched {_EPISODES} episodes of {env_id}"
        frames = play_episode(policy, recipe, "rgb_array", SEED, sampled)
        speed = frames_per_second(recipe)
        return f"no display: the first episode is in {write_gif(folder / 'replay.gif', frames, speed)}"
    except Exception as error:
        # Whatever an environment's drawing raises: a missing package, a missing driver, a broken display.
        return f"{env_id} cannot be rendered here ({type(error).__name__}: {' '.join(str(error).split())[:160]})"


def has_display() -> bool:
    """Whether a window could be seen."""
    if sys.platform in ("darwin", "win32"):
        return True
    return bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


def play_episode(policy: Policy, recipe: Recipe, mode: str, seed: int, sampled: bool = False) -> list[Array]:
    """One episode.

    Args:
        policy: Who plays.
        recipe: The environment.
        mode: As Gymnasium's `render_mode`.
        seed: The episode's.
        sampled: Whether the actions are sampled, rather than greedy ones.

    Returns:
        Its frames `[height, width, 3]`, for the mode "rgb_array"; else none.
    """
    env = make_env(recipe, 1, render_mode=mode)
    frames: list[Array] = []
    memory: Any = None
    if sampled:
        # As an evaluation of this episode alone: what is shown of a seed is always the same.
        policy.reseed(seed_of(seed, "sample"))

    def _act(observations: Mapping[str, Array], starts: Array, action_masks: Array | None) -> Array:
        nonlocal memory
        if mode == "rgb_array":
            frames.append(np.asarray(env.render()))
        params, memory = policy.step_batch(observations, memory, starts, action_masks)
        return policy.graph.head.sample(params, policy.rng) if sampled else policy.graph.head.greedy(params)

    masked = policy.graph.head if policy.expects_masks else None
    for step in play(env, iter([seed]), _act, masked):
        if step.ended[0]:
            break
    env.close()
    return frames


def frames_per_second(recipe: Recipe) -> float:
    """The speed at which an environment wants to be seen: what its metadata say, or `FPS`."""
    env = make_env(recipe, 1)
    told: Any = (env.get_attr("metadata")[0] or {}).get("render_fps")
    env.close()
    try:
        speed = float(told)
    except (TypeError, ValueError):
        return FPS
    if math.isfinite(speed) and speed > 0:
        return speed
    return FPS


def write_gif(path: Path, frames: list[Array], fps: float = FPS) -> Path:
    """Write an animation of at most `MAX_FRAMES` small pictures.

    Args:
        path: The GIF.
        frames: Pictures `[height, width, 3]`.
        fps: Frames a second.
    """
    if not frames:
        raise KDError("there are no frames")
    # An episode that is long or fast is shown in as much time, with fewer pictures.
    every = max(math.ceil(len(frames) / MAX_FRAMES), math.ceil(_SHORTEST * fps / 100))
    images = [Image.fromarray(frame) for frame in frames[::every]]
    for image in images:
        image.thumbnail((MAX_SIDE, MAX_SIDE))
    durations = _durations(len(frames), every, fps)
    images[0].save(path, save_all=True, append_images=images[1:], duration=durations, loop=0)
    return path


def _durations(count: int, every: int, fps: float) -> list[int]:
    """Milliseconds of each picture that is kept.

    Args:
        count: Frames of the episode.
        every: One of so many is kept.
        fps: Frames a second.
    """
    kept = np.append(np.arange(0, count, every), count)
    # A GIF counts hundredths of a second: of the moments they are rounded, so that no error adds up.
    moments = np.rint(100 * kept / fps).astype(int)
    shown = np.maximum(np.diff(moments), _SHORTEST)
    return list(map(int, 10 * shown))
