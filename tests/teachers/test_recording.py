"""Recorded data as a teacher: what is read of an `.npz`, which episodes count, and what is refused."""

import io
import zipfile
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from recordings import LENGTH, SPACE, arrays, saved
from samples import HEADS, SPACES, refused, rows

from kd_agent import KDError, load_teacher
from kd_agent.policies import Normalizer
from kd_agent.teachers import RecordedTeacher, write_statistics
from kd_agent.teachers._density import STATED_LOGIT
from kd_agent.teachers._recorded_npz import MAX_BYTES
from kd_agent.teachers._statistics import read_statistics


def read(path: Path, data: dict[str, Any], env: Any = (SPACE, SPACES["Discrete"])) -> RecordedTeacher:
    teacher = load_teacher(saved(path / "data.npz", data), env=env)
    assert isinstance(teacher, RecordedTeacher)
    return teacher


def refusal(path: Path, data: dict[str, Any], env: Any = (SPACE, SPACES["Discrete"])) -> str:
    return refused(Path(saved(path / "data.npz", data)), env=env)


@pytest.mark.parametrize("space", sorted(SPACES))
def test_actions_are_labels_whose_mode_they_are(space: str, tmp_path: Path) -> None:
    data = arrays(space)
    teacher = read(tmp_path, data, (SPACE, SPACES[space]))
    recording = teacher.recording
    greedy = teacher.head.spec.greedy(recording.params)
    np.testing.assert_allclose(greedy.reshape(-1), np.ravel(data["actions"]), rtol=1e-6)
    np.testing.assert_array_equal(recording.observations["obs"], data["observations"])
    assert recording.labels == "actions"
    assert recording.params.dtype == np.float32
    assert (teacher.origin.algo, teacher.origin.num_parameters) == ("recording", None)
    assert len(teacher.origin.sha256) == 64


@pytest.mark.parametrize("name", ["params", "logits"])
def test_distributions_win_over_actions(name: str, tmp_path: Path) -> None:
    data = arrays()
    told = rows(HEADS["categorical"], len(data["actions"])).numpy()
    recording = read(tmp_path, {**data, name: told}).recording
    np.testing.assert_array_equal(recording.params, told)
    assert recording.labels == "distributions"


def test_rows_of_a_squashed_gaussian_are_said_to_be_that(tmp_path: Path) -> None:
    told = rows(HEADS["squashed_gaussian"], 100).numpy()
    data = {"observations": np.zeros((100, 4), np.float32), "params": told}
    env = (SPACE, SPACES["Box"])
    assert read(tmp_path, {**data, "squashed": np.array(True)}, env).head.kind == "squashed_gaussian"
    assert read(tmp_path, data, env).head.kind == "diag_gaussian"


def test_a_dict_has_an_array_a_key(tmp_path: Path) -> None:
    data = arrays()
    seen = data.pop("observations")
    keyed = {**data, "observations/all": seen, "observations/half": seen[:, :2]}
    env = (gym.spaces.Dict({"all": SPACE, "half": gym.spaces.Box(-1, 1, (2,), np.float32)}), SPACES["Discrete"])
    recording = read(tmp_path, keyed, env).recording
    np.testing.assert_array_equal(recording.observations["half"], seen[:, :2])
    del keyed["observations/half"]
    assert "holds no observation 'half', but all" in refusal(tmp_path, keyed, env)


def test_whole_episodes_have_returns_and_those_cut_short_are_fitted_alone(tmp_path: Path) -> None:
    data = arrays(episodes=6)
    data["rewards"] = np.arange(6 * LENGTH, dtype=float)
    whole = read(tmp_path, data).recording
    expected = data["rewards"].reshape(6, LENGTH).sum(axis=1)
    assert whole.returns == tuple(expected)
    cut = read(tmp_path, {key: array[:-10] for key, array in data.items()}).recording
    assert cut.returns == tuple(expected[:-1])
    assert (cut.episodes, len(cut.params)) == (6, 6 * LENGTH - 10)
    assert np.bincount(cut.episode).tolist() == [LENGTH] * 5 + [LENGTH - 10]


def test_other_names_of_the_same_flags(tmp_path: Path) -> None:
    data = arrays(episodes=6)
    others = {"terminals": data.pop("terminations"), "timeouts": data.pop("truncations")}
    assert read(tmp_path, {**data, **others}).recording.returns == (LENGTH,) * 6
    twice = {**data, **others, "truncations": others["timeouts"]}
    assert "holds truncations and timeouts, which are two names of one thing" in refusal(tmp_path, twice)


def test_beginnings_alone_leave_the_last_episode_open(tmp_path: Path) -> None:
    data = arrays(episodes=6)
    starts = np.arange(6 * LENGTH) % LENGTH == 0
    plain = {name: data[name] for name in ("observations", "actions", "rewards")}
    recording = read(tmp_path, {**plain, "episode_starts": starts}).recording
    assert (recording.episodes, recording.returns) == (6, (LENGTH,) * 5)


def test_an_episode_whose_beginning_is_not_there_has_no_return(tmp_path: Path) -> None:
    data = arrays(episodes=6)
    starts = np.arange(6 * LENGTH) % LENGTH == 0
    late = {key: array[10:] for key, array in {**data, "episode_starts": starts}.items()}
    assert read(tmp_path, late).recording.returns == (LENGTH,) * 5


def test_episodes_that_somebody_else_drove_are_no_returns_of_the_teacher(tmp_path: Path) -> None:
    drivers = np.zeros(6 * LENGTH, np.int8)
    drivers[LENGTH + 3] = 1
    recording = read(tmp_path, {**arrays(episodes=6), "drivers": drivers}).recording
    assert (recording.episodes, len(recording.returns)) == (6, 5)


def test_without_rewards_there_are_no_returns(tmp_path: Path) -> None:
    data = arrays()
    del data["rewards"]
    assert read(tmp_path, data).recording.returns == ()


def test_some_episodes_are_held_out_whole_and_others_by_another_seed(tmp_path: Path) -> None:
    recording = read(tmp_path, arrays(episodes=20)).recording
    held_out = recording.held_out(0)
    by_episode = held_out.reshape(20, LENGTH)
    assert by_episode.all(axis=1).sum() == 4
    assert by_episode.any(axis=1).sum() == 4
    np.testing.assert_array_equal(held_out, recording.held_out(0))
    assert (held_out != recording.held_out(1)).any()


def test_a_recording_of_one_episode_is_cut_into_pieces_and_says_so(tmp_path: Path) -> None:
    data = {name: arrays()[name] for name in ("observations", "actions")}
    recording = read(tmp_path, data).recording
    assert recording.episodes == 10
    assert "the recording marks 1 episode; it is cut into 10 pieces" in recording.notes[0]
    assert read(tmp_path, arrays(episodes=4)).recording.notes == ()


@pytest.mark.parametrize("space", sorted(SPACES))
def test_spaces_are_inferred_where_nobody_names_them(space: str, tmp_path: Path) -> None:
    data = arrays(space)
    if space == "MultiBinary":
        data["actions"] = data["actions"].astype(bool)
    teacher = load_teacher(saved(tmp_path / "data.npz", data))
    assert isinstance(teacher, RecordedTeacher)
    own = teacher.spaces[1]
    assert type(own) is type(SPACES[space])
    assert teacher.observations["obs"].shape == (4,)
    assert f"they are taken for those of {' '.join(str(own).split())}" in teacher.recording.notes[0]
    if isinstance(own, gym.spaces.Box):
        np.testing.assert_allclose([own.low, own.high], [data["actions"].min(0), data["actions"].max(0)])
    else:
        assert own == SPACES[space]


def test_images_and_categories_are_told_by_their_types(tmp_path: Path) -> None:
    images = np.zeros((12, 8, 8, 3), np.uint8)
    labels = np.arange(12) % 3
    image = load_teacher(saved(tmp_path / "i.npz", {"observations": images, "actions": labels}))
    assert image.observations["obs"].dtype == "uint8"
    category = load_teacher(saved(tmp_path / "c.npz", {"observations": labels, "actions": labels}))
    assert category.observations["obs"].categories == (3,)


def test_whoever_asks_is_refused_and_nothing_is_written_of_it(tmp_path: Path) -> None:
    teacher = read(tmp_path, arrays())
    with pytest.raises(KDError, match="answers only for what was recorded"):
        teacher({"obs": np.zeros((1, 4), np.float32)})
    with pytest.raises(KDError, match="it is a recording, so that there is no program"):
        teacher.to_graph()
    assert torch.equal(teacher.first_label().params.max(), torch.tensor(STATED_LOGIT))


def with_nan(name: str) -> dict[str, Any]:
    data = arrays()
    data[name] = data[name].astype(float)
    data[name][7] = np.nan
    return data


BAD: dict[str, tuple[Any, str]] = {
    "empty": (lambda: {key: array[:0] for key, array in arrays().items()}, "holds no states"),
    "nine states": (lambda: {key: array[:9] for key, array in arrays().items()}, "at least 10 are needed"),
    "lengths": (lambda: {**arrays(), "actions": arrays()["actions"][:-1]}, "have 1200 states, actions 1199"),
    "no label": (lambda: {"observations": arrays()["observations"]}, "holds neither actions nor params"),
    "other arrays": (lambda: {"states": np.zeros(3)}, "holds no observations (but states)"),
    "NaN seen": (lambda: with_nan("observations"), "observations 'obs' hold NaN or infinity, first at step 7"),
    "NaN done": (lambda: with_nan("actions"), "actions hold NaN or infinity, first at step 7"),
    "NaN earned": (lambda: with_nan("rewards"), "rewards hold NaN or infinity, first at step 7"),
    "no such action": (lambda: {**arrays(), "actions": arrays()["actions"] + 1}, "the environment's are 0 to 3"),
    "half an action": (lambda: {**arrays(), "actions": arrays()["actions"] + 0.5}, "are whole numbers"),
    "action's shape": (lambda: {**arrays(), "actions": np.zeros((1200, 2), int)}, "have shape (1200, 2)"),
    "observation's shape": (lambda: {**arrays(), "observations": np.zeros((1200, 3))}, "expected (4,)"),
    "rows' shape": (lambda: {**arrays(), "params": np.zeros((1200, 3))}, "expected (1200, 4) for a categorical"),
    "text": (lambda: {**arrays(), "actions": np.full(1200, "a")}, "are of type <U1, expected numbers"),
    "flags' shape": (lambda: {**arrays(), "truncations": np.zeros((1200, 2))}, "truncations have shape (1200, 2)"),
    "a number": (lambda: {**arrays(), "actions": np.array(3)}, "actions are a single number"),
    "rewards' shape": (
        lambda: {**arrays(), "rewards": np.zeros((1200, 2))},
        "rewards have shape (1200, 2), expected (1",
    ),
    "drivers' shape": (
        lambda: {**arrays(), "drivers": np.zeros((1200, 2))},
        "drivers have shape (1200, 2), expected (1",
    ),
    "no float32": (
        lambda: {**arrays(), "observations": np.full((1200, 4), 1e300)},
        "hold NaN or infinity, first at step 0",
    ),
    "nothing seen": (lambda: {**arrays(), "observations": np.zeros((1200, 0))}, "which holds no number of a state"),
    "objects": (lambda: {**arrays(), "actions": np.full(1200, None)}, "not usable as recorded data"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_is_wrong_is_one_line(case: str, tmp_path: Path) -> None:
    data, said = BAD[case]
    assert said in refusal(tmp_path, data())


def test_an_action_outside_the_box_is_named(tmp_path: Path) -> None:
    data = arrays("Box")
    data["actions"][5, 1] = 3.5
    said = refusal(tmp_path, data, (SPACE, SPACES["Box"]))
    assert "the action of step 5 is 3.5 in part 1, outside the space's -2 to 3" in said
    unbounded = gym.spaces.Box(-np.inf, np.inf, (2,), np.float32)
    assert read(tmp_path, data, (SPACE, unbounded)).head.kind == "diag_gaussian"


def test_bits_are_bits(tmp_path: Path) -> None:
    data = arrays("MultiBinary")
    data["actions"] = data["actions"].astype(int) * 2
    assert "are 0 or 1" in refusal(tmp_path, data, (SPACE, SPACES["MultiBinary"]))


def test_statistics_are_not_data_and_data_are_not_statistics(tmp_path: Path) -> None:
    statistics = tmp_path / "statistics.npz"
    write_statistics(statistics, Normalizer(np.zeros(4), np.ones(4)))
    assert "holds VecNormalize statistics, not recorded data" in refused(statistics)
    data = saved(tmp_path / "data.npz", arrays())
    with pytest.raises(KDError, match="holds recorded data, not VecNormalize statistics"):
        read_statistics(Path(data))


def test_a_file_that_would_unpack_to_gigabytes_is_not_unpacked(tmp_path: Path) -> None:
    path = tmp_path / "bomb.npz"
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f4", "fortran_order": False, "shape": (10**9, 4)})
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("observations.npy", "w") as member:
        member.write(header.getvalue())
        for _ in range(MAX_BYTES // (64 << 20) + 1):
            member.write(bytes(64 << 20))
    assert path.stat().st_size < 4 << 20
    assert "unpacks to more than 1024 MiB" in refused(path)


@pytest.mark.parametrize(
    "bounds",
    [
        {"action_low": np.zeros(2)},
        {"action_low": np.zeros(1), "action_high": np.ones(1)},
        {"action_low": np.ones(2), "action_high": np.ones(2)},
        {"action_low": np.array(["a", "b"]), "action_high": np.ones(2)},
        {"action_low": np.zeros(2), "action_high": np.full(2, np.nan)},
    ],
    ids=["one of two", "another shape", "empty", "words", "NaN"],
)
def test_bounds_that_are_none_are_one_line(bounds: dict[str, Any], tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", observations=np.zeros((30, 3)), actions=np.zeros((30, 2)), **bounds)
    with pytest.raises(KDError, match="no bounds of actions") as caught:
        load_teacher(str(tmp_path / "d.npz"))
    assert "\n" not in str(caught.value)


def test_actions_that_nobody_took_are_known_by_the_distributions(tmp_path: Path) -> None:
    taken = np.arange(30) % 2
    np.savez(tmp_path / "d.npz", observations=np.zeros((30, 3)), actions=taken, params=np.zeros((30, 4)))
    teacher = load_teacher(str(tmp_path / "d.npz"))
    assert isinstance(teacher, RecordedTeacher)
    assert teacher.spaces[1] == gym.spaces.Discrete(4)
