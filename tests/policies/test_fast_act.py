"""The fast path: what the interpreter answers, or None where it does not know."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sample_graphs import GRAPHS, observations_for
from samples import HEADS, make_graph, make_student
from trees import edges, random_tree

from kd_agent import KDError, load_policy
from kd_agent.policies.fast_act import OPS, compile_act
from kd_agent.policies.file import write
from kd_agent.policies.graph import ObservationSpec, Op, PolicyGraph
from kd_agent.policies.head import HeadSpec
from kd_agent.policies.policy import Policy
from kd_agent.settings import Activation

FLOAT32 = np.float32


@pytest.mark.parametrize("kind", HEADS)
@pytest.mark.parametrize("backend", ["numpy", "native"])
def test_one_observation_is_answered_as_a_batch_is(
    kind: str, backend: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    graph = random_tree(kind)
    policy = load_policy(write(graph, tmp_path / "s.safetensors"), backend=backend)
    observations = edges(graph)["obs"][:300]
    batch = policy.predict(observations, deterministic=True)[0]
    assert len(np.unique(batch.reshape(len(batch), -1), axis=0)) > 1
    for one, expected in zip(observations, batch, strict=True):
        np.testing.assert_allclose(policy.act(one), expected, atol=1e-6)
        np.testing.assert_allclose(policy.act(one.astype(np.float64)), expected, atol=1e-6)
    assert isinstance(policy.act(observations[0]), int) == (kind == "categorical")


def test_what_is_returned_is_the_callers(tmp_path: Path) -> None:
    policy = Policy(random_tree("diag_gaussian"))
    first = policy.act(np.zeros(3, np.float32))
    first += 100
    assert not np.array_equal(policy.act(np.zeros(3, np.float32)), first)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_an_observation_that_is_no_number_is_refused(bad: float) -> None:
    with pytest.raises(KDError, match="NaN or infinite"):
        Policy(random_tree()).act(np.float32([0, bad, 0]))


@pytest.mark.parametrize("activation", Activation.__args__)
@pytest.mark.parametrize("hidden", [(), (5,), (7, 6), (4, 3, 5)], ids=str)
def test_numpy_alone_has_a_short_way_that_says_the_same(activation: str, hidden: tuple[int, ...]) -> None:
    for head in HEADS.values():
        policy = make_student(head, activation=activation, hidden=hidden).policy()
        batch = np.random.default_rng(0).standard_t(3, (50, 4)).astype(np.float32)
        expected = policy.predict(batch, deterministic=True)[0]
        np.testing.assert_allclose([policy.act(x) for x in batch], expected, atol=1e-5)
        assert policy._fast is not None


@pytest.mark.parametrize("name", GRAPHS)
def test_whatever_it_takes_it_answers_as_the_interpreter_does(name: str) -> None:
    graph = GRAPHS[name]()
    act = compile_act(graph)
    kinds = {op.kind for op in graph.ops}
    if graph.states or not kinds <= OPS:
        assert act is None
    if act is None:
        return
    x = observations_for(graph, 40)["obs"]
    expected = Policy(graph).predict(x, deterministic=True)[0]
    for dtype in (np.float32, np.float64):
        np.testing.assert_allclose([act(one.astype(dtype)) for one in x], expected, atol=1e-5)


def mlp(mean: Any, clip: float, weight: Any = None, bias: Any = None, shape: tuple[int, ...] = (2,)) -> PolicyGraph:
    """A normaliser and one linear layer."""
    size = int(np.prod(shape))
    weight = np.eye(size, dtype=FLOAT32) if weight is None else weight
    bias = np.zeros(len(weight), FLOAT32) if bias is None else bias
    statistics = {"mean": np.full(shape, mean, FLOAT32), "scale": np.full(shape, 2, FLOAT32)}
    ops = (
        Op("normalise", ("obs",), "normal", {"clip": clip}, statistics),
        Op("flatten", ("normal",), "flat"),
        Op("linear", ("flat",), "mean", {}, {"weight": weight, "bias": bias}),
        Op("append", ("mean",), "params", {}, {"value": np.zeros(len(weight), FLOAT32)}),
    )
    bound = (99.0,) * len(weight)
    head = HeadSpec("diag_gaussian", (len(weight),), "float32", low=tuple(-x for x in bound), high=bound)
    return PolicyGraph({"obs": ObservationSpec(shape, "float32")}, ops, head)


@pytest.mark.filterwarnings("ignore:overflow")
@pytest.mark.parametrize("mean", [0.0, 0.5, -1.0, 4.0])
@pytest.mark.parametrize("clip", [0.25, 3.0, 10.0])
def test_the_clip_is_the_normalisers(mean: float, clip: float) -> None:
    graph = mlp(mean, clip)
    act = compile_act(graph)
    assert act is not None
    policy = Policy(graph)
    x = np.float32([[0, 0], [mean, mean], [1, -1], [50, 0.1], [-50, 50], [3e38, -3e38], [1e-30, 5]])
    fast = [policy.act(one) if act(one) is None else act(one) for one in x]
    np.testing.assert_allclose(fast, policy.predict(x, deterministic=True)[0], atol=1e-5)
    assert np.abs(policy.act(np.float32([50, -50]))).tolist() == [clip, clip]


def test_means_of_many_standard_deviations_are_not_folded() -> None:
    assert compile_act(mlp(4.9, 10.0)) is not None
    assert compile_act(mlp(5.1, 10.0)) is None
    assert compile_act(mlp(0.0, 0.0)) is None


def test_an_observation_of_several_axes_is_laid_out_as_flatten_does() -> None:
    weight = np.random.default_rng(0).normal(size=(3, 6)).astype(FLOAT32)
    graph = mlp(0.5, 5.0, weight, np.float32([1, 2, 3]), (2, 3))
    act = compile_act(graph)
    assert act is not None
    x = np.random.default_rng(1).normal(size=(2, 3))
    for one in (x.astype(FLOAT32), x, x.astype(FLOAT32).T.copy().T):
        np.testing.assert_allclose(act(one), Policy(graph).predict(one[None], deterministic=True)[0][0], atol=1e-5)
    assert act(x.reshape(-1)) is None
    assert act(x.T) is None


UNKNOWN: dict[str, Any] = {
    "another shape": np.zeros(3, FLOAT32),
    "a batch": np.zeros((1, 4), FLOAT32),
    "NaN": np.float32([0, np.nan, 0, 0]),
    "infinity": np.float32([0, -np.inf, 0, 0]),
    "both infinities": np.float32([np.inf, -np.inf, 0, 0]),
    "beyond float32": np.array([1e300, 0, 0, 0]),
    "complex numbers": np.zeros(4, complex),
    "objects": np.array([None, 1, 2, 3]),
    "text": np.array(list("abcd")),
}


@pytest.mark.parametrize("what", UNKNOWN)
@pytest.mark.parametrize("kind", ["mlp", "tree"])
def test_what_it_cannot_tell_is_left_to_the_interpreter(kind: str, what: str) -> None:
    act = compile_act(make_graph() if kind == "mlp" else make_student(HEADS["categorical"], "tree").graph())
    assert act is not None
    assert act(UNKNOWN[what]) is None


@pytest.mark.parametrize(
    ("weight", "bias", "features"),
    [
        (np.ones((4, 3, 1), FLOAT32), np.ones(4, FLOAT32), 3),
        (np.ones(1, FLOAT32), np.ones(1, FLOAT32), 1),
        (np.ones((4, 3), FLOAT32), np.ones(1, FLOAT32), 3),
    ],
)
def test_what_only_broadcasting_allows_is_left_to_the_interpreter(weight: Any, bias: Any, features: int) -> None:
    ops = (Op("linear", ("obs",), "wide", {}, {"weight": weight, "bias": bias}), Op("flatten", ("wide",), "params"))
    head = HeadSpec("categorical", (), "int64", (len(weight),), (0,))
    graph = PolicyGraph({"obs": ObservationSpec((features,), "float32")}, ops, head)
    assert compile_act(graph) is None
    assert Policy(graph).act(np.ones(features, FLOAT32)) == 0


def test_an_observation_is_not_written_to() -> None:
    for graph in (mlp(0.0, 1.0), make_graph(hidden=()), make_graph(activation="relu")):
        act = compile_act(graph)
        assert act is not None
        x = np.full(graph.observations["obs"].shape, 7, FLOAT32)
        x.flags.writeable = False
        first = act(x)
        np.testing.assert_array_equal(act(x), first)


def test_a_later_layer_of_three_axes_is_left_to_the_interpreter() -> None:
    first = {"weight": np.ones((1, 3), FLOAT32), "bias": np.zeros(1, FLOAT32)}
    second = {"weight": np.ones((4, 1, 1), FLOAT32), "bias": np.float32([0, 3, 1, 2])}
    ops = (
        Op("linear", ("obs",), "one", {}, first),
        Op("activation", ("one",), "two", {"function": "relu"}),
        Op("linear", ("two",), "wide", {}, second),
        Op("flatten", ("wide",), "params"),
    )
    head = HeadSpec("categorical", (), "int64", (4,), (0,))
    graph = PolicyGraph({"obs": ObservationSpec((3,), "float32")}, ops, head)
    assert compile_act(graph) is None
    assert Policy(graph).act(np.ones(3, FLOAT32)) == 1
