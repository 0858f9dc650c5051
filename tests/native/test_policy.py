"""The native backend: the answers, the errors and the fallbacks are NumPy's."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from exported import by_numpy
from masked_agents import masked_graph, random_masks
from packed_graphs import on_grid
from sample_graphs import GRAPHS, observations_for
from samples import make_graph

from kd_agent import KDError, load_policy, plugins
from kd_agent.native import compiler
from kd_agent.native.policy import NativePolicy
from kd_agent.policies import file as graph_file
from kd_agent.policies.graph import PolicyGraph
from kd_agent.policies.policy import Policy

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
    one_or_all: Any = observations if len(observations) > 1 else observations["obs"]
    np.testing.assert_allclose(native.params(one_or_all), numpy.params(one_or_all), atol=1e-5, rtol=1e-5)
    expected = numpy.predict(one_or_all, deterministic=True)[0]
    actions = native.predict(one_or_all, deterministic=True)[0]
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


def test_samples_follow_the_seed() -> None:
    graph, x = make_graph(), np.zeros((500, 4), np.float32)
    draws = [cls(graph, seed=4).predict(x)[0] for cls in (NativePolicy, Policy)]
    np.testing.assert_array_equal(*draws)
    assert len(set(draws[0].tolist())) > 1


def test_a_damaged_library_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    library = tmp_path / "kd_agent" / "x.so"
    library.parent.mkdir(mode=0o700)
    library.write_bytes(b"not a library")
    monkeypatch.setattr(compiler, "library", lambda *_: library)
    with pytest.raises(KDError, match=r"x\.so: cannot be loaded"):
        NativePolicy(make_graph())


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


@every_graph
@pytest.mark.parametrize("deterministic", [False, True])
def test_a_batch_of_none_is_answered_with_no_actions(name: str, deterministic: bool) -> None:
    graph = GRAPHS[name]()
    observations = {key: array[:0] for key, array in observations_for(graph, 1).items()}
    nothing: Any = observations if len(observations) > 1 else observations["obs"]
    for policy in (NativePolicy(graph), Policy(graph)):
        actions, state = policy.predict(nothing, deterministic=deterministic)
        assert actions.shape == (0, *graph.head.shape)
        assert actions.dtype == graph.head.dtype
        assert (state is None) == (not graph.states)
        assert policy.params(nothing).shape == (0, graph.head.num_params)


def test_the_number_of_parameters_is_the_graphs() -> None:
    graph: PolicyGraph = make_graph()
    assert NativePolicy(graph).num_parameters == graph.num_parameters


@pytest.mark.parametrize("name", ["gru", "lstm"])
def test_a_step_leaves_the_state_before_it_as_it_was(name: str) -> None:
    graph = GRAPHS[name]()
    x = observations_for(graph, 3)["obs"]
    native, numpy = NativePolicy(graph), Policy(graph)
    state = native.step_batch({"obs": x})[1]
    kept = [array.copy() for array in state]
    native.step_batch({"obs": x}, state)
    for array, before in zip(state, kept, strict=True):
        np.testing.assert_array_equal(array, before)
    again, expected = native.step_batch({"obs": x}, state), numpy.step_batch({"obs": x}, state)
    np.testing.assert_allclose(again[1][0], expected[1][0], atol=1e-5)
    with pytest.raises(KDError, match="the state has shapes"):
        native.step_batch({"obs": x}, (np.zeros((2, 1), np.float32),))


def test_an_operation_that_c_does_not_write_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plugins.load("export", "c"), "OPS", frozenset({"normalise", "activation"}))
    with pytest.raises(KDError, match="the native backend cannot express the operation 'linear'"):
        NativePolicy(make_graph())


@pytest.mark.parametrize("kind", ["categorical", "multi_categorical", "bernoulli"])
def test_masks_are_kept_to_by_the_compiled_policy_too(kind: str) -> None:
    graph = masked_graph(kind)
    fast, plain = NativePolicy(graph), Policy(graph)
    rng = np.random.default_rng(0)
    for observation in rng.normal(size=(30, 4)).astype(np.float32):
        mask = random_masks({"categorical": [4], "multi_categorical": [3, 4], "bernoulli": [2, 2, 2]}[kind], 1, rng)[0]
        for masks in ((mask,), ()):
            np.testing.assert_array_equal(fast.act(observation, *masks), plain.act(observation, *masks))
        assert np.array_equal(fast.act(observation, action_masks=mask), plain.act(observation, mask))
        found, _ = fast.predict(observation, deterministic=True, action_masks=mask)
        np.testing.assert_array_equal(found, plain.act(observation, mask))
    with pytest.raises(TypeError):
        fast.act()
    with pytest.raises(TypeError):
        fast.act(np.zeros(4, np.float32), colour=1)


@pytest.mark.parametrize("name", ["int4", "ternary"])
def test_a_student_of_packed_weights_is_loaded_and_acts_as_by_numpy(name: str, tmp_path: Path) -> None:
    graph = on_grid(name)
    file = graph_file.write(graph, tmp_path / "s.safetensors")
    native, numpy = load_policy(file, backend="native"), load_policy(file)
    assert native.backend == "native"
    x = observations_for(graph, 40)["obs"]
    np.testing.assert_array_equal(numpy.params(x), Policy(graph).params(x))
    np.testing.assert_allclose(native.params(x), numpy.params(x), atol=1e-5)
    assert [native.act(one) for one in x] == [numpy.act(one) for one in x]
