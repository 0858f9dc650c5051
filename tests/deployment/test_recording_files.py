"""Targets of a recording: what could not be written is refused before anything is played."""

from pathlib import Path

import numpy as np
import pytest
from recordings import minari_folder

from kd_agent import KDError
from kd_agent.deployment.recording_files import Data, check_target, write_minari, write_npz
from kd_agent.environments import Recipe
from kd_agent.rollouts import RecordedEpisode

__all__ = ["minari_folder"]


@pytest.mark.parametrize(
    ("out", "said"),
    [
        ("data.csv", "expected *.npz, or minari:NAMESPACE/NAME-v0"),
        ("nowhere/data.npz", "its folder does not exist"),
        ("minari:no-version", "is no id of a Minari dataset"),
        ("minari:../x-v0", "is no id of a Minari dataset"),
        ("minari:m/x-v0", "expected NAMESPACE/NAME-vN, a namespace of two letters at least"),
    ],
)
def test_a_wrong_target_is_one_line(out: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "datasets"))
    with pytest.raises(KDError) as caught:
        check_target(out)
    assert said in str(caught.value)
    assert out in str(caught.value)


def keyed(steps: int = 4) -> RecordedEpisode:
    """An episode of a Dict: what it sees are two keys."""
    seen = {"a": np.arange(steps + 1, dtype=np.float32)[:, None], "b": np.zeros((steps + 1, 2), np.uint8)}
    rows = np.zeros((steps, 2), np.float32)
    return RecordedEpisode(seen, np.arange(steps) % 2, np.ones(steps), rows, np.zeros(steps, np.int8), True, False, 5)


def data(recipe: Recipe) -> Data:
    import gymnasium as gym

    spaces = gym.spaces
    shown = spaces.Dict({"a": spaces.Box(-9, 9, (1,), np.float64), "b": spaces.Box(0, 255, (2,), np.uint8)})
    return Data([keyed(), keyed(3)], (shown, spaces.Discrete(2)), recipe, "PPO", "of a test", False)


def test_an_npz_has_an_array_a_key_and_no_observation_without_a_label(tmp_path: Path) -> None:
    write_npz(tmp_path / "d.npz", data(Recipe("CartPole-v1")), params=False)
    with np.load(tmp_path / "d.npz", allow_pickle=False) as found:
        assert found["observations/a"].ravel().tolist() == [0, 1, 2, 3, 0, 1, 2]
        assert found["episode_starts"].tolist() == [True, *[False] * 3, True, *[False] * 2]
        assert found["terminations"].tolist() == [*[False] * 3, True, False, False, True]
        assert not found["truncations"].any()
        assert not {"params", "squashed"} & set(found.files)


@pytest.mark.parametrize("wrapped", [False, True])
def test_a_dataset_names_its_environment_where_nothing_is_around_it(wrapped: bool, minari_folder: Path) -> None:
    import gymnasium as gym
    import minari

    wrappers = (("kd_envs.wrappers.ZeroContactForces", {}),) if wrapped else ()
    recipe = Recipe("CartPole-v1", {"sutton_barto_reward": True}, wrappers, max_episode_steps=7)
    write_minari("minari:kd/keyed-v0", data(recipe), params=True)
    dataset = minari.load_dataset("kd/keyed-v0")
    assert (dataset.spec.env_spec is None) == wrapped
    if not wrapped:
        assert dataset.spec.env_spec.kwargs == {"sutton_barto_reward": True}
        assert dataset.spec.env_spec.max_episode_steps == 7
    # What others make from the id is what it was.
    assert gym.spec("CartPole-v1").kwargs == {}
    assert gym.spec("CartPole-v1").max_episode_steps == 500
    first = dataset[0]
    assert first.observations["a"].dtype == np.float64
    assert first.observations["a"].ravel().tolist() == [0, 1, 2, 3, 4]
    assert dataset.storage.metadata["description"] == "of a test"
    assert dataset.storage.metadata["algorithm_name"] == "PPO"


def test_what_minari_refuses_is_one_line(minari_folder: Path) -> None:
    import gymnasium as gym

    whole = data(Recipe("CartPole-v1"))
    graph = gym.spaces.Graph(gym.spaces.Discrete(2), None)
    strange = Data(whole.episodes, (whole.spaces[0], graph), whole.recipe, "PPO", "", False)
    with pytest.raises(KDError, match="Minari cannot write it"):
        write_minari("minari:kd/strange-v0", strange, params=False)
