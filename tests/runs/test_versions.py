"""What a run was made with is said."""

import json
import platform
from importlib.metadata import version
from typing import Any

import pytest
import torch

import kd_agent
from kd_agent.runs import versions as module
from kd_agent.runs.versions import versions


def test_versions_are_those_that_are_installed() -> None:
    found = versions()
    assert (found["kd_agent"], found["python"]) == (kd_agent.__version__, platform.python_version())
    assert found["threads"] == torch.get_num_threads()
    assert found["packages"]["torch"] == version("torch")
    assert found["packages"]["gymnasium"] == version("gymnasium")
    assert json.loads(json.dumps(found)) == found


def test_what_is_not_installed_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PACKAGES", ("numpy", "no-such-package"))
    assert list(versions()["packages"]) == ["numpy"]


def test_a_result_says_what_it_was_made_with(runs: dict[str, Any]) -> None:
    _, result = runs["Discrete"]
    assert result["versions"] == {**versions(), "threads": 1}
