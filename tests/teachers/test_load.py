"""One teacher from whatever names it."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from small_agents import CHOICE, VECTOR

from kd_agent import KDError, load_teacher, plugins
from kd_agent.environments.recipe import recipe_of
from kd_agent.teachers import recipe_for


@pytest.mark.parametrize("source", ["README.md", ".", "", "teacher.tar"])
def test_what_is_no_teacher_is_refused(source: str) -> None:
    with pytest.raises(KDError):
        load_teacher(source)


@pytest.mark.parametrize("source", ["", "teacher.tar"])
def test_the_refusal_says_what_would_be_a_teacher(source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "agent.zip").write_bytes(b"PK")  # an empty name is not the working folder
    for read in (load_teacher, lambda name: recipe_for(name, "CartPole-v1", {})):
        with pytest.raises(KDError, match=rf"^{source}: not a teacher; expected a Stable-Baselines3 \.zip"):
            read(source)


def test_the_environment_of_what_does_not_know_its_own_is_the_one_asked_for() -> None:
    kwargs = {"sutton_barto_reward": True}
    for source in ("student.safetensors", "policy.onnx", len):
        assert recipe_for(source, "CartPole-v1", kwargs) == recipe_of("CartPole-v1", kwargs)
    with pytest.raises(KDError, match="CartPole-v1"):
        recipe_for("student.safetensors", "CartPol-v1", {})


def test_an_error_names_its_source_once_and_a_plug_in_is_told_what_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    requests = []

    def load(source: Any, request: Any) -> None:
        requests.append(request)
        raise KDError(messages.pop())

    plugin = SimpleNamespace(accepts=lambda source: True, load=load)
    monkeypatch.setattr(plugins, "names", lambda kind: ["mine"])
    monkeypatch.setattr(plugins, "load", lambda kind, name: plugin)
    messages = ["it is damaged", "a/b.mine: it is damaged"]
    for _ in range(2):
        with pytest.raises(KDError) as caught:
            load_teacher("a/b.mine", env=(VECTOR, CHOICE), statistics="s", trust_teacher=True)
        assert str(caught.value) == "a/b.mine: it is damaged"
    request = requests[0]
    assert (request.env, request.statistics, request.trust_teacher) == ((VECTOR, CHOICE), "s", True)
    assert request.allow_missing_statistics is False
