"""A run's files that are damaged: one line that names the file, whoever reads it."""

import io
import pickle
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from samples import PROBES

from kd_agent import KDError, distill
from kd_agent.continual.student import kept_states
from kd_agent.distillation.temperature import RECORD, known_choice
from kd_agent.runs import RunFolder, checkpoint_file, open_run
from kd_agent.settings import SweepConfig
from kd_agent.studies.zoo_sweep import sweep

TEXTS = {
    "a list": "[1]",
    "a number": "5",
    "a text": '"a"',
    "null": "null",
    "nothing": "",
    "half of it": '{"sha256": "',
    "nested": "[" * 100_000,
    "nested mappings": '{"a":' * 100_000,
    "bytes": "\x00\x01",
}
"""What may stand in the place of a JSON mapping."""


@pytest.mark.parametrize("what", TEXTS)
def test_what_is_no_json_mapping_is_named(what: str, tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(TEXTS[what])
    with pytest.raises(KDError, match=r"a\.json: damaged") as caught:
        RunFolder(tmp_path).read_json("a.json")
    assert "\n" not in str(caught.value)


def packed(**members: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as out:
        for name, raw in members.items():
            out.writestr(name, raw)
    return buffer.getvalue()


def saved(save: Callable[..., None], *content: Any) -> bytes:
    buffer = io.BytesIO()
    save(buffer, *content)
    return buffer.getvalue()


HUGE = f"{{'descr': '<f8', 'fortran_order': False, 'shape': ({10**15},)}}".ljust(117).encode()
CHECKPOINTS = {
    "nothing": b"",
    "text": b"nonsense",
    "one array": saved(np.save, np.ones(3)),
    "a pickle": pickle.dumps([1]),
    "an array of objects": saved(np.savez, np.array([{}], object)),
    "a member that is no array": packed(text=b"hello"),
    "a member of a wrong header": packed(**{"a.npy": b"\x93NUMPY\x01\x00\x04\x00((((\n"}),
    "a member of a huge shape": packed(**{"a.npy": b"\x93NUMPY\x01\x00v\x00" + HUGE + b"\n"}),
}


@pytest.mark.parametrize("what", CHECKPOINTS)
def test_what_is_no_checkpoint_is_named(what: str, tmp_path: Path) -> None:
    (tmp_path / "checkpoint").mkdir()
    (tmp_path / checkpoint_file("driver")).write_bytes(CHECKPOINTS[what])
    with pytest.raises(KDError, match=r"driver\.npz: damaged checkpoint") as caught:
        RunFolder(tmp_path).load_arrays("driver")
    assert "\n" not in str(caught.value)


def test_a_block_that_takes_a_file_apart_names_it(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    for error in (KeyError("sha256"), TypeError("a\nb"), ValueError("x"), KDError("too few"), AttributeError("y")):
        with pytest.raises(KDError, match=r"f\.json: damaged \(") as caught, folder.reading("f.json"):
            raise error
        assert "\n" not in str(caught.value)
    with pytest.raises(KDError, match=r"^[^(]*f\.json: is known already$"), folder.reading("f.json"):
        raise KDError(f"{tmp_path / 'f.json'}: is known already")
    with pytest.raises(ZeroDivisionError), folder.reading("f.json"):
        raise ZeroDivisionError


def test_a_folder_that_holds_a_run_says_what_helps(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("")
    with pytest.raises(KDError, match="add --resume or choose another --out"), open_run(tmp_path, resume=False):
        pass
    with (
        pytest.raises(KDError, match="holds a run already; choose another --out"),
        open_run(tmp_path, resume=False, resumes=False),
    ):
        pass


@pytest.fixture
def run(runs: dict[str, Any], tmp_path: Path) -> Path:
    """A copy of a finished run."""
    return Path(shutil.copytree(runs["Discrete"][0], tmp_path / "run"))


def resumed(folder: Path) -> str:
    """The line with which a resume refuses."""
    with pytest.raises(KDError) as caught:
        distill({"env": PROBES["Discrete"], "out": str(folder), "resume": True, "quiet": True})
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("text", ["[1]", "5", "{}", '{"sha256": {"a": [1]}}', "[" * 100_000])
def test_a_damaged_teacher_is_one_line_for_a_resume(text: str, run: Path) -> None:
    (run / "teacher.json").write_text(text)
    message = resumed(run)
    assert "teacher.json: damaged" in message or "begun with another teacher" in message


@pytest.mark.parametrize("text", ["[1]", "5", "a: !!bool foo", "env: [1", "- " * 1_000, "{}", "episodes: 1:1:1:1"])
def test_damaged_settings_are_one_line_for_a_resume(text: str, run: Path) -> None:
    (run / "config.yaml").write_text(text)
    assert "config.yaml" in resumed(run)


@pytest.mark.parametrize("name", ["env_kwargs", "episodes", "teacher", "training", "seed"])
def test_settings_that_lack_one_are_damaged_before_a_teacher_is_trained_for_them(name: str, run: Path) -> None:
    told = yaml.safe_load((run / "config.yaml").read_text())
    del told[name]
    (run / "config.yaml").write_text(yaml.safe_dump(told))
    assert resumed(run).endswith(f"config.yaml: damaged: it lacks {name}")


def changed(path: Path, **arrays: Any) -> None:
    """The same checkpoint with other arrays; None leaves one out."""
    with np.load(path) as archive:
        kept = {name: archive[name] for name in archive if name not in arrays}
    np.savez(path, **kept, **{name: array for name, array in arrays.items() if array is not None})


DAMAGE: dict[str, tuple[str, dict[str, Any]]] = {
    "no number of rounds": ("driver", {"finished rounds": None}),
    "rounds that are no number": ("driver", {"finished rounds": np.ones(2)}),
    "costs that are no number": ("driver", {"cost.collect_steps": np.array("many")}),
    "weights of another shape": ("driver", {"0.trunk.0.weight": np.ones((2, 2)), "0.extra": np.ones(3)}),
    "weights that are text": ("driver", {"0.extra": np.array(["a"])}),
    "a round without labels": ("round-1", {"params": None}),
    "a round without observations": ("round-1", {"obs.obs": None}),
    "a round of another observation": ("round-1", {"obs.obs": np.ones((40, 4, 7), np.float32)}),
    "a round with an array too many": ("round-1", {"strange": np.ones((40, 4))}),
    "labels of another head": ("round-1", {"params": np.ones((40, 4, 9), np.float32)}),
    "labels that are not finite": ("round-1", {"params": np.full((40, 4, 4), np.nan, np.float32)}),
    "episodes without actions": ("episodes-2", {"actions": None}),
    "episodes of other environments": ("episodes-2", {"lengths": np.ones(7, np.int64)}),
    "a best without its number": ("best", {"attempt": None}),
    "a best of three numbers": ("best", {"attempt": np.ones(3)}),
    "a best without returns": ("best", {"returns.0": None}),
    "a best whose grade is one number": ("best", {"grade.0": np.array(1.0)}),
    "a teacher without returns": ("best", {"teacher.0": None}),
}


@pytest.mark.parametrize("what", DAMAGE)
def test_a_checkpoint_of_other_content_is_one_line_for_a_resume(what: str, run: Path) -> None:
    name, arrays = DAMAGE[what]
    changed(run / checkpoint_file(name), **arrays)
    message = resumed(run)
    assert checkpoint_file(name) in message or "its checkpoint is of another student" in message


def test_kept_states_that_are_damaged_are_named(run: Path) -> None:
    changed(run / checkpoint_file("round-1"), params=None)
    with pytest.raises(KDError, match=r"round-1\.npz: damaged"):
        kept_states(run / "student.safetensors")


@pytest.mark.parametrize("text", ["[1]", "{}", '{"chosen": "much"}'])
def test_a_damaged_choice_of_temperature_is_named(text: str, tmp_path: Path) -> None:
    (tmp_path / RECORD).write_text(text)
    folder = RunFolder(tmp_path)
    with pytest.raises(KDError, match=f"{RECORD}: damaged"), folder.reading(RECORD):
        float((known_choice(folder) or {})["chosen"])


@pytest.mark.parametrize("text", ["[1]", "{}", '{"cost": {}}', "{"])
def test_a_damaged_result_is_a_row_of_a_sweep_with_its_error(text: str, run: Path, tmp_path: Path) -> None:
    (tmp_path / "zoo" / "a").mkdir(parents=True)
    (tmp_path / "zoo" / "a" / "CartPole-v1.zip").write_bytes(b"")
    shutil.move(run, tmp_path / "out" / "a")
    (tmp_path / "out" / "a" / "result.json").write_text(text)
    (row,) = sweep(SweepConfig(teachers=str(tmp_path / "zoo"), out=str(tmp_path / "out"), quiet=True))
    assert "result.json: damaged" in row["error"]
