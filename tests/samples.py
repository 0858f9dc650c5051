"""Samples that the tests share: spaces, heads, rows, students, agents."""

import inspect
import sys
import warnings
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from stable_baselines3 import A2C, PPO

from kd_agent import KDError, load_teacher, plugins
from kd_agent.networks.base import Student, Teacher
from kd_agent.networks.distributions import ActionHead, head_for
from kd_agent.policies.graph import ObservationSpec, PolicyGraph
from kd_agent.policies.normalizer import Normalizer
from kd_agent.rollouts import Rollout

ROOT = Path(__file__).parents[1]

SPACES: dict[str, gym.Space[Any]] = {
    "Discrete": gym.spaces.Discrete(4),
    "MultiDiscrete": gym.spaces.MultiDiscrete([3, 4]),
    "MultiBinary": gym.spaces.MultiBinary(3),
    "Box": gym.spaces.Box(np.float32([-1, -2]), np.float32([1, 3])),
}
PROBES = {name: f"kd_envs/Probe{name}-v0" for name in SPACES}

HEADS: dict[str, ActionHead] = {
    "categorical": head_for(SPACES["Discrete"]),
    "multi_categorical": head_for(SPACES["MultiDiscrete"]),
    "bernoulli": head_for(SPACES["MultiBinary"]),
    "diag_gaussian": head_for(SPACES["Box"]),
    "squashed_gaussian": head_for(SPACES["Box"], squashed=True),
}


def rows(head: ActionHead, batch: int = 7, seed: int = 0, scale: float = 1.0) -> torch.Tensor:
    """Random head parameters `[batch, P]`."""
    return scale * torch.randn(batch, head.num_params, generator=torch.Generator().manual_seed(seed))


def make_student(
    head: ActionHead, name: str = "mlp", observations: dict[str, ObservationSpec] | None = None, **settings: Any
) -> Student:
    """A student whose statistics and log standard deviations are not those of a new one."""
    observations = observations or {"obs": ObservationSpec((4,), "float32")}
    rng = np.random.default_rng(1)
    normalizers = {
        k: Normalizer(rng.normal(size=s.shape), rng.uniform(0.5, 2, s.shape), clip=3.0) for k, s in observations.items()
    }
    build = plugins.load("students", name).build
    known = inspect.signature(build).parameters
    student: Student = build(observations, head, normalizers, **{k: v for k, v in settings.items() if k in known})
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(2)
        for parameter in student.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return student.eval()


def make_graph(kind: str = "categorical", provenance: dict[str, Any] | None = None, **settings: Any) -> PolicyGraph:
    """The program of a small student."""
    return make_student(HEADS[kind], **{"hidden": (5,), **settings}).graph(provenance or {"env": "CartPole-v1"})


@dataclass(frozen=True)
class Agent:
    """A Stable-Baselines3 model, its zip and its environment."""

    model: Any
    path: Path
    env_id: str

    @property
    def spaces(self) -> tuple[gym.Space[Any], gym.Space[Any]]:
        """Observation and action space."""
        return self.model.observation_space, self.model.action_space

    def observations(self, batch: int = 32) -> np.ndarray:
        """Observations `[batch, *O]` on and somewhat beyond the beaten track."""
        shape = self.model.observation_space.shape
        return np.random.default_rng(5).normal(size=(batch, *shape)).astype(np.float32)


def train_agent(path: Path, env_id: str, algo: type[Any] = PPO, **settings: Any) -> Agent:
    """Train for a moment, shake the weights so that no output is near a tie, and save."""
    sizes = {"n_steps": 8} if algo is A2C else {"n_steps": 32, "batch_size": 32, "n_epochs": 1}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = algo("MlpPolicy", env_id, seed=3, device="cpu", **sizes, **settings)
        model.learn(32)
    with torch.no_grad():
        for parameter in model.policy.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    model.save(path)
    return Agent(model, path, env_id)


TINY = {"env_steps": 480, "rounds": 3, "n_envs": 4, "round_steps": 20, "final_steps": 60, "episodes": 6,
        "max_episodes": 6, "attempts": 2, "exam_episodes": 4, "hidden": [8], "quiet": True}  # fmt: skip
"""A distillation of a second or two."""


def settings(agent: Agent, out: Path, **more: Any) -> dict[str, Any]:
    return {**TINY, "env": agent.env_id, "teacher": str(agent.path), "out": str(out), **more}


def steps_of(result: dict[str, Any]) -> dict[str, int]:
    """What a run cost, but for seconds, which no two runs have in common."""
    return {name: count for name, count in result["cost"].items() if name.endswith("_steps")}


def flags(given: dict[str, Any]) -> list[str]:
    """Settings as a command line."""
    words: list[str] = []
    for name, value in given.items():
        flag = f"--{name.replace('_', '-')}"
        words += [flag] if value is True else [flag, *map(str, value if isinstance(value, list) else [value])]
    return words


def command(given: dict[str, Any]) -> list[str]:
    return [sys.executable, str(ROOT / "scripts" / "distill_policy.py"), *flags(given)]


def members(path: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def pack(path: Path, content: dict[str, bytes], **settings: Any) -> Path:
    with zipfile.ZipFile(path, "w", **settings) as archive:
        for name, raw in content.items():
            archive.writestr(name, raw)
    return path


def refused(path: Path, **settings: Any) -> str:
    with pytest.raises(KDError) as caught:
        load_teacher(str(path), **settings)
    message = str(caught.value)
    assert str(path) in message
    assert "\n" not in message
    return message


def labelled(teacher: Teacher, states: dict[str, np.ndarray]) -> Rollout:
    """States `[S, *O]` by key as one labelled step of `S` environments."""
    one = np.ones((1, len(next(iter(states.values())))), np.float32)
    params = teacher(states).params.numpy()[None]
    return Rollout({k: x[None] for k, x in states.items()}, params, one.astype(np.int8), one, one > 0, one)
