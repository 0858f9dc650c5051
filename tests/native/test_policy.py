"""The native backend: the answers, the errors and the fallbacks are NumPy's."""

import os
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from exported import GRAPHS, by_numpy, observations_for
from samples import HEADS, make_graph, make_student

from kd_agent import KDError, load_policy
from kd_agent.native import compiler
from kd_agent.native.policy import NativePolicy
from kd_agent.policies import file as graph_file
from kd_agent.policies.graph import PolicyGraph
from kd_agent.policies.policy import Policy
from kd_agent.settings import Activation

every_graph = pytest.mark.parametrize("name", GRAPHS)
WRONG: dict[str, Any] = {
    "too short": np.zeros(3, np.float32),
    "too long": np.zeros(5, np.float32),
    "another rank": np.zeros((4, 1), np.float32),
    "a batch": np.zeros((2, 4), np.float32),
    "a scalar": np.float32(1),
    "NaN": np.float32([0, np.nan, 0, 0]),
    "infinite": np.float32([0, 0, 0, np.inf]),
    "minus infinity in double": np.array([0, 0, 0, -np.inf]),
    "bytes": b"1234",
    "text": "1234",
    "nothing": None,
    "complex": np.zeros(4, complex),
    "objects": np.array([{}, 1, 2, 3], dtype=object),
    "a mapping": {"position": [1, 2, 3, 4]},
}


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory):
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("cache")
        patch.setenv("XDG_CACHE_HOME", str(folder))
        yield folder


@pytest.fixture(params=["native", "numpy"])
def policy(request: pytest.FixtureRequest) -> Policy:
    return {"native": NativePolicy, "numpy": Policy}[request.param](make_graph())


def outcome(call, *arguments: Any) -> str:
    """The answer, or the error."""
    try:
        return repr(call(*arguments))
    except KDError as error:
        return f"KDError: {error}"


@every_graph
def test_a_batch_and_single_observations_are_answered_as_by_numpy(name: str) -> None:
    graph = GRAPHS[name]()
    native, numpy = NativePolicy(graph), Policy(graph)
    observations = observations_for(graph, 64)
    given: Any = observations if len(observations) > 1 else observations["obs"]
    np.testing.assert_allclose(native.params(given), numpy.params(given), atol=1e-5, rtol=1e-5)
    expected = numpy.predict(given, deterministic=True)[0]
    actions = native.predict(given, deterministic=True)[0]
    assert actions.dtype == expected.dtype
    np.testing.assert_allclose(actions, expected, atol=1e-5)
    for i in range(16):
        single: Any = {k: v[i] for k, v in observations.items()}
        single = single if len(single) > 1 else single["obs"]
        np.testing.assert_allclose(native.predict(single, deterministic=True)[0], expected[i], atol=1e-5)
        if not graph.states:
            assert type(native.act(single)) is type(numpy.act(single))
            np.testing.assert_allclose(native.act(single), numpy.act(single), atol=1e-5)


@pytest.mark.parametrize("name", ["gru", "lstm"])
def test_a_memory_is_carried_as_by_numpy(name: str) -> None:
    graph = GRAPHS[name]()
    observations = observations_for(graph, 20)
    policy, state, actions = NativePolicy(graph), None, []
    for i in range(20):
        action, state = policy.predict(observations["obs"][i : i + 1], state, np.zeros(1, bool), deterministic=True)
        actions.append(action)
    np.testing.assert_array_equal(actions, by_numpy(graph, observations).actions)
    fresh, _ = policy.predict(observations["obs"][:1], None, None, deterministic=True)
    begun_anew, _ = policy.predict(observations["obs"][:1], state, np.ones(1, bool), deterministic=True)
    np.testing.assert_array_equal(fresh, begun_anew)


@pytest.mark.parametrize("dtype", ["float32", "float64", "uint8", "int64", "bool", ">f4", "float16"])
def test_every_kind_of_number_is_understood(dtype: str) -> None:
    graph = make_graph()
    native, numpy = NativePolicy(graph), Policy(graph)
    for seed in range(20):
        x = np.random.default_rng(seed).integers(0, 3, 4).astype(dtype)
        assert native.act(x) == numpy.act(x) == numpy.predict(x[None], deterministic=True)[0][0]
    assert native.act([1, 2, 0, 1]) == numpy.act([1, 2, 0, 1])
    strided = (np.arange(8) % 3).astype(dtype)[::2]
    assert native.act(strided) == numpy.act(strided)


@pytest.mark.filterwarnings("ignore:overflow")
@pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG)
def test_a_wrong_observation_gets_the_same_answer_as_by_numpy(wrong: Any) -> None:
    graph = make_graph()
    native, numpy = NativePolicy(graph), Policy(graph)
    assert outcome(native.act, wrong) == outcome(numpy.act, wrong)
    assert outcome(native.act, wrong).startswith("KDError")
    greedy = [outcome(lambda p=p: p.predict(wrong, deterministic=True)) for p in (native, numpy)]
    assert greedy[0] == greedy[1]


def test_too_large_a_double_is_infinite(policy: Policy) -> None:
    with pytest.raises(KDError, match="NaN or infinite"), np.errstate(over="ignore"):
        policy.act(np.array([0, 0, 1e300, 0]))


@pytest.mark.parametrize("kind", ["diag_gaussian", "squashed_gaussian", "multi_categorical", "bernoulli"])
def test_each_action_array_is_a_new_one(kind: str) -> None:
    policy = NativePolicy(make_graph(kind))
    first = policy.act(np.zeros(4, np.float32))
    kept = first.copy()
    second = policy.act(np.full(4, 2, np.float32))
    assert not np.shares_memory(first, second)
    np.testing.assert_array_equal(first, kept)
    assert first.shape == policy.graph.head.shape


def test_samples_follow_the_seed() -> None:
    graph, x = make_graph(), np.zeros((500, 4), np.float32)
    draws = [cls(graph, seed=4).predict(x)[0] for cls in (NativePolicy, Policy)]
    np.testing.assert_array_equal(*draws)
    assert len(set(draws[0].tolist())) > 1


@pytest.mark.parametrize("activation", Activation.__args__)
@pytest.mark.parametrize("hidden", [(), (5,), (7, 6), (4, 3, 5)], ids=str)
def test_numpy_alone_has_a_short_way_that_says_the_same(activation: str, hidden: tuple[int, ...]) -> None:
    for head in HEADS.values():
        policy = make_student(head, activation=activation, hidden=hidden).policy()
        batch = np.random.default_rng(0).standard_t(3, (50, 4)).astype(np.float32)
        expected = policy.predict(batch, deterministic=True)[0]
        np.testing.assert_allclose([policy.act(x) for x in batch], expected, atol=1e-5)
        assert policy._fast is not None


def test_a_library_is_compiled_once_and_then_needs_no_compiler(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    student = graph_file.write(make_graph(), tmp_path / "s.safetensors")
    assert load_policy(student, backend="native").backend == "native"
    folder = tmp_path / "kd_agent"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    [library] = folder.iterdir()
    without_compiler(tmp_path, monkeypatch)
    assert load_policy(student, backend="auto").backend == "native"
    assert list(folder.iterdir()) == [library]
    other = graph_file.write(make_graph(seed=3), tmp_path / "other.safetensors")
    assert load_policy(other, backend="auto").backend == "numpy"


def without_compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "empty").mkdir(exist_ok=True)
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    monkeypatch.setitem(sys.modules, "ziglang", None)


def test_without_a_compiler_auto_is_numpy_and_native_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    without_compiler(tmp_path, monkeypatch)
    student = graph_file.write(make_graph(), tmp_path / "s.safetensors")
    policy = load_policy(student, backend="auto")
    assert policy.backend == "numpy"
    assert policy.act(np.zeros(4, np.float32)) == load_policy(student).act(np.zeros(4, np.float32))
    with pytest.raises(KDError, match="no C compiler found"):
        load_policy(student, backend="native")
    assert list((tmp_path / "kd_agent").iterdir()) == []


def test_an_unknown_backend_is_answered_with_the_nearest(tmp_path: Path) -> None:
    student = graph_file.write(make_graph(), tmp_path / "s.safetensors")
    with pytest.raises(KDError, match="unknown backend 'nativ'; did you mean 'native'"):
        load_policy(student, backend="nativ")


def test_without_pythons_headers_the_library_is_called_through_ctypes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(compiler, "python_headers", lambda: None)
    for name in ("categorical", "diag_gaussian", "gru"):
        graph = GRAPHS[name]()
        native, x = NativePolicy(graph), observations_for(graph, 9)["obs"]
        np.testing.assert_allclose(native.params(x), Policy(graph).params(x), atol=1e-5)
        if name != "gru":
            np.testing.assert_allclose(native.act(x[0]), Policy(graph).act(x[0]), atol=1e-5)


@pytest.mark.parametrize("fault", ["writable by others", "a link", "a file", "a library writable by others"])
def test_code_is_loaded_from_a_folder_of_ones_own_only(
    fault: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    folder = tmp_path / "kd_agent"
    if fault == "writable by others":
        folder.mkdir()
        folder.chmod(0o777)
    elif fault == "a link":
        (tmp_path / "elsewhere").mkdir()
        folder.symlink_to(tmp_path / "elsewhere")
    elif fault == "a file":
        folder.write_text("")
    else:
        NativePolicy(make_graph())
        next(folder.iterdir()).chmod(0o777)
    with pytest.raises(KDError, match="kd_agent"):
        NativePolicy(make_graph())


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give a folder away")
def test_somebody_elses_cache_folder_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    (tmp_path / "kd_agent").mkdir(mode=0o700)
    os.chown(tmp_path / "kd_agent", 12345, 12345)
    with pytest.raises(KDError, match="must be yours"):
        NativePolicy(make_graph())


def test_a_damaged_library_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    library = tmp_path / "kd_agent" / "x.so"
    library.parent.mkdir(mode=0o700)
    library.write_bytes(b"not a library")
    monkeypatch.setattr(compiler, "library", lambda *_: library)
    with pytest.raises(KDError, match=r"x\.so: cannot be loaded"):
        NativePolicy(make_graph())


def test_the_module_itself_refuses_buffers_of_the_wrong_length() -> None:
    policy = NativePolicy(make_graph())
    good, short = np.zeros((3, 4), np.float32), np.zeros((2, 4), np.float32)
    for arguments in ((good, None, short), (good.astype(float), None, good), (good[:, :3], None, good), (good, None)):
        with pytest.raises((ValueError, TypeError, BufferError)):
            policy._params(*arguments)


def test_what_does_not_fit_the_stack_is_left_to_numpy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kd_agent.native.policy._MAX_STACK", 64)
    with pytest.raises(KDError, match="working memory"):
        NativePolicy(make_graph())


def test_a_native_policy_needs_neither_torch_nor_gymnasium(tmp_path: Path) -> None:
    student = graph_file.write(make_graph(), tmp_path / "s.safetensors")
    code = f"""
import sys, kd_agent
kd_agent.load_policy({str(student)!r}, backend="native").act([0.0] * 4)
heavy = {{"torch", "stable_baselines3", "gymnasium", "onnx"}} & set(sys.modules)
assert not heavy, heavy
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_number_of_parameters_is_the_graphs() -> None:
    graph: PolicyGraph = make_graph()
    assert NativePolicy(graph).num_parameters == graph.num_parameters
