"""VecNormalize statistics are read as data: exactly, and nothing in the pickle runs."""

import collections
import contextlib
import io
import os
import pickle
import pickletools
import struct
import sys
import time
import zipfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

from kd_agent.errors import KDError
from kd_agent.teachers import _unpickle
from kd_agent.teachers._request import Request
from kd_agent.teachers._statistics import read_statistics, write_statistics
from kd_agent.teachers._statistics_search import Evidence, find_statistics

SAMPLES = Path(__file__).parents[2].parent / "shared" / "teachers"
FORBIDDEN = ("import", "open", "exec", "compile", "os.system", "subprocess.Popen", "pickle.find_class")


class Env(gym.Env[Any, Any]):
    def __init__(self, observation_space: gym.Space[Any]) -> None:
        self.observation_space, self.action_space = observation_space, gym.spaces.Discrete(2)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        return self.observation_space.sample(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        return self.observation_space.sample(), 0.0, False, False, {}


def wrapped(space: gym.Space[Any], **settings: Any) -> VecNormalize:
    env = VecNormalize(DummyVecEnv([lambda: Env(space)] * 2), **settings)
    env.reset()
    for _ in range(20):
        env.step(np.zeros(2))
    return env


BOX = gym.spaces.Box(-3, 5, (3,), np.float32)
DICT = gym.spaces.Dict({"arm": BOX, "eye": gym.spaces.Box(0, 1, (2, 2), np.float64), "word": gym.spaces.Discrete(3)})


@pytest.fixture
def good(tmp_path: Path) -> bytes:
    env = wrapped(BOX, clip_obs=4.0, epsilon=1e-6)
    env.save(str(tmp_path / "good.pkl"))
    return (tmp_path / "good.pkl").read_bytes()


@pytest.mark.parametrize("protocol", [3, 4, 5])
def test_statistics_are_those_that_were_written(tmp_path: Path, protocol: int) -> None:
    env = wrapped(BOX, clip_obs=4.0, epsilon=1e-6)
    (tmp_path / "v.pkl").write_bytes(pickle.dumps(env, protocol))
    found = read_statistics(tmp_path / "v.pkl")["obs"]
    np.testing.assert_array_equal(found.mean, env.obs_rms.mean)
    np.testing.assert_array_equal(found.var, env.obs_rms.var)
    assert (found.clip, found.epsilon) == (4.0, 1e-6)
    batch = np.float32([[1, 50, -7]])
    np.testing.assert_allclose(found(batch), env.normalize_obs(batch), rtol=1e-6, atol=1e-6)


def test_a_dict_has_statistics_by_key(tmp_path: Path) -> None:
    env = wrapped(DICT, norm_obs_keys=["arm", "eye"])
    env.save(str(tmp_path / "v.pkl"))
    found = read_statistics(tmp_path / "v.pkl")
    assert set(found) == {"arm", "eye"}
    for key, normalizer in found.items():
        np.testing.assert_array_equal(normalizer.mean, env.obs_rms[key].mean)
        assert normalizer.mean.shape == DICT[key].shape


def test_observations_that_were_not_normalised_stay_as_they_are(tmp_path: Path) -> None:
    wrapped(BOX, norm_obs=False).save(str(tmp_path / "v.pkl"))
    assert read_statistics(tmp_path / "v.pkl") == {}


@pytest.mark.skipif(not SAMPLES.is_dir(), reason="the sample of public teachers is not here")
def test_every_sample_is_read_as_numpy_reads_it() -> None:
    class Loose(pickle.Unpickler):  # trusted files: NumPy's own reader, everything else a bag
        def find_class(self, module: str, name: str) -> Any:
            if module.startswith("numpy"):
                return super().find_class(module.replace("numpy.core", "numpy._core"), name)
            return type(name, (), {"__setstate__": lambda self, state: self.__dict__.update(state=state)})

    files = sorted(SAMPLES.glob("*/*/vecnormalize.pkl"))
    assert files
    for file in files:
        true = Loose(io.BytesIO(file.read_bytes())).load().state
        found = read_statistics(file)["obs"]
        np.testing.assert_array_equal(found.mean, true["obs_rms"].state["mean"])
        np.testing.assert_array_equal(found.var, true["obs_rms"].state["var"])
        assert (found.clip, found.epsilon) == (true["clip_obs"], true["epsilon"])


class Payload:
    def __init__(self, function: Any, *args: Any) -> None:
        self.call = (function, args)

    def __reduce__(self) -> Any:
        return self.call


def hostile(canary: Path) -> dict[str, bytes]:
    """Pickles that would touch the canary if anything in them ran."""
    command = f"touch {canary}"
    state = {"clip_obs": Payload(os.system, command), "epsilon": 1e-8}
    vec = "stable_baselines3.common.vec_env.vec_normalize"
    return {
        "os.system": pickle.dumps(Payload(os.system, command)),
        "eval": pickle.dumps(Payload(eval, f"open({str(canary)!r}, 'w')")),
        "inside a dict": pickle.dumps(state),
        "protocol 0": pickle.dumps(Payload(os.system, command), 0),
        "as a global": f"cos\nsystem\n(S'{command}'\ntR.".encode(),
        "behind an allowed name": b"\x80\x04\x8c" + bytes([len(vec)]) + vec.encode() + b"\x8c\x0c__builtins__\x93.",
        "dotted": b"\x80\x04\x8c\x05numpy\x8c\x11dtype.__class__.x\x93.",
        "numpy": b"\x80\x04\x8c\x05numpy\x8c\x04load\x93\x8c\x02/x\x85R.",
        "instance": f"(ios\nsystem\nS'{command}'\n.".encode(),
        "persistent": b"\x80\x04\x8c\x01xQ.",
        "extension": b"\x80\x04\x82\x01.",
        "state of a bag": pickle.dumps(collections.OrderedDict(a=Payload(os.system, command))),
    }


@pytest.mark.parametrize("case", sorted(hostile(Path("x"))))
def test_nothing_in_a_hostile_pickle_runs(tmp_path: Path, case: str) -> None:
    canary = tmp_path / "canary"
    file = tmp_path / "v.pkl"
    file.write_bytes(hostile(canary)[case])
    with pytest.raises(KDError, match=r"v\.pkl: not usable as statistics") as caught:
        read_statistics(file)
    assert "\n" not in str(caught.value)
    assert not canary.exists()


BOMBS = {
    "an 8 GB memo": b"\x80\x04Nr\xff\xff\xff\x7f.",
    "a string of 2^62 bytes": b"\x80\x04\x8d" + struct.pack("<Q", 1 << 62) + b"a.",
    "bytes of 2 GB": b"\x80\x04B" + struct.pack("<I", 1 << 31) + b"a.",
    "a bytearray of 8 GB": b"\x80\x05\x96" + struct.pack("<Q", 1 << 33) + b"a.",
    "a frame of 2^60": b"\x80\x04\x95" + struct.pack("<Q", 1 << 60) + b"N.",
    "a number of 10^8 digits": b"\x80\x04\x8b" + struct.pack("<i", 100_000_000) + b"1.",
    "hashes without end": b"\x80\x04})\x94h\x00\x86" + b"".join(
        b"\x94h" + bytes([i]) + b"\x86" for i in range(1, 200)) + b"Ns.",
    "nothing": b"",
    "text": b"mean: 1",
    "half a file": pickle.dumps({"a": 1})[:-3],
}  # fmt: skip


@pytest.mark.parametrize("case", BOMBS)
def test_bombs_and_damage_are_refused(tmp_path: Path, case: str) -> None:
    (tmp_path / "v.pkl").write_bytes(BOMBS[case])
    with pytest.raises(KDError):
        read_statistics(tmp_path / "v.pkl")


def test_an_array_that_claims_more_than_it_has_is_refused(tmp_path: Path, good: bytes) -> None:
    shape = b"K\x03\x85"  # (3,)
    assert shape in good
    (tmp_path / "v.pkl").write_bytes(good.replace(shape, b"K\xff\x85"))
    with pytest.raises(KDError, match="claims more numbers"):
        read_statistics(tmp_path / "v.pkl")


def test_three_thousand_mutants_run_nothing_and_raise_only_what_is_caught(good: bytes) -> None:
    """In this process, watched by an audit hook; the reader's own process adds limits on memory and time."""
    events: list[str] = []
    watching = [True]
    sys.addaudithook(lambda event, args: events.append(event) if watching[0] and event in FORBIDDEN[:3] else None)
    rng = np.random.default_rng(0)
    values = 0
    for _ in range(3_000):
        mutant = bytearray(good)
        for _ in range(int(rng.integers(1, 4))):
            mutant[int(rng.integers(len(mutant)))] = int(rng.integers(256))
        with contextlib.suppress(Exception):
            values += isinstance(_unpickle.statistics(bytes(mutant)), dict)
    watching[0] = False
    assert values > 0
    assert events == []


def test_twenty_mutants_through_the_whole_reader_are_statistics_or_a_kd_error(tmp_path: Path, good: bytes) -> None:
    rng = np.random.default_rng(1)
    for number in range(20):
        mutant = bytearray(good)
        mutant[int(rng.integers(len(mutant)))] ^= int(rng.integers(1, 256))
        file = tmp_path / f"{number}.pkl"
        file.write_bytes(bytes(mutant))
        with contextlib.suppress(KDError):
            read_statistics(file)


def test_every_opcode_of_real_statistics_is_allowed(good: bytes) -> None:
    assert {opcode.name for opcode, _, _ in pickletools.genops(good)} <= _unpickle.OPCODES


def test_npz_goes_there_and_back(tmp_path: Path, good: bytes) -> None:
    (tmp_path / "a.pkl").write_bytes(good)
    first = read_statistics(tmp_path / "a.pkl")["obs"]
    write_statistics(tmp_path / "b.npz", first)
    second = read_statistics(tmp_path / "b.npz")["obs"]
    np.testing.assert_array_equal(first.mean, second.mean)
    assert (first.clip, first.epsilon) == (second.clip, second.epsilon)


def test_statistics_are_found_in_the_usual_places(tmp_path: Path, good: bytes) -> None:
    places = [
        ("a/Env-v0.zip", "a/Env-v0/vecnormalize.pkl"),
        ("b/Env-v0.zip", "b/vecnormalize.pkl"),
        ("c/ppo-Env-v0.zip", "c/vec_normalize.pkl"),
        ("d/best_model.zip", "d/Env-v0/vecnormalize.pkl"),
    ]
    for zipped, statistics in places:
        file = tmp_path / statistics
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(good)
        (file.parent / "config.yml").touch()
        evidence = Evidence(tmp_path / zipped, True, {"obs": (3,)})
        assert find_statistics(evidence, Request()) is not None, statistics
    assert find_statistics(Evidence(tmp_path / "e" / "Env-v0.zip", None, {"obs": (3,)}), Request()) is None


def test_limits_are_set_where_the_system_has_them(monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[str] = []

    def refuse(limit: int, values: tuple[int, int]) -> None:
        tried.append(str(limit))
        raise ValueError("not here")

    names = ("RLIMIT_AS", "RLIMIT_CPU", "RLIMIT_FSIZE", "RLIMIT_CORE")
    elsewhere = SimpleNamespace(setrlimit=refuse, **{name: name for name in names})
    monkeypatch.setitem(sys.modules, "resource", elsewhere)
    with monkeypatch.context() as patch:
        patch.setattr(sys, "platform", "darwin")
        _unpickle.limit()
    assert tried == list(names)
    # Where they are known to work, a reader without them must not begin.
    monkeypatch.setattr(sys, "platform", "linux")
    with pytest.raises(ValueError, match="not here"):
        _unpickle.limit()
    monkeypatch.setitem(sys.modules, "resource", None)
    _unpickle.limit()


def test_a_clip_of_infinity_clips_nothing(tmp_path: Path) -> None:
    env = wrapped(BOX, clip_obs=np.inf)
    env.save(str(tmp_path / "v.pkl"))
    normalizer = read_statistics(tmp_path / "v.pkl")["obs"]
    far = np.float32([[1e20, -1e20, 3]])
    np.testing.assert_allclose(normalizer(far), env.normalize_obs(far), rtol=1e-5)
    assert np.isfinite(normalizer.op("obs", "normal").attributes["clip"])


def test_an_archive_that_unpacks_to_gigabytes_is_refused_unread(tmp_path: Path) -> None:
    size = 1 << 26
    with zipfile.ZipFile(tmp_path / "v.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        header = io.BytesIO()
        np.lib.format.write_array_header_1_0(header, {"descr": "<f8", "fortran_order": False, "shape": (size // 8,)})
        for name in ("mean", "var", "clip", "epsilon"):
            archive.writestr(f"{name}.npy", header.getvalue() + bytes(size))
    assert (tmp_path / "v.npz").stat().st_size < 1 << 20
    with pytest.raises(KDError, match=r"v\.npz: .* unpacks to more than 16 MiB"):
        read_statistics(tmp_path / "v.npz")


def test_a_pickle_of_nested_tuples_is_refused_at_once(tmp_path: Path) -> None:
    (tmp_path / "v.pkl").write_bytes(b"\x80\x04N" + b"\x85" * 10_000_000 + b".")
    started = time.monotonic()
    with pytest.raises(KDError, match="more than statistics do"):
        read_statistics(tmp_path / "v.pkl")
    assert time.monotonic() - started < 3
