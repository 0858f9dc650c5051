"""Watching a student: a window where there is a display, else a GIF."""

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from kd_agent.environments import make_single, resolve_id
from kd_agent.errors import KDError
from kd_agent.head import Array
from kd_agent.runtime import Policy, load_policy

SEED = 20_000
MAX_FRAMES = 500
MAX_SIDE = 400
_EPISODES = 3


def watch(student: Path, env: str | None, env_kwargs: Mapping[str, Any], folder: Path) -> str:
    """Show a saved student; the line to print.

    With a display, three episodes in a window; without one, the first in `replay.gif`. What cannot be
    rendered here is said, never raised: the run before it is not lost for a picture.
    """
    policy = load_policy(student)
    env_id = resolve_id(env or policy.env_id)
    try:
        if has_display():
            for episode in range(_EPISODES):
                play(policy, env_id, env_kwargs, "human", SEED + episode)
            return f"watched {_EPISODES} episodes of {env_id}"
        frames = play(policy, env_id, env_kwargs, "rgb_array", SEED)
        return f"no display: the first episode is in {write_gif(folder / 'replay.gif', frames)}"
    except Exception as error:
        return f"{env_id} cannot be rendered here ({type(error).__name__}: {' '.join(str(error).split())[:160]})"


def has_display() -> bool:
    """Whether a window could be seen."""
    return sys.platform in ("darwin", "win32") or bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


def play(policy: Policy, env_id: str, env_kwargs: Mapping[str, Any], mode: str, seed: int) -> list[Array]:
    """One greedy episode; its frames, for the mode "rgb_array"."""
    env = make_single(env_id, env_kwargs, render_mode=mode)
    frames: list[Array] = []
    observation, _ = env.reset(seed=seed)
    done = False
    while not done:
        if mode == "rgb_array":
            frames.append(np.asarray(env.render()))
        observation, _, terminated, truncated, _ = env.step(policy.act(observation))
        done = terminated or truncated
    env.close()
    return frames


def write_gif(path: Path, frames: list[Array]) -> Path:
    """Write frames `[height, width, 3]` as an animation of at most `MAX_FRAMES` small pictures."""
    if not frames:
        raise KDError("there are no frames")
    every = -(-len(frames) // MAX_FRAMES)
    images = [Image.fromarray(frame) for frame in frames[::every]]
    for image in images:
        image.thumbnail((MAX_SIDE, MAX_SIDE))
    images[0].save(path, save_all=True, append_images=images[1:], duration=20 * every, loop=0)
    return path
