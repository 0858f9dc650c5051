"""Recorded data of the probes, whose best actions are known, as arrays, files and Minari datasets."""

import warnings
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from kd_envs.probe import best_action
from samples import SPACES

LENGTH = 50
"""Steps of a probe's episode."""
SPACE = gym.spaces.Box(-1, 1, (4,), np.float32)
"""What the probes show."""


def arrays(space: str = "Discrete", episodes: int = 24, length: int = LENGTH, seed: int = 0) -> dict[str, Any]:
    """Whole episodes of a probe that was played as well as can be, one after the other."""
    states = episodes * length
    observations = np.random.default_rng(seed).uniform(-1, 1, (states, 4)).astype(np.float32)
    actions = np.array([best_action(SPACES[space], observation) for observation in observations])
    ends = np.arange(1, states + 1) % length == 0
    return {
        "observations": observations,
        "actions": actions,
        "rewards": np.ones(states),
        "terminations": np.zeros(states, bool),
        "truncations": ends,
    }


def of_chance(episodes: int = 24, seed: int = 0) -> dict[str, Any]:
    """The Discrete probe played at random: a quarter of the actions is right."""
    data = arrays(episodes=episodes, seed=seed)
    rng = np.random.default_rng(seed)
    right = data["actions"]
    data["actions"] = rng.integers(4, size=len(right))
    data["rewards"] = (data["actions"] == right).astype(float)
    return data


def saved(path: Path, data: dict[str, Any]) -> str:
    """The arrays as an `.npz`."""
    np.savez(path, **data)
    return str(path)


@pytest.fixture
def minari_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where Minari keeps datasets while a test runs."""
    pytest.importorskip("minari", reason="needs Minari")
    folder = tmp_path / "datasets"
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(folder))
    return folder


def minari_dataset(name: str, data: dict[str, Any], space: str = "Discrete", **more: Any) -> str:
    """The arrays as a dataset that Minari itself writes: its episodes have an observation more."""
    import minari
    from minari.data_collector.episode_buffer import EpisodeBuffer

    first = np.flatnonzero(np.append(True, (data["terminations"] | data["truncations"])[:-1]))
    buffers = []
    for begin, end in zip(first, [*first[1:], len(data["rewards"])], strict=True):
        own = {key: array[begin:end] for key, array in data.items() if key != "observations"}
        shown = data["observations"][begin:end]
        buffers.append(EpisodeBuffer(observations=np.concatenate([shown, shown[-1:]]), **own))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        settings = {"observation_space": SPACE, "action_space": SPACES[space], **more}
        minari.create_dataset_from_buffers(name, buffers, **settings)
    return f"minari:{name}"
