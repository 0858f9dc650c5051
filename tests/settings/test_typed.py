"""What only a typed word may say: files neither trust a teacher nor name code that is not registered."""

import sys
from pathlib import Path
from typing import Any

import pytest

from kd_agent import KDError
from kd_agent.settings import DistillConfig, TasksConfig, check_arguments, registered, resolve
from kd_agent.settings.typed import check_file

KNOWN = "json:CartPole-v1"
"""An id that is registered, behind a module that has been imported."""


def checked(values: dict[str, Any], *typed: str, resumes: bool = False) -> dict[str, Any]:
    return check_file(values, "f.yaml", typed, resumes=resumes)


@pytest.mark.parametrize("value", [True, "yes", "on", 1, "true", None, [True]])
def test_a_file_that_trusts_a_teacher_is_refused_and_names_the_flag(value: Any) -> None:
    with pytest.raises(KDError, match=r"^f\.yaml: trust_teacher .* typed: --trust-teacher$"):
        checked({"trust_teacher": value})
    with pytest.raises(KDError, match=r"as when the run was begun: --trust-teacher$"):
        checked({"trust_teacher": value}, resumes=True)
    assert checked({"trust_teacher": value}, "trust_teacher")


def test_a_file_that_does_not_trust_says_nothing() -> None:
    assert checked({"trust_teacher": False, "env": "CartPole-v1"}) == {"trust_teacher": False, "env": "CartPole-v1"}


@pytest.mark.parametrize("name", ["env", "teacher_env", "tasks"])
def test_a_module_that_a_file_names_is_refused_and_named(name: str) -> None:
    flag = f"--{name.replace('_', '-')}"
    value: Any = ["CartPole-v1", "absent:Foo-v0"] if name == "tasks" else "absent:Foo-v0"
    with pytest.raises(KDError, match=rf"^f\.yaml: {name} names .* typed: {flag} absent:Foo-v0$"):
        checked({name: value})
    assert checked({name: value}, name) == {name: value}


def test_an_id_that_is_registered_needs_no_module() -> None:
    assert checked({"env": "absent:CartPole-v1"}) == {"env": "CartPole-v1"}
    assert checked({"tasks": ["absent:CartPole-v1", "A-v0"]}) == {"tasks": ["CartPole-v1", "A-v0"]}
    # A run that goes on has to be the same to the letter, and its module is only known to be harmless where it is in.
    assert "json" in sys.modules
    assert checked({"env": KNOWN}, resumes=True) == {"env": KNOWN}
    with pytest.raises(KDError, match=r"begun: --env absent:CartPole-v1$"):
        checked({"env": "absent:CartPole-v1"}, resumes=True)


def test_our_own_modules_may_be_named() -> None:
    assert checked({"env": "kd_envs:kd_envs/Other-v0"}) == {"env": "kd_envs:kd_envs/Other-v0"}
    assert registered("absent:Foo-v0") is None


@pytest.mark.parametrize("text", ["json:loads", "os.path.join", "xml.sax:handler", "__main__:x"])
def test_arguments_that_name_code_are_refused(text: str) -> None:
    for value in (text, [text], {"a": {"b": (text,)}}, {text: 1}):
        with pytest.raises(KDError, match=r"^f: the argument '.*' names code, .* typed: --env-kwargs$"):
            check_arguments({"config": value}, "CartPole-v1", "f")


def test_arguments_that_name_none_are_left_alone() -> None:
    nested: list[Any] = []
    for _ in range(5_000):
        nested = [nested]
    plain = {"a": "ant.xml", "b": "v1.5", "c": "a: b", "d": 3, "e": nested, "f": "json", "g": "http://x.org/y"}
    check_arguments(plain, "CartPole-v1", "f")
    # An environment's own package is what plays anyhow.
    check_arguments({"a": "gymnasium.envs:classic_control"}, "CartPole-v1", "f")
    with pytest.raises(KDError, match="names code"):
        check_arguments({"a": "gymnasium.envs:classic_control"}, "Unknown-v0", "f")


def test_settings_are_checked_wherever_a_file_comes_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "config.yaml"
    path.write_text("trust_teacher: true\nenv: CartPole-v1")
    with pytest.raises(KDError, match="--trust-teacher"):
        resolve(DistillConfig, {}, str(path))
    with pytest.raises(KDError, match="--trust-teacher"):
        resolve(DistillConfig, {"out": str(tmp_path), "resume": True})
    assert not resolve(DistillConfig, {"trust_teacher": False}, str(path)).trust_teacher
    assert resolve(DistillConfig, {"trust_teacher": True}, str(path)).trust_teacher
    path.write_text("tasks: [CartPole-v1, 'absent:Foo-v0']")
    with pytest.raises(KDError, match="--tasks absent:Foo-v0"):
        resolve(TasksConfig, {}, str(path))
    # Shipped settings are a file like any other.
    (tmp_path / "CartPole-v1.yaml").write_text("trust_teacher: true")
    # The room shows a function of the module's own name.
    monkeypatch.setattr(sys.modules["kd_agent.settings.resolve"], "config_folder", lambda: tmp_path)
    with pytest.raises(KDError, match="--trust-teacher"):
        resolve(DistillConfig, {"env": "CartPole-v1"})


@pytest.mark.parametrize("name", ["wrapper", "teacher_wrapper"])
def test_a_wrapper_that_a_file_names_is_refused_and_named(name: str) -> None:
    flag = f"--{name.replace('_', '-')}"
    for value in (["m:A", "m:B"], "m:A m:B"):
        with pytest.raises(KDError, match=rf"^f\.yaml: {name} runs code, .* typed: {flag} m:A m:B$"):
            checked({name: value})
        with pytest.raises(KDError, match=rf"as when the run was begun: {flag} m:A m:B$"):
            checked({name: value}, resumes=True)
        assert checked({name: value}, name) == {name: value}
    with pytest.raises(KDError, match=f"{flag} 5$"):
        checked({name: 5})
    assert checked({name: []}) == {name: []}
