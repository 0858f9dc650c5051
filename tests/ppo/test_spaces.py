"""A teacher to be trained in odd spaces: one line, and nothing is written."""

from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from small_agents import Fake
from stable_baselines3 import PPO

from kd_agent import KDError, distill
from kd_agent.commands.cli import run
from kd_agent.ppo.spaces import check_trainable

VECTOR = spaces.Box(-1, 1, (4,), np.float32)
FLAT = "--wrapper gymnasium.wrappers:FlattenObservation"
gym.register(id="kd_tests/Odd-v0", entry_point=Fake)

UNREAD: dict[str, tuple[gym.Space[Any], str]] = {
    "a Tuple": (spaces.Tuple((spaces.Discrete(3), VECTOR)), f"not an array of fixed shape; .*{FLAT}"),
    "a Dict in a Dict": (spaces.Dict({"a": spaces.Dict({"b": VECTOR})}), f"not an array of fixed shape; .*{FLAT}"),
    "a Tuple in a Dict": (spaces.Dict({"a": spaces.Tuple((VECTOR,))}), f"not an array of fixed shape; .*{FLAT}"),
    "Text": (spaces.Text(5), f"not an array of fixed shape; .*{FLAT}"),
    "a Graph": (spaces.Graph(VECTOR, None), "not an array of fixed shape$"),
    "a Sequence": (spaces.Sequence(VECTOR), "not an array of fixed shape$"),
    "one of several": (spaces.OneOf((VECTOR, spaces.Discrete(2))), "not an array of fixed shape"),
    "an empty Dict": (spaces.Dict({}), "cannot be made|shows nothing"),
    "a start": (spaces.Discrete(3, start=1), f"start at 0; .*{FLAT}"),
    "choices of two axes": (spaces.MultiDiscrete([[3, 2], [2, 2]]), f"choices of several axes; .*{FLAT}"),
    "a lone number": (spaces.Box(-1, 1, ()), f"a number without an axis; .*{FLAT}"),
    "no numbers": (spaces.Box(-1, 1, (0,)), "no numbers at all"),
}
UNSERVED: dict[str, tuple[gym.Space[Any], str]] = {
    "a Tuple": (spaces.Tuple((VECTOR,)), "no action head for Tuple"),
    "a Dict": (spaces.Dict({"a": VECTOR}), "no action head for Dict"),
    "bits of two axes": (spaces.MultiBinary((2, 3)), "several axes; .*--wrapper module:Class"),
    "choices of two axes": (spaces.MultiDiscrete([[3, 2], [2, 2]]), "several axes; .*--wrapper module:Class"),
    "no bounds": (spaces.Box(-np.inf, 1, (2,)), "without bounds; .*--wrapper module:Class"),
    "no action": (spaces.Box(-1, 1, (0,)), "0 parts"),
}
PAIRS = {f"observes {name}": (pair[0], spaces.Discrete(3), pair[1]) for name, pair in UNREAD.items()}
PAIRS |= {f"acts in {name}": (VECTOR, pair[0], pair[1]) for name, pair in UNSERVED.items()}


@pytest.mark.parametrize("case", PAIRS)
def test_odd_spaces_are_refused_in_one_line_before_anything_is_written(
    case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    observations, actions, message = PAIRS[case]
    kwargs = {"observation_space": observations, "action_space": actions}
    with pytest.raises(KDError, match=message) as caught:
        distill({"env": "kd_tests/Odd-v0", "env_kwargs": kwargs, "quiet": True})
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_the_command_that_trains_alone_says_so_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run("train-teacher", ["--env", "Blackjack-v1", "--quiet"]) == 2
    assert FLAT in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


TRAINABLE = [
    (VECTOR, spaces.Discrete(3, start=2)),
    (spaces.MultiBinary((2, 3)), spaces.MultiBinary(3)),
    (spaces.Box(0, 9, (2, 2), np.int64), spaces.Box(0, 9, (2,), np.int16)),
    (spaces.Dict({"a": VECTOR, "b": spaces.Discrete(2)}), spaces.MultiDiscrete([2, 3], start=[1, 1])),
]


@pytest.mark.parametrize("pair", TRAINABLE, ids=str)
def test_what_passes_is_what_ppo_takes(pair: tuple[gym.Space[Any], gym.Space[Any]]) -> None:
    check_trainable("x-v0", pair)
    policy = "MultiInputPolicy" if isinstance(pair[0], spaces.Dict) else "MlpPolicy"
    PPO(policy, Fake(*pair), n_steps=8, batch_size=8, n_epochs=1).learn(8)
