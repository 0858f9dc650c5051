"""Environments with action masks, and small MaskablePPO agents that were trained in them."""

import tempfile
import warnings
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from samples import HEADS, Agent, make_student
from sb3_contrib import MaskablePPO

from kd_agent.networks.distributions import ActionHead
from kd_agent.policies.graph import PolicyGraph
from kd_agent.policies.head import HeadSpec

SPACES: dict[str, gym.Space[Any]] = {
    "Discrete": gym.spaces.Discrete(4),
    "MultiDiscrete": gym.spaces.MultiDiscrete([3, 2]),
    "MultiBinary": gym.spaces.MultiBinary(3),
}
KINDS = {"Discrete": "categorical", "MultiDiscrete": "multi_categorical", "MultiBinary": "bernoulli"}
PARTS = {"Discrete": [4], "MultiDiscrete": [3, 2], "MultiBinary": [2, 2, 2]}
"""Categories of each part of an action: a bit is a choice between 0 and 1."""
IDS = {name: f"Masked{name}-v0" for name in SPACES}


class MaskedEnv(gym.Env[Any, Any]):
    """Random observations; of each part, the allowed category whose number in the observation is largest pays.

    Attributes:
        steps, invalid: Steps taken in all environments of this class, and how many of them were not allowed.
    """

    steps = 0
    invalid = 0

    def __init__(self, space: str = "Discrete", length: int = 10) -> None:
        self.observation_space = gym.spaces.Box(-1, 1, (6,), np.float32)
        self.action_space = SPACES[space]
        self._parts = PARTS[space]
        self._length = length
        self._time = 0

    def action_masks(self) -> np.ndarray:
        return self.mask

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self._time = 0
        return self._observe(), {}

    def step(self, action: Any) -> Any:
        MaskedEnv.steps += 1
        if not is_allowed(action, self.mask, self._parts):
            MaskedEnv.invalid += 1
            reward = -5.0
        else:
            reward = float(sum(self._seen[category] for category in np.ravel(action)))
        self._time += 1
        return self._observe(), reward, False, self._time == self._length, {}

    def _observe(self) -> np.ndarray:
        self.mask = random_masks(self._parts, 1, self.np_random)[0]
        self._seen = self.np_random.uniform(-1, 1, 6).astype(np.float32)
        return self._seen


class Unmasked(gym.Wrapper[Any, Any, Any, Any]):
    """The same, and nobody can ask what is allowed."""

    def get_wrapper_attr(self, name: str) -> Any:
        if name == "action_masks":
            raise AttributeError(name)
        return super().get_wrapper_attr(name)


for _name, _id in IDS.items():
    gym.register(_id, MaskedEnv, kwargs={"space": _name})
gym.register("MaskedNot-v0", lambda: Unmasked(MaskedEnv()))


def random_masks(parts: list[int], count: int, rng: np.random.Generator) -> np.ndarray:
    """Flags `[count, M]` that leave something of every part."""
    masks = rng.random((count, sum(parts))) < 0.5
    first = 0
    for size in parts:
        masks[np.arange(count), first + rng.integers(size, size=count)] = True
        first += size
    return masks


def is_allowed(action: Any, mask: np.ndarray, parts: list[int]) -> bool:
    """Whether an action `[*A]` keeps to a mask `[M]`."""
    firsts = np.cumsum([0, *parts[:-1]])
    return bool(mask[firsts + np.ravel(action).astype(int)].all())


def share_invalid(actions: Any, masks: np.ndarray, name: str) -> float:
    """Share of the actions `[B, *A]` that masks `[B, M]` forbid."""
    return float(np.mean([not is_allowed(a, m, PARTS[name]) for a, m in zip(actions, masks, strict=True)]))


class Tally:
    """Counts the steps and the invalid ones of whatever is played within it."""

    def __enter__(self) -> "Tally":
        self._before = MaskedEnv.steps, MaskedEnv.invalid
        return self

    def __exit__(self, *error: object) -> None:
        self.steps = MaskedEnv.steps - self._before[0]
        self.invalid = MaskedEnv.invalid - self._before[1]


@cache
def agent(name: str, steps: int = 1024) -> Agent:
    """A MaskablePPO agent, trained a little; its weights are shaken, so that nothing it says is near a tie."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = MaskablePPO(
            "MlpPolicy", gym.make(IDS[name]), n_steps=256, seed=0, device="cpu", policy_kwargs={"net_arch": [16]}
        )
        model.learn(steps)
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        for parameter in model.policy.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    path = Path(tempfile.mkdtemp()) / f"{name}.zip"
    model.save(path)
    return Agent(model, path, IDS[name])


def states(name: str, count: int = 500, seed: int = 3) -> tuple[np.ndarray, np.ndarray]:
    """Observations `[count, 6]` and masks `[count, M]`."""
    rng = np.random.default_rng(seed)
    observations = rng.uniform(-1, 1, (count, 6)).astype(np.float32)
    return observations, random_masks(PARTS[name], count, rng)


def masked_spec(kind: str) -> HeadSpec:
    """One of the samples' heads, to be played with masks."""
    return replace(HEADS[kind].spec, expects_masks=True)


def masked_graph(kind: str = "categorical", student: str = "mlp") -> PolicyGraph:
    """The program of a small student that plays with masks."""
    return make_student(ActionHead(masked_spec(kind)), student, hidden=(5,)).graph({"env": "nowhere-v0"})
