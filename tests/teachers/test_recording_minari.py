"""Minari datasets as a teacher: read as Minari wrote them, from this machine alone, and nothing in them is run."""

import json
import sys
from pathlib import Path
from typing import Any

import gymnasium as gym
import h5py
import numpy as np
import pytest
from recordings import LENGTH, arrays, minari_dataset, minari_folder, saved
from samples import SPACES

from kd_agent import KDError, load_teacher
from kd_agent.teachers import RecordedTeacher, environment_of

pytestmark = pytest.mark.usefixtures("minari_folder")
__all__ = ["minari_folder"]
ID = "kd/probe-v0"


def loaded(source: str) -> RecordedTeacher:
    teacher = load_teacher(source)
    assert isinstance(teacher, RecordedTeacher)
    return teacher


def refused(source: str) -> str:
    with pytest.raises(KDError) as caught:
        load_teacher(source)
    message = str(caught.value)
    assert source in message
    assert "\n" not in message
    return message


@pytest.mark.parametrize("space", sorted(SPACES))
def test_a_dataset_says_the_same_as_an_npz_of_its_steps(space: str, tmp_path: Path) -> None:
    data = arrays(space, episodes=5)
    teacher = loaded(minari_dataset(ID, data, space))
    assert teacher.spaces[1] == SPACES[space]
    other = load_teacher(saved(tmp_path / "data.npz", data), env=teacher.spaces)
    assert isinstance(other, RecordedTeacher)
    np.testing.assert_array_equal(teacher.recording.params, other.recording.params)
    np.testing.assert_array_equal(teacher.recording.observations["obs"], data["observations"])
    np.testing.assert_array_equal(teacher.recording.starts, other.recording.starts)
    assert teacher.recording.returns == (LENGTH,) * 5
    assert teacher.recording.notes == ()


def test_an_episode_that_was_stopped_has_no_return() -> None:
    data = arrays(episodes=5)
    recording = loaded(minari_dataset(ID, {key: array[:-10] for key, array in data.items()})).recording
    assert (recording.episodes, len(recording.returns)) == (5, 4)


def test_the_environment_is_named_and_not_made(minari_folder: Path) -> None:
    source = minari_dataset(ID, arrays(episodes=5), env="CartPole-v1")
    assert environment_of(source) == "CartPole-v1"
    path = minari_folder / ID / "data" / "metadata.json"
    metadata = json.loads(path.read_text())
    specification = json.loads(metadata["env_spec"])
    specification |= {"id": "Evil-v0", "entry_point": "antigravity:Evil"}
    path.write_text(json.dumps({**metadata, "env_spec": json.dumps(specification)}))
    sys.modules.pop("antigravity", None)
    loaded(source)
    assert environment_of(source) == "Evil-v0"
    assert "antigravity" not in sys.modules
    metadata = json.loads(path.read_text())
    # Minari would make the environment to see what it shows.
    del metadata["observation_space"]
    path.write_text(json.dumps(metadata))
    assert "has no observation_space" in refused(source)
    assert "antigravity" not in sys.modules


def test_a_dataset_without_an_environment_names_none() -> None:
    assert environment_of(minari_dataset(ID, arrays(episodes=5))) is None


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("kd/absent-v0", "`minari download kd/absent-v0` fetches a public one"),
        ("../../etc", "no id of a Minari dataset"),
        ("", "no id of a Minari dataset"),
        ("kd/no-version", "no id of a Minari dataset"),
    ],
)
def test_what_is_not_there_is_one_line_and_nothing_is_downloaded(name: str, said: str) -> None:
    assert said in refused(f"minari:{name}")


def changed(folder: Path, **more: Any) -> None:
    path = folder / ID / "data" / "metadata.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **more}))


def linked(folder: Path) -> None:
    with h5py.File(folder / ID / "data" / "main_data.hdf5", "a") as file:
        del file["episode_0/rewards"]
        file["episode_0/rewards"] = h5py.ExternalLink("/etc/passwd", "rewards")


def outside(folder: Path) -> None:
    with h5py.File(folder / ID / "data" / "main_data.hdf5", "a") as file:
        del file["episode_0/rewards"]
        file.create_dataset("episode_0/rewards", (LENGTH,), "<f8", external=[("/etc/passwd", 0, 8 * LENGTH)])


def huge(folder: Path) -> None:
    with h5py.File(folder / ID / "data" / "main_data.hdf5", "a") as file:
        del file["episode_0/rewards"]
        file.create_dataset("episode_0/rewards", (1 << 40,), "<f8", chunks=(1 << 10,), compression="gzip")


def lacking(folder: Path) -> None:
    with h5py.File(folder / ID / "data" / "main_data.hdf5", "a") as file:
        del file["episode_1/actions"]


def junk(folder: Path) -> None:
    (folder / ID / "data" / "main_data.hdf5").write_bytes(np.random.default_rng(0).bytes(1000))


DAMAGES = {
    "another format": (lambda folder: changed(folder, data_format="arrow"), "hdf5 is what is read"),
    "too many": (lambda folder: changed(folder, total_episodes=10**9), "claims 1000000000 episodes"),
    "none": (lambda folder: changed(folder, total_episodes=0), "holds no episodes"),
    "more than there are": (lambda folder: changed(folder, total_episodes=9), "damaged dataset"),
    "no space": (lambda folder: changed(folder, action_space='{"type": "Evil"}'), "damaged dataset"),
    "a link to another file": (linked, "leads elsewhere"),
    "data of another file": (outside, "lies in another file"),
    "a bomb": (huge, "unpacks to more than 1024 MiB"),
    "an array less": (lacking, "damaged dataset"),
    "junk": (junk, "damaged dataset"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_dataset_is_one_line(damage: str, minari_folder: Path) -> None:
    source = minari_dataset(ID, arrays(episodes=5))
    do, said = DAMAGES[damage]
    do(minari_folder)
    assert said in refused(source)


def test_without_minari_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "minari.dataset.minari_dataset", None)
    assert "pip install 'minari[hdf5]'" in refused("minari:kd/probe-v0")


def test_actions_of_another_space_than_the_environments_are_refused() -> None:
    source = minari_dataset(ID, arrays(episodes=5))
    seen = loaded(source).spaces[0]
    # 0 and 1 lie in a Box too, and a Discrete has room for fewer.
    for other in (gym.spaces.Box(-9, 9, (1,), np.float32), gym.spaces.Discrete(9)):
        with pytest.raises(KDError, match=r"the recorded actions are Discrete\(4\), but the environment has") as caught:
            load_teacher(source, env=(seen, other))
        assert source in str(caught.value)
