"""Arrays of recorded data: those that fit no space, that would wrap around, or that nobody could hold."""

from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from recordings import LENGTH, SPACE, arrays, saved
from samples import SPACES, refused

from kd_agent import load_teacher
from kd_agent.teachers import RecordedTeacher


def read(path: Path, data: dict[str, Any], env: Any = (SPACE, SPACES["Discrete"])) -> RecordedTeacher:
    teacher = load_teacher(saved(path / "data.npz", data), env=env)
    assert isinstance(teacher, RecordedTeacher)
    return teacher


def refusal(path: Path, data: dict[str, Any], env: Any) -> str:
    return refused(Path(saved(path / "data.npz", data)), env=env)


UNKNOWN: dict[str, tuple[dict[str, Any], str]] = {
    "negative": ({"actions": np.full(1200, -3)}, "actions are whole numbers from -3 to -3, and those from 0 to 65535"),
    "too many": ({"actions": np.arange(1200) * 10**6}, "actions are whole numbers from 0 to 1199000000"),
    "unsigned": ({"actions": np.full(1200, 2**64 - 1, np.uint64)}, "from 18446744073709551615 to"),
    "places": ({"observations": np.arange(1200) * 2**40}, "observations 'obs' are whole numbers from 0 to"),
    "wide": ({"observations": np.full((1200, 4), 2**63, np.uint64)}, "more than int64 holds"),
    "a row": (
        {"params": np.zeros(1200), "actions": None},
        "params have shape (1200,), expected a row of numbers a state",
    ),
}


@pytest.mark.parametrize("case", UNKNOWN)
def test_what_no_space_is_inferred_of_is_one_line(case: str, tmp_path: Path) -> None:
    data, said = UNKNOWN[case]
    held = {name: array for name, array in {**arrays(), **data}.items() if array is not None}
    assert said in refused(Path(saved(tmp_path / "data.npz", held)))


def test_a_space_of_several_axes_is_said_in_one_line(tmp_path: Path) -> None:
    data = {**arrays(), "actions": np.arange(4800).reshape(1200, 2, 2) % 3}
    teacher = load_teacher(saved(tmp_path / "data.npz", data))
    assert isinstance(teacher, RecordedTeacher)
    assert "\n" not in teacher.recording.notes[0]


def test_what_an_environment_says_is_not_inferred(tmp_path: Path) -> None:
    data = {**arrays(), "actions": arrays()["actions"] - 3}
    assert read(tmp_path, data, (SPACE, gym.spaces.Discrete(4, start=-3))).recording.notes == ()


def test_an_action_that_never_changed_has_a_range(tmp_path: Path) -> None:
    data = {**arrays(), "actions": np.full((1200, 1), 1e20)}
    teacher = load_teacher(saved(tmp_path / "data.npz", data))
    assert isinstance(teacher, RecordedTeacher)
    assert np.isfinite(teacher.recording.params).all()


def test_labels_that_nobody_could_hold_are_not_made(tmp_path: Path) -> None:
    data = {**arrays(), "actions": arrays()["actions"]}
    assert "take more than 1024 MiB" in refusal(tmp_path, data, (SPACE, gym.spaces.Discrete(10**9)))


def test_numbers_of_another_type_do_not_wrap_around(tmp_path: Path) -> None:
    pixels = gym.spaces.Box(0, 255, (4,), np.uint8)
    data = {**arrays(), "observations": np.full((1200, 4), 300)}
    said = refusal(tmp_path, data, (pixels, SPACES["Discrete"]))
    assert "observations 'obs' are from 300 to 300, expected uint8, 0 to 255" in said
    data["observations"][:] = 200
    assert read(tmp_path, data, (pixels, SPACES["Discrete"])).recording.observations["obs"].max() == 200


@pytest.mark.parametrize("name", ["rewards", "terminations", "drivers"])
def test_a_column_may_have_an_axis_of_its_own(name: str, tmp_path: Path) -> None:
    data = {**arrays(), "drivers": np.arange(1200) // LENGTH % 2}
    plain = read(tmp_path, data).recording
    wide = read(tmp_path, {**data, name: data[name][:, None]}).recording
    assert wide.returns == plain.returns
    assert len(wide.returns) == 12


def test_arrays_of_no_known_name_are_told(tmp_path: Path) -> None:
    recording = read(tmp_path, {**arrays(), "dones": np.zeros(1200), "squashed": False}).recording
    assert "dones of" in recording.notes[0]
    assert "not read" in recording.notes[0]
    assert len(recording.notes) == 1
