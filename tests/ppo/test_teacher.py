"""Training a teacher: once per settings and seed, and its statistics travel with it."""

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ppo_teachers import TINY, train
from samples import PROBES
from stable_baselines3 import PPO

from kd_agent import KDError, evaluate, load_teacher
from kd_agent.policies.normalizer import Normalizer
from kd_agent.ppo import teacher as ppo_teacher
from kd_agent.ppo.teacher import trained_teacher
from kd_agent.runs.reporter import Reporter
from kd_agent.settings import RunConfig, resolve
from kd_agent.teachers._statistics import read_statistics


def test_the_second_call_does_not_train_and_other_settings_do(tmp_path: Path, monkeypatch: Any) -> None:
    first = train(tmp_path)
    content = first.read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(PPO, "learn", lambda *a, **k: pytest.fail("trained again"))
        assert train(tmp_path) == first
    assert first.read_bytes() == content
    others = [train(tmp_path, seed=1), train(tmp_path, gamma=0.5), train(tmp_path, PROBES["MultiBinary"])]
    assert len({first, *others}) == 4
    assert all(path.is_file() for path in others)


def test_training_is_shown_while_it_lasts(tmp_path: Path) -> None:
    lines: list[str] = []
    reporter = Reporter()
    reporter.say = lines.append  # type: ignore[method-assign]
    config = resolve(RunConfig, {"env": PROBES["Discrete"], "training": TINY})
    trained_teacher(config, reporter, tmp_path)
    assert lines[0].startswith("training the teacher")
    assert "IQM" in lines[-1]


def test_the_same_seed_trains_the_same_weights(tmp_path: Path) -> None:
    one, two, three = (load_teacher(str(train(tmp_path / n, seed=s))) for n, s in (("a", 0), ("b", 0), ("c", 1)))
    batch = {"obs": np.random.default_rng(0).normal(size=(5, 4)).astype(np.float32)}
    assert torch.equal(one(batch).params, two(batch).params)
    assert not torch.equal(one(batch).params, three(batch).params)


@pytest.mark.parametrize("activation", ["relu", "silu", "elu"])
def test_a_teacher_that_we_train_is_one_that_we_read(activation: str, tmp_path: Path) -> None:
    path = train(tmp_path, PROBES["Box"], activation=activation, hidden=[8, 4], use_sde=activation == "relu")
    teacher, model = load_teacher(str(path)), PPO.load(path, device="cpu")
    batch = np.random.default_rng(0).normal(size=(9, 4)).astype(np.float32)
    expected, _ = model.predict(batch, deterministic=True)
    np.testing.assert_allclose(teacher.predict(batch, deterministic=True)[0], expected, atol=1e-5)
    assert teacher.origin.num_parameters == 4 * 8 + 8 + 8 * 4 + 4 + 4 * 2 + 2


def test_a_teacher_trained_under_normalisation_acts_on_raw_observations(tmp_path: Path) -> None:
    path = train(tmp_path, normalize=True)
    statistics = np.load(path.with_suffix(".npz"))
    teacher, model = load_teacher(str(path)), PPO.load(path, device="cpu")
    batch = 2 * np.random.default_rng(0).normal(size=(64, 4)).astype(np.float32)
    normal = np.clip((batch - statistics["mean"]) / np.sqrt(statistics["var"] + statistics["epsilon"]), -10, 10)
    logits = model.policy.get_distribution(torch.from_numpy(normal.astype(np.float32))).distribution.logits
    ours = teacher({"obs": batch}).params.log_softmax(-1)
    np.testing.assert_allclose(ours.numpy(), logits.detach().numpy(), atol=1e-5)
    raw = model.policy.get_distribution(torch.from_numpy(batch)).distribution.logits
    assert (raw - logits).abs().max() > 1e-4


def test_a_normalised_teacher_without_its_statistics_is_refused(tmp_path: Path) -> None:
    path = train(tmp_path, normalize=True)
    path.with_suffix(".npz").unlink()
    with pytest.raises(KDError, match="statistics are missing"):
        load_teacher(str(path))
    assert load_teacher(str(path), allow_missing_statistics=True).origin.algo == "PPO"


def test_an_interrupted_training_is_not_taken_for_a_finished_one(tmp_path: Path, monkeypatch: Any) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("kd_agent.ppo.training.evaluate", once(evaluate))
        with pytest.raises(KeyboardInterrupt):
            train(tmp_path, normalize=True)
    assert list(tmp_path.glob("*/teacher.zip")) == []
    path, other = train(tmp_path, normalize=True), train(tmp_path / "uninterrupted", normalize=True)
    batch = {"obs": np.random.default_rng(0).normal(size=(5, 4)).astype(np.float32)}
    assert torch.equal(load_teacher(str(path))(batch).params, load_teacher(str(other))(batch).params)
    assert [p.name for p in path.parent.glob("unfinished*")] == []


def once(function: Any) -> Any:
    """The function, interrupted by Ctrl-C when it is called again."""
    calls: list[Any] = []

    def call(*arguments: Any, **settings: Any) -> Any:
        calls.append(arguments)
        if len(calls) > 1:
            raise KeyboardInterrupt
        return function(*arguments, **settings)

    return call


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(KDError, match="cannot be written"):
        train(tmp_path / "file")


@pytest.mark.parametrize("damage", ["truncated", "text", "pickle", "another shape", "negative", "nan", "missing key"])
def test_damaged_statistics_are_refused(damage: str, tmp_path: Path) -> None:
    path, good = tmp_path / "vecnormalize.npz", {"mean": np.zeros(4), "var": np.ones(4), "clip": 10.0, "epsilon": 1e-8}
    changes: dict[str, dict[str, Any]] = {
        "another shape": {"var": np.ones(3)},
        "negative": {"var": -np.ones(4)},
        "nan": {"mean": np.full(4, np.nan)},
        "pickle": {"mean": np.array([{}], object)},
    }
    values = {**good, **changes.get(damage, {})}
    if damage == "missing key":
        values.pop("clip")
    np.savez(path, **values)
    if damage == "truncated":
        path.write_bytes(path.read_bytes()[:-40])
    if damage == "text":
        path.write_text("no statistics")
    with pytest.raises(KDError):
        read_statistics(path)


def test_statistics_normalise_as_vecnormalize_does() -> None:
    normalizer = Normalizer(np.array([1.0, 2.0]), np.array([4.0, 0.0]), clip=3.0)
    answer = normalizer(np.array([[3.0, 2.0], [100.0, 1.0]], np.float32))
    np.testing.assert_allclose(answer, [[1, 0], [3, -3]])
    assert answer.dtype == np.float32


def test_two_who_want_the_same_teacher_at_once_train_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def slowly(config: Any, path: Path, *rest: Any) -> None:
        with (tmp_path / "trainings").open("a") as file:
            file.write("x")
        time.sleep(0.3)
        path.write_bytes(b"a teacher")

    monkeypatch.setattr(ppo_teacher, "train", slowly)
    with ThreadPoolExecutor(3) as pool:
        paths = list(pool.map(lambda _: train(tmp_path / "teachers"), range(3)))
    assert len(set(paths)) == 1
    assert paths[0].read_bytes() == b"a teacher"
    assert (tmp_path / "trainings").read_text() == "x"


def test_a_teachers_folder_whose_lock_is_a_planted_link_is_refused(tmp_path: Path) -> None:
    path = train(tmp_path)
    path.unlink()
    (path.parent / ".lock").unlink()
    (path.parent / ".lock").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(KDError, match="cannot be locked"):
        train(tmp_path)
    assert not (tmp_path / "elsewhere").exists()
