"""GDScript: one script without dependencies, played in Godot, that says what is no observation."""

import subprocess
from pathlib import Path

import numpy as np
import pytest
from masked_agents import masked_graph
from played import asked, gdscript, numbers
from sample_graphs import GRAPHS

from kd_agent import export
from kd_agent.policies.graph import PolicyGraph


def said(graph: PolicyGraph, lines: list[str], folder: Path) -> tuple[list[str], str]:
    """What a policy answers, and what Godot reports."""
    text = "\n".join(["begin", *lines]) + "\n"
    done = subprocess.run(gdscript(graph, folder), input=text, capture_output=True, text=True, check=True, timeout=120)
    return done.stdout.splitlines()[1:], done.stderr


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (asked("act", [1, 2, 3]), "obs has 3 numbers, expected 4"),
        (asked("act", [1, 2, 3, 4, 5]), "obs has 5 numbers, expected 4"),
        (asked("act", [0, np.nan, 0, 0]), "obs has a number that is not finite"),
        (asked("act", [0, 0, 0, 0], [1]), "mask has 1 flags, expected 4"),
    ],
)
def test_what_is_no_observation_is_reported(line: str, words: str, tmp_path: Path) -> None:
    right = asked("act", [0, 0, 0, 0], [0, 0, 1, 0])
    answers, errors = said(masked_graph(), [line, right], tmp_path)
    assert errors.count(words) == 1
    assert numbers(answers[1])[0] == 2


def test_a_memory_belongs_to_the_caller(tmp_path: Path) -> None:
    line = asked("params", [1, 0, -1, 2])
    (first, second, _, anew), _ = said(GRAPHS["lstm"](), [line, line, "begin", line], tmp_path)
    assert first == anew
    assert first != second


def test_calls_do_not_disturb_each_other(tmp_path: Path) -> None:
    main = """
extends Node
const Policy = preload("res://policy.gd")
func _ready() -> void:
    var first := Policy.params([0, 0, 0, 0])
    Policy.params([9, 9, 9, 9])
    JavaScriptBridge.eval("writeLine('%s')" % (first == Policy.params([0, 0, 0, 0])), true)
    get_tree().quit()
"""
    assert said_by(main, GRAPHS["categorical"](), tmp_path) == "true"


def said_by(main: str, graph: PolicyGraph, folder: Path) -> str:
    """What another main script prints."""
    command = gdscript(graph, folder, main)
    return subprocess.run(command, input="", capture_output=True, text=True, check=True, timeout=120).stdout.strip()


def test_an_action_is_computed_without_the_standard_deviations(tmp_path: Path) -> None:
    text = export(GRAPHS["state-dependent noise"](), tmp_path / "policy.gd")[0].read_text()
    assert text.count("_run(obs, false)") == text.count("_run(obs, true)") == 1
