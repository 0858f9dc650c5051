"""A student remembers its environment, where nobody imported it; a typed module is found from everywhere."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium
import pytest
from samples import PROBES, ROOT, make_graph

from kd_agent import KDError, load_policy
from kd_agent.environments import recipe_of, recipe_of_student
from kd_agent.environments.recipe import Recipe
from kd_agent.environments.vector import make_single
from kd_agent.policies import Policy
from kd_agent.policies import file as graph_file
from kd_agent.policies.graph import PolicyGraph

PROBE = PROBES["Discrete"]
WORLD = """
import gymnasium
from kd_envs.probe import ProbeEnv
class World(ProbeEnv):
    def __init__(self, length=3, **more):
        super().__init__(**more)
        self.length = length
    def reset(self, **more):
        self.steps = 0
        return super().reset(**more)
    def step(self, action):
        self.steps += 1
        observation, reward, _, _, info = super().step(action)
        return observation, 1.0, False, self.steps >= self.length, info
gymnasium.register(f"{__name__.title()}-v0", World)
"""
PLAIN_PROCESS = """
import json, sys
from kd_agent.commands import cli
from kd_agent import load_policy
assert "kd_envs" not in sys.modules and "gymnasium" not in sys.modules
codes = [cli.run(argv[0], argv[1:]) for argv in json.loads(sys.argv[1])]
from kd_agent.environments import recipe_of_student
from kd_agent.environments.vector import spaces_of
if len(sys.argv) > 2:
    recipe = recipe_of_student(load_policy(sys.argv[2]).graph, "s")
    print(spaces_of(recipe)[0].shape, file=sys.stderr)
print(json.dumps(codes))
"""


def python(*words: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *words],
        check=False,
        capture_output=True,
        text=True,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(map(str, (ROOT, ROOT / "envs"))), "DISPLAY": ""},
        timeout=200,
    )


def saved(path: Path, recipe: Recipe, **more: Any) -> PolicyGraph:
    """A student of an environment, as a run writes it."""
    graph = make_graph(provenance={"env": recipe.env_id, "recipe": recipe.to_json(), **more})
    graph_file.write(graph, path)
    return graph


def test_students_of_our_own_environments_are_played_where_nobody_imported_them(tmp_path: Path) -> None:
    saved(tmp_path / "s.safetensors", recipe_of(PROBE))
    graph_file.write(make_graph(provenance={"env": PROBE}), tmp_path / "named.safetensors")
    commands = [
        ["evaluate", "s.safetensors", "--episodes", "2", "--quiet", "--render"],
        ["evaluate", "named.safetensors", "--episodes", "2", "--quiet"],
        ["explain", "s.safetensors", "--teacher", "s.safetensors", "--states", "64", "--quiet", "--no-progress"],
        ["export", "s.safetensors", "--out", "s.zip", "--quiet"],
        ["follow-drift", "s.safetensors", "--teacher", "s.safetensors", "--env", "CartPole-v1", "--quiet"],
    ]
    pong: list[str] = []
    try:
        saved(tmp_path / "pong.safetensors", recipe_of("ALE/Pong-v5"))
        pong = ["pong.safetensors"]
    except KDError:
        pass
    done = python("-P", "-c", PLAIN_PROCESS, json.dumps(commands), *pong, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    # The student of a probe does not fit the drifting world, which is said of that one.
    assert json.loads(done.stdout.splitlines()[-1]) == [0, 0, 0, 0, 2], done.stderr
    assert f"{PROBE} cannot be rendered here" in done.stderr
    assert "acts by categorical (4,)" in done.stderr
    if pong:
        assert done.stderr.endswith("(84, 84, 4)\n")


@pytest.mark.parametrize("entry", ["script", "kd-agent", "python -m"])
def test_a_typed_module_is_found_in_the_working_folder(entry: str, tmp_path: Path) -> None:
    (tmp_path / "world.py").write_text(WORLD)
    # A file of the folder takes no library's place, wherever Python itself does not look there first.
    if entry != "python -m":
        (tmp_path / "pydantic.py").write_text("raise SystemExit('the wrong pydantic')")
    kept = Recipe("World-v0", {"length": 7}, module="world")
    saved(tmp_path / "s.safetensors", kept)
    words = {
        "script": [str(ROOT / "scripts" / "evaluate_policy.py")],
        "kd-agent": ["-P", "-c", "import sys; from kd_agent.commands.cli import main; sys.exit(main())", "evaluate"],
        "python -m": ["-m", "kd_agent", "evaluate"],
    }[entry]
    done = python(*words, "s.safetensors", "--env", "world:World-v0", "--episodes", "2", "--quiet", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    # Typing the module of its own environment means that one, with the arguments that the student remembers.
    assert json.loads(done.stdout)["student"]["returns"] == [7, 7]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A working folder where no module is found yet."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    before = set(gymnasium.registry)
    yield tmp_path
    for added in set(gymnasium.registry) - before:
        del gymnasium.registry[added]


def test_a_module_that_a_file_names_is_told_and_one_that_is_typed_is_remembered(folder: Path) -> None:
    (folder / "planet.py").write_text(WORLD)
    kept = Recipe("Planet-v0", {"length": 4}, module="planet")
    graph = saved(folder / "s.safetensors", kept)
    with pytest.raises(KDError, match=r"^s: .* imported only where it is typed: --env planet:Planet-v0$"):
        recipe_of_student(graph, "s")
    assert "planet" not in sys.modules
    typed = recipe_of("planet:Planet-v0", {"length": 4})
    assert typed == kept
    assert Recipe.from_json(typed.to_json()) == typed
    # Now it is registered, as by a caller who imported it.
    assert recipe_of_student(graph, "s") == kept
    assert recipe_of_student(graph, "s", "planet:Planet-v0") == kept
    assert recipe_of_student(graph, "s", "planet:Planet-v0", {"length": 5}).env_kwargs == {"length": 5}
    assert recipe_of_student(graph, "s", "Planet-v0").env_kwargs == {}
    assert load_policy(folder / "s.safetensors").env_id == "Planet-v0"


def test_an_id_that_is_asked_for_brings_no_module_along() -> None:
    """Who makes the environment of a stranger's student by Gymnasium would import what stands before the colon."""
    assert Policy(make_graph(provenance={"env": "somewhere:Planet-v0"})).env_id == "Planet-v0"
    assert Policy(make_graph(provenance={"by": "hand"})).env_id == ""
    with pytest.raises(KDError, match="environment 'planet:Absent-v0' cannot be made"):
        make_single("planet:Absent-v0", {})


@pytest.mark.parametrize("text", ["raise SystemExit(3)", "1 / 0", "import absent_from_here", "def", "raise OSError"])
def test_a_module_that_cannot_be_imported_is_one_line(text: str, folder: Path) -> None:
    (folder / "broken_world.py").write_text(text)
    with pytest.raises(KDError, match="module 'broken_world' cannot be imported") as caught:
        recipe_of("broken_world:World-v0")
    assert "\n" not in str(caught.value)
