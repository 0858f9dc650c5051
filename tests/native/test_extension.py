"""The C around a policy's C: what it takes by itself, what it hands on, and without Python's headers."""

from pathlib import Path

import numpy as np
import pytest
from sample_graphs import GRAPHS, observations_for
from samples import HEADS, make_graph, make_student

from kd_agent.native import compiler, extension
from kd_agent.native.policy import NativePolicy, _load
from kd_agent.policies.graph import ObservationSpec
from kd_agent.policies.policy import Policy


def test_without_pythons_headers_the_library_is_called_through_ctypes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(compiler, "python_headers", lambda: None)
    for name in ("categorical", "diag_gaussian", "gru"):
        graph = GRAPHS[name]()
        native, x = NativePolicy(graph), observations_for(graph, 9)["obs"]
        np.testing.assert_allclose(native.params(x), Policy(graph).params(x), atol=1e-5)
        if name != "gru":
            np.testing.assert_allclose(native.act(x[0]), Policy(graph).act(x[0]), atol=1e-5)


def test_the_module_itself_refuses_buffers_of_the_wrong_length() -> None:
    policy = NativePolicy(make_graph())
    good, short = np.zeros((3, 4), np.float32), np.zeros((2, 4), np.float32)
    for arguments in ((good, None, short), (good.astype(float), None, good), (good[:, :3], None, good), (good, None)):
        with pytest.raises((ValueError, TypeError, BufferError)):
            policy._params(*arguments)


@pytest.mark.parametrize("kind", ["diag_gaussian", "squashed_gaussian", "multi_categorical", "bernoulli"])
def test_each_action_array_is_a_new_one(kind: str) -> None:
    policy = NativePolicy(make_graph(kind))
    first = policy.act(np.zeros(4, np.float32))
    kept = first.copy()
    second = policy.act(np.full(4, 2, np.float32))
    assert not np.shares_memory(first, second)
    np.testing.assert_array_equal(first, kept)
    assert first.shape == policy.graph.head.shape


@pytest.mark.parametrize(
    ("name", "direct"),
    [
        ("categorical", True),
        ("diag_gaussian", True),
        ("pixels", True),
        ("several keys", False),
        ("gru", False),
    ],
)
def test_one_array_without_memory_is_answered_in_c_alone(name: str, direct: bool) -> None:
    graph = GRAPHS[name]()
    assert extension.is_direct(graph) == direct
    assert f"#define KD_DIRECT {int(direct)}" in extension.module_text(graph)
    assert (type(NativePolicy(graph).act).__name__ == "builtin_function_or_method") == direct


def test_observations_of_truth_values_are_not_read_in_c() -> None:
    bits = make_student(HEADS["categorical"], observations={"obs": ObservationSpec((4,), "bool")})
    assert not extension.is_direct(bits.graph())


def test_bind_refuses_another_number_of_actions() -> None:
    bind = _load(make_graph())[1]
    for arguments in ((print,), (print, "abcd"), (print, tuple("abc"))):
        with pytest.raises(TypeError, match=r"bind\(\) takes"):
            bind(*arguments)


def test_numbers_and_shapes_are_all_that_is_inserted() -> None:
    graph = make_graph("diag_gaussian", provenance={"env": "*/ system(0); /*"})
    for text in (extension.module_text(graph), extension.plain_text(graph)):
        assert "system" not in text
        assert "static const long kd_shape[] = {4, 0};" in text
        assert "typedef float kd_element;" in text
    assert "Python.h" not in extension.plain_text(graph)


def test_what_the_c_does_not_take_goes_to_the_slow_function_as_it_is() -> None:
    asked: list[object] = []
    act = _load(make_graph())[1](asked.append, tuple("abcd"))
    assert act(np.zeros(4, np.float32)) in "abcd"
    assert asked == []
    wrong = [np.zeros(3, np.float32), np.zeros((1, 4), np.float32), np.full(4, np.nan), [0.0] * 4, b"1234", None]
    assert [act(one) for one in wrong] == [None] * len(wrong)
    assert all(one is other for one, other in zip(asked, wrong, strict=True))
