"""Trees of JAX parameters as data: what is damaged or claims too much is refused, and nothing in a pickle is called."""

import pickle
import sys
import time
import tracemalloc
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
import pytest
from forged_checkpoints import Marking, outcome
from safetensors.numpy import save
from saved_policies import BY_FILE, SAVED, Saved

from kd_agent import KDError
from kd_agent.teachers._flax_file import is_tree, read_tree

FLAX = [saved for saved in SAVED if saved.file.startswith("flax")]
IDS = [saved.file for saved in FLAX]


def array(shape: Any = (2,), dtype: Any = "float32", numbers: bytes = bytes(8)) -> msgpack.ExtType:
    """An array as Flax packs it, of what it claims to be."""
    return msgpack.ExtType(1, msgpack.packb((shape, dtype, numbers)))


def refused(path: Path) -> str:
    try:
        found = read_tree(str(path))
    except KDError as error:
        message = str(error)
    else:
        pytest.fail(f"read as {list(found[0])}")
    assert "\n" not in message
    assert str(path) in message
    return message


def test_the_three_formats_of_one_tree_are_one() -> None:
    trees = [read_tree(str(BY_FILE[f"flax/brax_ppo.{end}"].path))[0] for end in ("msgpack", "safetensors", "pkl")]
    names = {"0.mean", "0.std", "1.params.hidden_0.kernel", "1.params.hidden_0.bias", "1.params.hidden_2.bias"}
    for tree in trees:
        assert names <= set(tree)
        for name in names:
            np.testing.assert_array_equal(tree[name], trees[0][name])


def test_a_file_of_parameters_is_told_from_a_student_and_from_other_pickles(tmp_path: Path) -> None:
    (tmp_path / "vecnormalize.pkl").write_bytes(pickle.dumps({"mean": 1}))
    (tmp_path / "damaged.safetensors").write_bytes((2**63).to_bytes(8, "little"))
    (tmp_path / "other.safetensors").write_bytes(save({"0.weight": np.zeros((2, 2), np.float32)}))
    for name in ("vecnormalize.pkl", "damaged.safetensors", "other.safetensors", "missing.safetensors", "missing.pkl"):
        assert not is_tree(str(tmp_path / name)), name
    for saved in FLAX:
        assert is_tree(str(saved.path))
    assert not is_tree(None)


def test_hostile_msgpack_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.msgpack"
    cases: dict[str, bytes] = {
        "empty": b"",
        "a long array": b"\xdd\xff\xff\xff\xff",
        "a long map": b"\xdf\xff\xff\xff\xff",
        "a long extension": b"\xc9\xff\xff\xff\xff\x01",
        "nested": b"\x91" * 100_000 + b"\x90",
        "nested maps": b"\x81\xa1a" * 2000 + b"\x80",
        "a number": b"\x05",
        "nothing": msgpack.packb({}),
        "a large claim": msgpack.packb({"a": array((10**9, 10**9))}),
        "a negative claim": msgpack.packb({"a": array((-2,))}),
        "a claim of words": msgpack.packb({"a": array("ab")}),
        "a high rank": msgpack.packb({"a": array((1,) * 30, numbers=bytes(4))}),
        "objects": msgpack.packb({"a": array((1,), "object")}),
        "code": msgpack.packb({"a": array((1,), "__import__('os')")}),
        "no array": msgpack.packb({"a": msgpack.ExtType(1, b"\xc1")}),
        "whole numbers alone": msgpack.packb({"a": array((2,), "int32")}),
        "NaN": msgpack.packb({"a": array((2,), "float32", np.float32([1, np.nan]).tobytes())}),
        "many": msgpack.packb({str(i): array() for i in range(2000)}),
    }
    tracemalloc.start()
    began = time.process_time()
    for what, raw in cases.items():
        path.write_bytes(raw)
        assert refused(path), what
    assert time.process_time() - began < 5
    assert tracemalloc.get_traced_memory()[1] < 200 << 20
    tracemalloc.stop()


def test_hostile_safetensors_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    honest = save({"Dense_0.kernel": np.ones((2, 3), np.float32)})
    size = int.from_bytes(honest[:8], "little")
    many = save({f"Dense_{i}.kernel": np.ones((1, 1), np.float32) for i in range(1100)})
    cases = {
        "empty": b"",
        "a long header": (2**63).to_bytes(8, "little") + b"{",
        "cut": honest[:-1],
        "trailing": honest + b"x",
        "another shape": honest.replace(b"[2,3]", b"[9,9]"),
        "no JSON": honest[:8] + b"[" * size + honest[8 + size :],
        "many": many,
        "NaN": save({"Dense_0.kernel": np.full((2, 3), np.nan, np.float32)}),
    }
    for what, raw in cases.items():
        path.write_bytes(raw)
        assert refused(path), what


def test_a_pickle_of_brax_runs_nothing(tmp_path: Path) -> None:
    mark, path = tmp_path / "mark", tmp_path / "a.pkl"
    raw = BY_FILE["flax/brax_ppo.pkl"].path.read_bytes()
    payload = pickle.dumps(Marking(mark), 4)[2:-1]
    frame = payload[payload.index(b"\x8c") :]
    for forged in (raw[:-1] + frame + b"0.", raw[:-1] + frame + b".", raw[:2] + frame + b"0" + raw[11:]):
        path.write_bytes(forged)
        outcome(path, BY_FILE["flax/brax_ppo.pkl"])
        assert not mark.exists()
    deep = raw[:-1] + b"\x85" * 100 + b"."
    path.write_bytes(deep)
    assert "deeper" in refused(path)
    path.write_bytes(raw.replace(b"\x8c\x02f4", b"\x8c\x02O8"))
    assert "damaged" in refused(path)


@pytest.mark.parametrize("saved", FLAX, ids=IDS)
def test_a_mutant_loads_or_is_refused(saved: Saved, tmp_path: Path) -> None:
    raw, rng = saved.path.read_bytes(), np.random.default_rng(0)
    path = tmp_path / saved.path.name
    outcomes = []
    for _ in range(100):
        mutant = bytearray(raw)
        for place in rng.integers(len(raw), size=2):
            mutant[place] = rng.integers(256)
        path.write_bytes(mutant)
        outcomes.append(outcome(path, saved))
    assert set(outcomes) <= {"loaded", "refused"}
    assert "refused" in outcomes


def test_without_msgpack_its_files_say_what_they_need(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "msgpack", None)
    with pytest.raises(KDError, match=r"choice\.msgpack: a file of Flax needs: pip install msgpack"):
        read_tree(str(BY_FILE["flax/choice.msgpack"].path))
    # The others need nothing.
    assert read_tree(str(BY_FILE["flax/brax_ppo.safetensors"].path))
    assert read_tree(str(BY_FILE["flax/brax_ppo.pkl"].path))


def test_a_pickle_that_holds_one_part_many_times_over_is_refused_at_once(tmp_path: Path) -> None:
    """Ten of ten of ten ...: a few hundred bytes that would be ten million parts."""
    tree: Any = 1.0
    for _ in range(12):
        tree = [tree] * 10
    path = tmp_path / "policy.pkl"
    path.write_bytes(b"\x80\x02" + pickle.dumps([tree, "brax.training.acme.running_statistics"], 2)[2:])
    begun = time.process_time()
    assert "more than 50000 parts" in refused(path)
    assert time.process_time() - begun < 2
