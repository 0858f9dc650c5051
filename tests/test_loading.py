"""The door through which every agent comes in."""

from pathlib import Path

import numpy as np
import pytest
from compilers import without_compiler
from samples import make_graph

from kd_agent import KDError, load_policy
from kd_agent.policies import Policy
from kd_agent.policies import file as graph_file


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


@pytest.fixture
def student(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return graph_file.write(make_graph(), tmp_path / "s.safetensors")


def test_numpy_is_what_runs_a_policy_unless_another_is_asked_for(student: Path) -> None:
    policy = load_policy(str(student))
    assert type(policy) is Policy
    assert policy.backend == "numpy"
    assert not (student.parent / "cache").exists()


@pytest.mark.parametrize("backend", ["numpy", "native"])
def test_the_seed_decides_the_samples(backend: str, student: Path) -> None:
    x = np.zeros((200, 4), np.float32)
    first, again, other = (load_policy(student, seed=seed, backend=backend).predict(x)[0] for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


@pytest.mark.parametrize("backend", ["numpy", "native", "auto"])
def test_a_file_that_is_not_there_is_an_error_whatever_runs_it(backend: str, tmp_path: Path) -> None:
    with pytest.raises(KDError, match="there is no such file"):
        load_policy(tmp_path / "absent.safetensors", backend=backend)


def test_auto_hides_no_other_error_than_that_native_is_impossible(
    student: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*arguments: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("kd_agent.native.policy.NativePolicy", broken)
    with pytest.raises(ZeroDivisionError):
        load_policy(student, backend="auto")


def test_a_task_is_named_where_a_file_holds_several(student: Path) -> None:
    assert load_policy(student, task="CartPole-v1").env_id == "CartPole-v1"
    with pytest.raises(KDError, match="no task 'Pendulum-v1'"):
        load_policy(student, task="Pendulum-v1")
