"""Which functions are one teacher and which are two."""

import functools
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from kd_agent.teachers._identity import fingerprint

WEIGHT = np.ones((4, 4))


def made(scale: Any) -> Callable[[Any], Any]:
    """A function that encloses something."""
    return lambda x: scale * x


class Agent:
    """An object that can be called."""

    def __init__(self, weight: Any) -> None:
        self.weight = weight

    def __call__(self, x: Any) -> Any:
        return x @ self.weight

    def act(self, x: Any) -> Any:
        return x @ self.weight


def test_two_lambdas_are_two_teachers_and_one_is_one() -> None:
    one, other = (lambda x: x), (lambda x: -x)
    assert fingerprint(one, "f") != fingerprint(other, "f")
    assert fingerprint(one, "f") == fingerprint(one, "f")
    assert fingerprint(one, "f") != fingerprint(one, "g")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (1, 2),
        (1, 1.0),
        (np.ones(3), np.ones(4)),
        (np.zeros(3), np.float32([0, 0, 1])),
        (torch.zeros(2), torch.ones(2)),
        ({"a": [1, (2,)]}, {"a": [1, (3,)]}),
        (Agent(np.zeros(4)), Agent(np.ones(4))),
        (torch.nn.Linear(2, 2), torch.nn.Linear(2, 2)),
        (functools.partial(max, 1), functools.partial(max, 2)),
        ({1, 2}, {1, 3}),
    ],
)
def test_what_a_function_holds_tells_it_apart(one: Any, other: Any) -> None:
    for wrap in (made, lambda held: Agent(held).act, lambda held: functools.partial(made, held)):
        assert fingerprint(wrap(one), "f") == fingerprint(wrap(one), "f")
        assert fingerprint(wrap(one), "f") != fingerprint(wrap(other), "f")


def test_a_global_that_the_code_names_is_held_too(monkeypatch: pytest.MonkeyPatch) -> None:
    def linear(x: Any) -> Any:
        return x @ WEIGHT

    before = fingerprint(linear, "f")
    monkeypatch.setitem(globals(), "WEIGHT", np.zeros((4, 4)))
    assert fingerprint(linear, "f") != before


def test_a_modules_settings_and_code_count_and_its_mode_does_not() -> None:
    module = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.LeakyReLU(0.1))
    before = fingerprint(module, "m")
    assert fingerprint(module.eval(), "m") == before
    steeper = torch.nn.Sequential(module[0], torch.nn.LeakyReLU(0.2))
    assert fingerprint(steeper, "m") != before


def test_an_object_that_holds_itself_or_cannot_be_looked_into_has_one_all_the_same() -> None:
    agent = Agent(np.ones(2))
    agent.weight = [agent, iter([1])]
    assert fingerprint(agent, "f") == fingerprint(agent, "f")
    other = Agent([agent.weight[0], iter([1])])
    assert fingerprint(other, "f") != fingerprint(agent, "f")


def test_what_an_object_counts_for_itself_makes_it_no_other() -> None:
    agent, other = Agent(np.ones(2)), Agent(np.ones(2))
    other._calls = 3  # type: ignore[attr-defined]
    agent._calls = None  # type: ignore[attr-defined]
    assert fingerprint(agent, "f") == fingerprint(other, "f")
    other._weight = np.ones(1)  # type: ignore[attr-defined]
    assert fingerprint(agent, "f") != fingerprint(other, "f")


def test_the_same_file_gives_the_same_in_another_process(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "import numpy as np\nfrom kd_agent.teachers._identity import fingerprint\nTABLE = {'a': np.arange(3)}\n"
        "def act(x):\n    return [y for y in x if y in {1, 2}] or np.argmax(x @ TABLE['a'])\n"
        "print(fingerprint(act, 'act'))\n"
    )
    command = [sys.executable, str(tmp_path / "mine.py")]
    runs = [subprocess.run(command, capture_output=True, text=True, check=True).stdout for _ in range(2)]
    assert runs[0] == runs[1] != ""
