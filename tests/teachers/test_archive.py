"""Hostile and damaged zips of every algorithm: nothing in them is ever run, and every refusal is one line."""

import base64
import contextlib
import io
import json
import os
import pickle
import random
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from samples import members, pack, refused
from small_agents import CHOICE, VECTOR, trained

from kd_agent import KDError, load_teacher

pytestmark = pytest.mark.filterwarnings("ignore")

PLACES = (
    "observation_space",
    "action_space",
    "policy_class",
    "policy_kwargs",
    "lr_schedule",
    "_last_obs",
    "_last_episode_starts",
    "ep_info_buffer",
    "rollout_buffer_class",
    "something_new",
)


def with_policy(small: Path, path: Path, raw: bytes) -> Path:
    return pack(path, {**members(small), "policy.pth": raw})


def saved(state: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(state, buffer)
    return buffer.getvalue()


class Payload:
    """Makes a folder when it is unpickled."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.canary),)


def poisoned(small: Path, path: Path, canary: Path, places: tuple[str, ...] = PLACES) -> Path:
    content = members(small)
    data = json.loads(content["data"])
    for place in places:
        record = data.get(place)
        record = dict(record) if isinstance(record, dict) else {":type:": "<class 'object'>"}
        data[place] = {**record, ":serialized:": base64.b64encode(pickle.dumps(Payload(canary))).decode()}
    content["data"] = json.dumps(data).encode()
    return pack(path, content)


def test_the_payload_would_run_if_anybody_unpickled_it(tmp_path: Path) -> None:
    pickle.loads(pickle.dumps(Payload(tmp_path / "canary")))
    assert (tmp_path / "canary").is_dir()


@pytest.mark.parametrize("place", PLACES)
def test_a_payload_in_the_data_does_not_run(place: str, small: Path, tmp_path: Path) -> None:
    teacher = load_teacher(str(poisoned(small, tmp_path / "t.zip", tmp_path / "canary", (place,))))
    assert teacher({"obs": np.zeros((1, 4), np.float32)}).params.shape == (1, 4)
    assert not (tmp_path / "canary").exists()


def test_an_audit_hook_sees_nothing_unpickled_and_nothing_run(small: Path, tmp_path: Path) -> None:
    path = poisoned(small, tmp_path / "t.zip", tmp_path / "canary")
    code = f"""
import sys
from kd_agent import load_teacher
load_teacher({str(small)!r})
events = []
watched = ("pickle.find_class", "os.system", "os.mkdir", "subprocess.Popen", "os.exec", "os.posix_spawn")
sys.addaudithook(lambda event, args: events.append((event, args)) if event in watched else None)
print(load_teacher({str(path)!r}).origin.algo)
import pickle, collections
assert not events, events
pickle.loads(pickle.dumps(collections.OrderedDict()))
assert events, "the hook is blind"
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["A2C"]
    assert not (tmp_path / "canary").exists()


def test_a_payload_in_the_weights_does_not_run(small: Path, tmp_path: Path) -> None:
    payload = Payload(tmp_path / "canary")
    state = torch.load(io.BytesIO(members(small)["policy.pth"]), weights_only=True)
    inner = io.BytesIO(saved(state))
    with zipfile.ZipFile(inner) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    program = next(name for name in parts if name.endswith("data.pkl"))
    swapped = pack(tmp_path / "inner", {**parts, program: pickle.dumps(payload)}).read_bytes()
    hostile = {
        "a bare pickle": pickle.dumps(payload),
        "a pickle among the tensors": saved({**state, "extra": payload}),
        "another program": swapped,
        "a legacy file": _legacy({**state, "extra": payload}),
    }
    for what, raw in hostile.items():
        refused(with_policy(small, tmp_path / "t.zip", raw))
        assert not (tmp_path / "canary").exists(), what


def _legacy(state: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(state, buffer, _use_new_zipfile_serialization=False)
    return buffer.getvalue()


def outcome(path: Path) -> str:
    """Whether a zip loads as a teacher that answers, or is refused in one line."""
    try:
        teacher = load_teacher(str(path))
    except KDError as error:
        return "refused" if "\n" not in str(error) else "refused in several lines"
    return "loaded" if len(teacher({"obs": np.zeros((1, 4), np.float32)}).params) == 1 else "without an answer"


def test_seeded_mutants_are_refused_or_load_and_nothing_else(small: Path, tmp_path: Path) -> None:
    raw, rng, path = small.read_bytes(), random.Random(0), tmp_path / "mutant.zip"
    outcomes = {"loaded": 0, "refused": 0}
    for _ in range(600):
        mutant = bytearray(raw)
        for _ in range(rng.choice([1, 1, 3])):
            mutant[rng.randrange(len(mutant))] ^= rng.randrange(1, 256)
        path.write_bytes(mutant)
        outcomes[outcome(path)] += 1
    assert outcomes["refused"] > 200


def test_mutants_of_the_readable_part_are_refused_or_load_and_nothing_else(small: Path, tmp_path: Path) -> None:
    content, rng = members(small), random.Random(1)
    values: list[Any] = [None, [], {}, "", "x" * 100, -1, 1e400, True, {":type:": 3}, [[[]]], {"net_arch": [10**9]}]
    outcomes = {"loaded": 0, "refused": 0}
    for _ in range(200):
        data = json.loads(content["data"])
        key = rng.choice([*PLACES, "use_sde", "policy_class", "policy_kwargs", "observation_space", "action_space"])
        record = data.get(key)
        if isinstance(record, dict) and rng.random() < 0.7:
            record[rng.choice([*record, ":type:", "n", "_shape", "low", "net_arch"])] = rng.choice(values)
        else:
            data[key] = rng.choice(values)
        outcomes[outcome(pack(tmp_path / "t.zip", {**content, "data": json.dumps(data).encode()}))] += 1
    assert min(outcomes.values()) > 10


def test_a_damaged_or_hostile_archive_is_refused(small: Path, tmp_path: Path) -> None:
    raw, content, path = small.read_bytes(), members(small), tmp_path / "t.zip"
    for length in (0, 10, len(raw) // 2, len(raw) - 30):
        path.write_bytes(raw[:length])
        refused(path)
    with zipfile.ZipFile(pack(path, content), "a") as archive:
        archive.writestr("data", content["data"])
    assert "twice" in refused(path)
    for name in ("policy.pth", "data"):
        assert repr(name) in refused(pack(path, {k: v for k, v in content.items() if k != name}))
    for data in (b"", b"[]", b"3", b"{", b"[" * 100_000, b"\xff\xfe", b"{}"):
        refused(pack(path, {**content, "data": data}))
    path.write_bytes(b"PK\x05\x06" + bytes(18))
    refused(path)
    with path.open("wb") as file:
        file.truncate((64 << 20) + 1)
    assert "64 MiB" in refused(path)
    path.unlink()
    assert "no such file" in refused(path)


def same_teacher(path: Path, small: Path) -> bool:
    batch = {"obs": np.random.default_rng(0).normal(size=(5, 4)).astype(np.float32)}
    return bool(torch.equal(load_teacher(str(path))(batch).params, load_teacher(str(small))(batch).params))


def test_a_zip_that_was_packed_again_is_the_same_agent_and_a_bomb_is_none(small: Path, tmp_path: Path) -> None:
    content, path = members(small), tmp_path / "t.zip"
    assert same_teacher(pack(path, content, compression=zipfile.ZIP_DEFLATED), small)
    # What nobody reads may be of any size.
    assert same_teacher(pack(path, {**content, "zeros": bytes(1 << 24)}, compression=zipfile.ZIP_DEFLATED), small)
    for name, size in (("policy.pth", 65 << 20), ("data", 17 << 20)):
        packed = pack(path, {**content, name: bytes(size)}, compression=zipfile.ZIP_DEFLATED)
        assert packed.stat().st_size < 1 << 20
        assert f"its {name} exceeds" in refused(path)
    # A member that declares less than it unpacks to.
    packed = pack(path, {**content, "data": bytes(1 << 20)}, compression=zipfile.ZIP_DEFLATED)
    packed.write_bytes(packed.read_bytes().replace((1 << 20).to_bytes(4, "little"), (100).to_bytes(4, "little")))
    assert "damaged" in refused(path)


def test_weights_are_never_compressed(small: Path, tmp_path: Path) -> None:
    content = members(small)
    with zipfile.ZipFile(io.BytesIO(content["policy.pth"])) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    inner = pack(tmp_path / "inner", parts, compression=zipfile.ZIP_DEFLATED).read_bytes()
    assert "compressed, which torch never does" in refused(with_policy(small, tmp_path / "t.zip", inner))


def test_weights_of_torch_before_its_zips_are_the_same(small: Path, tmp_path: Path) -> None:
    state = torch.load(io.BytesIO(members(small)["policy.pth"]), weights_only=True)
    assert same_teacher(with_policy(small, tmp_path / "t.zip", _legacy(state)), small)


def test_old_weights_that_claim_more_than_they_have_are_refused(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw = _legacy({"w": torch.zeros(70_000)})
    claim = (70_000).to_bytes(4, "little")
    assert raw.count(claim) > 1
    bomb = raw.replace(b"J" + claim, b"J" + (2**31 - 1).to_bytes(4, "little"))
    monkeypatch.setattr(torch, "load", lambda *a, **k: pytest.fail("torch made room for it"))
    assert "claims more numbers" in refused(with_policy(small, tmp_path / "t.zip", bomb))
    nested = _legacy({})[:33] + b"\x80\x02)" + b"\x85" * (1 << 21) + b"."
    refused(with_policy(small, tmp_path / "t.zip", nested))


def test_tensors_that_share_one_storage_may_not_claim_it_each_for_itself(small: Path, tmp_path: Path) -> None:
    whole = torch.zeros(1 << 18)
    views = {f"more.{i}": whole[i : i + (1 << 17)] for i in range(200)}
    assert "claims more numbers" in refused(with_policy(small, tmp_path / "t.zip", saved(views)))
    # One tensor under several names is one: so Stable-Baselines3 saves an extractor that is shared.
    names = {f"{name}features_extractor.x": whole for name in ("", "pi_", "vf_")}
    state = torch.load(io.BytesIO(members(small)["policy.pth"]), weights_only=True)
    assert same_teacher(with_policy(small, tmp_path / "t.zip", saved({**state, **names})), small)


def test_weights_of_bfloat16_are_widened(small: Path, tmp_path: Path) -> None:
    state = torch.load(io.BytesIO(members(small)["policy.pth"]), weights_only=True)
    halved = {name: tensor.bfloat16() for name, tensor in state.items()}
    load_teacher(str(with_policy(small, tmp_path / "a.zip", saved(halved))))
    widened = {name: tensor.float() for name, tensor in halved.items()}
    assert same_teacher(tmp_path / "a.zip", with_policy(small, tmp_path / "b.zip", saved(widened)))


def test_an_agent_is_found_unpacked_and_without_the_ending_of_its_name(small: Path, tmp_path: Path) -> None:
    folder = tmp_path / "unpacked"
    with zipfile.ZipFile(small) as archive:
        archive.extractall(folder)
    assert same_teacher(folder, small)
    bare = tmp_path / "agent"
    bare.write_bytes(small.read_bytes())
    assert same_teacher(bare, small)
    bare.rename(tmp_path / "agent.zip")
    assert same_teacher(bare, small)
    # Beside a zip lies the folder of its settings, as RL Zoo writes them.
    bare.mkdir()
    (bare / "args.yml").touch()
    assert same_teacher(bare, small)
    (folder / "policy.pth").write_bytes(b"junk")
    with pytest.raises(KDError, match=r"unpacked: policy\.pth is not a state dict"):
        load_teacher(str(folder))
    assert load_teacher(small).origin == load_teacher(str(small)).origin


def test_a_git_lfs_pointer_is_called_so(tmp_path: Path) -> None:
    for name in ("a.zip", "a.onnx", "a.safetensors"):
        (tmp_path / name).write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n")
        with pytest.raises(KDError, match=rf"{name}: a Git LFS pointer, .*git lfs pull"):
            load_teacher(str(tmp_path / name), env=(VECTOR, CHOICE))


def test_weights_that_are_wrong_are_refused(small: Path, tmp_path: Path) -> None:
    state = torch.load(io.BytesIO(members(small)["policy.pth"]), weights_only=True)
    name = "mlp_extractor.policy_net.0.weight"
    changes: dict[str, Any] = {
        "NaN": {name: torch.full((7, 4), torch.nan)},
        "infinite": {name: torch.full((7, 4), torch.inf)},
        "too wide": {name: torch.zeros(7, 5)},
        "too short": {name: torch.zeros(6, 4)},
        "a vector": {name: torch.zeros(7)},
        "empty": {name: torch.zeros(0, 4)},
        "sparse": {name: torch.zeros(7, 4).to_sparse()},
        "repeated by a stride of zero": {name: torch.zeros(1).expand(7, 4)},
        "a claim of a terabyte": {name: torch.zeros(1).expand(10**6, 10**6)},
        "complex": {name: torch.zeros(7, 4, dtype=torch.complex64)},
        "a list": {name: [1.0]},
        "too many": {f"more.{i}": torch.zeros(1) for i in range(2000)},
        "a head of another size": {"action_net.weight": torch.zeros(3, 7), "action_net.bias": torch.zeros(3)},
    }
    for what, change in changes.items():
        assert refused(with_policy(small, tmp_path / "t.zip", saved({**state, **change}))), what
    for key in (name, "action_net.weight"):
        refused(with_policy(small, tmp_path / "t.zip", saved({k: v for k, v in state.items() if k != key})))
    for other in (saved([1, 2]), saved({}), b"", b"PK", pickle.dumps(3)):
        refused(with_policy(small, tmp_path / "t.zip", other))


def test_the_opcodes_of_the_weights_are_checked_before_torch_reads_them(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = torch.load(io.BytesIO(members(small)["policy.pth"]), weights_only=True)
    path = with_policy(small, tmp_path / "t.zip", saved({**state, "extra": 1.5}))
    monkeypatch.setattr(torch, "load", lambda *a, **k: pytest.fail("torch read what the allow-list should refuse"))
    assert "more than tensors (BINFLOAT)" in refused(path)


JUNK: list[Any] = [
    None,
    -1,
    10**12,
    1e308,
    True,
    "x",
    "nan",
    "[1. inf",
    [],
    {},
    "Box(0, 255, (3, 36, 99999999), uint8)",
]


FIELDS = ("observation_space", "action_space", "policy_class", "policy_kwargs", "use_sde", "policy_delay")


def change_text(raw: bytes, rng: np.random.Generator) -> bytes:
    """Junk in the readable part of a zip."""
    with zipfile.ZipFile(io.BytesIO(raw)) as old:
        members = {name: old.read(name) for name in old.namelist()}
    data = json.loads(members["data"])
    for name in rng.choice([field for field in FIELDS if field in data], 2):
        record, junk = data[name], JUNK[rng.integers(len(JUNK))]
        if isinstance(record, dict) and record and rng.random() < 0.8:
            record[list(record)[rng.integers(len(record))]] = junk
        else:
            data[name] = junk
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as new:
        for name, content in {**members, "data": json.dumps(data).encode()}.items():
            new.writestr(name, content)
    return out.getvalue()


def change_bytes(raw: bytes, rng: np.random.Generator) -> bytes:
    """A few other bytes."""
    mutant = bytearray(raw)
    for place in rng.integers(len(mutant), size=3):
        mutant[place] = rng.integers(256)
    return bytes(mutant)


@pytest.mark.parametrize("change", [change_text, change_bytes])
@pytest.mark.parametrize("case", ["ppo dict", "dqn", "qr-dqn", "sac gsde", "td3", "crossq", "ars mlp", "recurrent ppo"])
def test_a_mutant_loads_or_is_refused(tmp_path: Path, case: str, change: Any) -> None:
    _, env, path = trained(case)
    raw, rng, file = path.read_bytes(), np.random.default_rng(0), tmp_path / "mutant.zip"
    for number in range(40):
        file.write_bytes(change(raw, rng))
        with contextlib.suppress(KDError):
            load_teacher(str(file), env=(env.observation_space, env.action_space) if number % 2 else None)
