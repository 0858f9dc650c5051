"""Worlds that show images, categories or several things, and small students that see them."""

import warnings
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from samples import make_student

from kd_agent import export
from kd_agent.environments import observation_specs
from kd_agent.networks.distributions import ActionHead, head_for
from kd_agent.policies.graph import PolicyGraph

PICTURE = gym.spaces.Box(0, 255, (40, 44, 3), np.uint8)
ROOM = gym.spaces.Discrete(5)
VECTOR = gym.spaces.Box(-0.2, 0.2, (3,), np.float32)
TABLE = gym.spaces.Box(-0.2, 0.2, (2, 3), np.float32)
PARTS = gym.spaces.MultiDiscrete([3, 4])
SPACES: dict[str, gym.Space[Any]] = {
    "image": PICTURE,
    "image, channels first": gym.spaces.Box(0, 255, (2, 40, 44), np.uint8),
    "small image": gym.spaces.Box(0, 255, (12, 12, 1), np.uint8),
    "categories": ROOM,
    "several categories": PARTS,
    "vectors and categories": gym.spaces.Dict({"room": ROOM, "table": TABLE, "vector": VECTOR, "z": PARTS}),
    "image and all": gym.spaces.Dict({"camera": PICTURE, "room": ROOM, "table": TABLE, "vector": VECTOR}),
    "two images": gym.spaces.Dict({"left": PICTURE, "right": gym.spaces.Box(0, 255, (36, 36, 4), np.uint8)}),
}
IMAGES = {name for name in SPACES if "image" in name}


class World(gym.Env[Any, Any]):
    """Random observations of a space; pays for the first of four actions."""

    def __init__(self, name: str) -> None:
        self.observation_space = SPACES[name]
        self.action_space = gym.spaces.Discrete(4)
        self._time = 0

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        if seed is not None:
            self.observation_space.seed(seed)
        self._time = 0
        return self.observation_space.sample(), {}

    def step(self, action: Any) -> Any:
        self._time += 1
        return self.observation_space.sample(), float(action == 0), False, self._time == 8, {}


IDS = {name: f"Seen{index}-v0" for index, name in enumerate(SPACES)}
for _name, _id in IDS.items():
    gym.register(_id, World, kwargs={"name": _name})


def student_of(name: str, head: ActionHead | None = None, env: str | None = None) -> PolicyGraph:
    """A small student that sees a space."""
    kind = "cnn" if name in IMAGES else "mlp"
    head = head or head_for(gym.spaces.Discrete(4))
    student = make_student(head, kind, observation_specs(SPACES[name]), hidden=(6, 5), activation="silu")
    for layer in student.modules():
        # Steeper than a new one's, or it would do the same everywhere.
        if isinstance(layer, torch.nn.Linear):
            layer.weight.data.mul_(2)
            layer.bias.data.zero_()
    return student.graph({"env": IDS[name] if env is None else env})


def seen(name: str, count: int = 64) -> Any:
    """Observations `[count, *O]`, by key where there are several; near 0, where a folded normaliser is exact."""
    space = SPACES[name]
    space.seed(3)
    rows = [space.sample() for _ in range(count)]
    if isinstance(space, gym.spaces.Dict):
        return {key: varied(np.stack([row[key] for row in rows])) for key in space.spaces}
    return varied(np.stack(rows))


def varied(batch: Any) -> Any:
    """Images `[B, ...]` that are dark but for a strip, each another one; what is no image as it is."""
    if batch.dtype != np.uint8:
        return batch
    for index, image in enumerate(batch):
        wide = image.swapaxes(0, np.argmax(image.shape))
        wide[: index % len(wide)] = 0
        wide[index % len(wide) + 6 :] = 0
    return batch


def zip_of(graph: PolicyGraph, folder: Path) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return export(graph, folder / "policy.zip")[0]
