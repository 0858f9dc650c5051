"""Files of torch.save as data: the numbers are torch's own, and what claims more than it has is refused."""

import io
import pickle
import tracemalloc
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from forged_checkpoints import Marking, outcome
from saved_policies import BY_FILE, SAVED

from kd_agent import KDError, load_teacher
from kd_agent.teachers import _checkpoint
from kd_agent.teachers._checkpoint import outline_of, read_checkpoint
from kd_agent.teachers._torch_file import Members

RUN = ("imitation", "torchscript")
"""Whose files torch reads only by running them."""
FILES = [saved.path for saved in SAVED if saved.path.suffix in (".pt", ".pth", ".cleanrl_model")]


def save(path: Path, value: Any) -> Path:
    torch.save(value, path)
    return path


def repack(path: Path, new: Path, changes: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> Path:
    """A torch file with other content for some of its members, by the ends of their names."""
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(new, "w", compression) as out:
        for info in old.infolist():
            raw = old.read(info)
            for end, content in changes.items():
                raw = content if info.filename.endswith(end) else raw
            out.writestr(info.filename, raw)
    return new


def refused(path: Path) -> str:
    with pytest.raises(KDError) as caught:
        read_checkpoint(str(path)).tensors()
    message = str(caught.value)
    assert "\n" not in message
    assert str(path) in message
    return message


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "bfloat16", "int64", "int32", "uint8", "bool"])
def test_tensors_are_torchs_own_whatever_their_type(dtype: str, tmp_path: Path) -> None:
    tensor = (torch.randn(5, 3) * 40).to(getattr(torch, dtype))
    path = save(tmp_path / "a.pt", {"net": {"w": tensor, "b": tensor[2]}, "scalar": tensor[0, 0], "iter": 3})
    checkpoint = read_checkpoint(str(path))
    found = checkpoint.tensors("net.")
    np.testing.assert_array_equal(found["w"], tensor.float().numpy())
    np.testing.assert_array_equal(found["b"], tensor[2].float().numpy())
    assert checkpoint.tensors()["scalar"].shape == ()
    assert checkpoint.outline.values == {"iter": 3}


@pytest.mark.parametrize("path", [path for path in FILES if path.parent.name not in RUN], ids=lambda path: path.name)
def test_real_files_have_the_tensors_that_torch_finds(path: Path) -> None:
    found = read_checkpoint(str(path)).tensors()
    count = 0
    stack = [("", torch.load(path, weights_only=True))]
    while stack:
        name, value = stack.pop()
        items = (
            value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list | tuple) else ()
        )
        stack += [(f"{name}.{key}" if name else str(key), part) for key, part in items]
        if isinstance(value, torch.Tensor):
            np.testing.assert_array_equal(found[name], value.float().numpy())
            count += 1
    assert count == len(found) > 5


def test_an_optimiser_stays_unread(tmp_path: Path) -> None:
    path = save(tmp_path / "a.pt", {"net": {"w": torch.ones(2)}, "optimizer": {"m": torch.full((2,), torch.nan)}})
    checkpoint = read_checkpoint(str(path))
    assert checkpoint.tensors("net.")["w"].tolist() == [1, 1]
    with pytest.raises(KDError, match=r"optimizer\.m is NaN or infinite"):
        checkpoint.tensors("optimizer.")


def test_an_outline_reads_no_numbers_and_is_read_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(Members, "storage", lambda *args: pytest.fail("numbers were read"))
    opened = []
    own = _checkpoint.read_pickle
    monkeypatch.setattr(_checkpoint, "read_pickle", lambda *args: opened.append(1) or own(*args))
    path = save(tmp_path / "a.pt", {"w": torch.ones(2)})
    for _ in range(5):
        outline = outline_of(str(path))
        assert outline is not None
        assert list(outline.stored) == ["w"]
    assert len(opened) == 1
    save(path, {"another": torch.ones(3)})
    outline = outline_of(str(path))
    assert outline is not None
    assert list(outline.stored) == ["another"]
    for other in (None, 3, "", str(tmp_path), "missing.pt", "README.md", "\0.pt"):
        assert outline_of(other) is None


def test_tensors_that_claim_more_than_they_have_are_refused(tmp_path: Path) -> None:
    whole = torch.zeros(1 << 18)
    claims: dict[str, Any] = {
        "stride 0": {"w": torch.zeros(1).expand(10**6, 10**6)},
        "transposed": {"w": torch.zeros(3, 4).t()},
        "shared": {f"w{i}": whole[i : i + (1 << 17)] for i in range(200)},
        "many": {f"w{i}": torch.zeros(1) for i in range(2000)},
        "infinite": {"w": torch.full((2,), torch.inf)},
        "overflow": {"w": torch.full((2,), 1e300, dtype=torch.float64)},
        "complex": {"w": torch.zeros(2, dtype=torch.complex64)},
    }
    tracemalloc.start()
    for what, state in claims.items():
        assert refused(save(tmp_path / "a.pt", state)), what
    assert tracemalloc.get_traced_memory()[1] < 200 << 20
    tracemalloc.stop()
    # One tensor of several names is one, and an axis of one number has any stride.
    save(tmp_path / "a.pt", {f"w{i}": whole for i in range(200)} | {"row": torch.zeros(8)[::8]})
    assert len(read_checkpoint(str(tmp_path / "a.pt")).tensors()) == 201


def program_of(shape: bytes, stride: bytes, key: bytes = b"0", offset: bytes = b"K\x00") -> bytes:
    """A pickle of one tensor of four numbers that says what it likes."""
    storage = b"((X\x07\x00\x00\x00storagectorch\nFloatStorage\nX" + len(key).to_bytes(4, "little") + key
    storage += b"X\x03\x00\x00\x00cpuK\x04tQ"
    return (
        b"\x80\x02}X\x01\x00\x00\x00wctorch._utils\n_rebuild_tensor_v2\n"
        + storage
        + offset
        + shape
        + stride
        + b"\x89NtRs."
    )


@pytest.mark.parametrize(
    ("shape", "stride", "more"),
    [
        (b"J\xff\xff\xff\x7f\x85", b"K\x01\x85", {}),
        (b"\x8a\x0b" + b"\x01" * 11 + b"\x85", b"K\x01\x85", {}),
        (b"J\xff\xff\xff\xff\x85", b"K\x01\x85", {}),
        (b"K\x04\x85", b"K\x01\x85", {"offset": b"K\x01"}),
        (b"K\x04\x85", b"K\x01\x85", {"offset": b"J\xff\xff\xff\xff"}),
        (b"K\x04\x85", b"K\x01\x85", {"key": b"../../secret"}),
        (b"K\x04\x85", b"K\x01\x85", {"key": b"9"}),
        (b"K\x04\x85", b"K\x01K\x01\x86", {}),
        (b"N", b"K\x01\x85", {}),
        (b"(" + b"K\x01" * 20 + b"t", b"(" + b"K\x01" * 20 + b"t", {}),
        (b"G?\xf0\x00\x00\x00\x00\x00\x00\x85", b"K\x01\x85", {}),
    ],
)
def test_forged_tensors_are_refused(shape: bytes, stride: bytes, more: dict[str, bytes], tmp_path: Path) -> None:
    path = save(tmp_path / "a.pt", {"w": torch.zeros(4)})
    honest = repack(path, tmp_path / "honest.pt", {"data.pkl": program_of(b"K\x04\x85", b"K\x01\x85")})
    assert read_checkpoint(str(honest)).tensors()["w"].tolist() == [0] * 4
    forged = repack(path, tmp_path / "forged.pt", {"data.pkl": program_of(shape, stride, **more)})
    refused(forged)


def test_what_is_packed_otherwise_than_torch_packs_is_refused(tmp_path: Path) -> None:
    path = save(tmp_path / "a.pt", {"w": torch.randn(1000)})
    assert "compressed" in refused(repack(path, tmp_path / "b.pt", {}, zipfile.ZIP_DEFLATED))
    assert "big-endian" in refused(repack(path, tmp_path / "b.pt", {"byteorder": b"big"}))
    assert "exceeds" in refused(repack(path, tmp_path / "b.pt", {"data.pkl": bytes(9 << 20)}, zipfile.ZIP_DEFLATED))
    with pytest.warns(UserWarning, match="Duplicate"), zipfile.ZipFile(path, "a") as archive:
        archive.writestr("a/data.pkl", b"N.")
    assert "twice" in refused(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("other", b"")
    assert "no file of torch" in refused(path)
    old = io.BytesIO()
    torch.save({"w": torch.zeros(4)}, old, _use_new_zipfile_serialization=False)
    for raw in (old.getvalue(), pickle.dumps(3), b"", b"PK\x05\x06" + bytes(18)):
        path.write_bytes(raw)
        refused(path)


def test_what_is_held_many_times_or_deep_is_refused(tmp_path: Path) -> None:
    path = save(tmp_path / "a.pt", {"w": torch.zeros(4)})
    # {0: x, 1: x} of {0: x, 1: x} of ..., with nothing in the end.
    doubled = b"\x80\x02}q\x00" + b"0}q\x01(K\x00h\x00K\x01h\x00u\x940h\x01q\x00" * 31 + b"."
    assert "holds more than" in refused(repack(path, tmp_path / "b.pt", {"data.pkl": doubled}))
    deep = b"\x80\x02" + b"]" * 1000 + b"a" * 999 + b"."
    assert "deeper than" in refused(repack(path, tmp_path / "b.pt", {"data.pkl": deep}))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_no_code_of_a_file_runs_wherever_it_stands(path: Path, tmp_path: Path) -> None:
    saved = next(saved for saved in SAVED if saved.path == path)
    mark = tmp_path / "mark"
    with zipfile.ZipFile(path) as archive:
        program = next(archive.read(name) for name in archive.namelist() if name.endswith("/data.pkl"))
    payload = pickle.dumps(Marking(mark), 2)[2:-1]
    forged = {
        "alone": pickle.dumps(Marking(mark), 2),
        "beside": program[:2] + payload + b"0" + program[2:],
        "within": program[:-1] + payload + b"0.",
    }
    for what, raw in forged.items():
        file = repack(path, tmp_path / f"a{path.suffix}", {"/data.pkl": raw})
        assert outcome(file, saved) in ("loaded", "refused")
        assert not mark.exists(), what


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_a_mutant_loads_or_is_refused(path: Path, tmp_path: Path) -> None:
    saved = next(saved for saved in SAVED if saved.path == path)
    raw, rng = path.read_bytes(), np.random.default_rng(0)
    file = tmp_path / f"mutant{path.suffix}"
    outcomes = []
    for _ in range(25):
        mutant = bytearray(raw)
        for place in rng.integers(len(raw), size=3):
            mutant[place] = rng.integers(256)
        file.write_bytes(mutant)
        outcomes.append(outcome(file, saved))
    assert set(outcomes) <= {"loaded", "refused"}
    assert "refused" in outcomes


def test_a_file_of_no_library_says_what_it_was_held_against(tmp_path: Path) -> None:
    path = save(tmp_path / "model.pt", {"encoder.weight": torch.zeros(3, 4)})
    env = BY_FILE["skrl/agent_dqn.pt"].env
    with pytest.raises(
        KDError, match=r"model\.pt: its tensors \(encoder\.weight.*rsl_rl, skrl, rl_games.*Flax or Brax"
    ):
        load_teacher(str(path), env=env)
    with pytest.raises(KDError, match="no such file"):
        load_teacher(str(tmp_path / "missing.pth"), env=env)
    (tmp_path / "junk.pt").write_bytes(b"junk")
    with pytest.raises(KDError, match=r"junk\.pt: no file of torch"):
        load_teacher(str(tmp_path / "junk.pt"), env=env)


def test_a_parameter_of_parameters_is_none(tmp_path: Path) -> None:
    program = b"\x80\x02ctorch._utils\n_rebuild_parameter\nq\x000" + b")"
    # Each is called with the one before.
    for _ in range(20_000):
        program += b"q\x010h\x00h\x01\x85R"
    path = repack(save(tmp_path / "a.pt", {"w": torch.zeros(2)}), tmp_path / "b.pt", {"data.pkl": program + b"."})
    assert read_checkpoint(str(path)).tensors() == {}
