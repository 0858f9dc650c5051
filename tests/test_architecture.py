"""The floors of the package: imports go strictly downwards, and a deployed agent needs little."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from samples import ROOT, make_graph

from kd_agent import graph_file, plugins
from kd_agent.errors import KDError

PACKAGE = ROOT / "kd_agent"
FLOORS = (
    ("errors", "field_types", "monitor", "progress", "statistics"),
    ("files", "head", "plugins", "settings"),
    ("kernels", "tool_settings", "yaml_file"),
    ("graph", "int8"),
    ("task_graph",),
    (
        "actions",
        "checkpoint",
        "compiler",
        "config",
        "extension",
        "features",
        "graph_file",
        "normalizer",
        "rules",
        "single",
        "spaces",
        "torch_graph",
    ),
    ("flags", "runtime"),
    ("environments", "native", "policy"),
    (
        "adapters",
        "collectors",
        "combine",
        "compress",
        "ensemble",
        "evaluate",
        "export",
        "losses",
        "objective",
        "report",
        "rollouts",
        "students",
        "teachers",
    ),
    ("closeness", "contest", "graph_student", "guided", "latency", "reservoir", "sizing", "visited"),
    ("explain", "gate", "judge", "learners", "render", "session", "sweep", "train"),
    ("given",),
    ("continual", "control", "explanation", "fitting", "kickstart", "multitask"),
    ("temperature",),
    ("drift", "rounds"),
    ("attempts",),
    ("size_search",),
    ("realtime",),
    ("distill",),
    ("settings_search", "tasks", "triad"),
    ("cli",),
    ("__main__",),
)
"""Modules and folders, the lowest first; a folder stands for all plug-ins in it."""


def floor(module: str) -> int:
    top = module.partition(".")[0]
    found = [height for height, names in enumerate(FLOORS) if top in names]
    assert found, f"kd_agent.{module} has no floor: add it to FLOORS"
    return found[0]


def modules() -> list[str]:
    paths = (p.relative_to(PACKAGE).with_suffix("") for p in PACKAGE.rglob("*.py") if p != PACKAGE / "__init__.py")
    return sorted(".".join(p.parts).removesuffix(".__init__") for p in paths)


def imported(path: Path) -> Iterator[str]:
    """Modules of the package that a file imports, without the package's own name."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name} imports relatively"
            deeper = [f"{node.module}.{alias.name}" for alias in node.names]
            names = [n if is_module(n) else str(node.module) for n in deeper]
        else:
            continue
        yield from (n.removeprefix("kd_agent.") for n in names if n.startswith("kd_agent."))


def is_module(name: str) -> bool:
    place = ROOT.joinpath(*name.split("."))
    return place.is_dir() or place.with_suffix(".py").is_file()


def file_of(module: str) -> Path:
    place = PACKAGE.joinpath(*module.split("."))
    return place / "__init__.py" if place.is_dir() else place.with_suffix(".py")


@pytest.mark.parametrize("module", modules())
def test_imports_go_strictly_downwards(module: str) -> None:
    folder = module.partition(".")[0]
    for other in imported(file_of(module)):
        if other.startswith(f"{folder}._"):
            continue  # a folder's private helper
        assert floor(other) < floor(module), f"kd_agent.{module} must not import kd_agent.{other}"


@pytest.mark.parametrize("module", [m for m in modules() if "." in m])
def test_plugins_of_one_folder_share_private_helpers_only(module: str) -> None:
    folder = module.partition(".")[0]
    siblings = [other for other in imported(file_of(module)) if other.partition(".")[0] == folder]
    assert all(other.startswith(f"{folder}._") for other in siblings), siblings


def test_scripts_and_the_command_line_are_the_only_users_of_the_loop() -> None:
    users = {m for m in modules() if "distill" in set(imported(file_of(m)))}
    assert users <= {"cli", "settings_search", "sweep", "tasks", "triad"}


def test_the_map_of_the_package_names_every_module_once() -> None:
    section = (ROOT / "CONTRIBUTING.md").read_text().partition("## Where things are")[2].partition("\n## ")[0]
    rows = [line for line in section.splitlines() if line.startswith("|")]
    named = [name for row in rows for name in re.findall(r"`(\w+)`", row)]
    top = {m for m in modules() if "." not in m and not (PACKAGE / m).is_dir() and not m.startswith("__")}
    assert sorted(named) == sorted(top)


COMMANDS = [path for path in sorted((ROOT / "scripts").glob("*.py")) if "from kd_agent" in path.read_text()]
"""Scripts that are commands of the package, not tools for working on it."""


@pytest.mark.parametrize("script", COMMANDS, ids=lambda p: p.name)
def test_each_script_is_short(script: Path) -> None:
    assert len(script.read_text().splitlines()) < 40


def test_import_and_a_running_student_need_neither_torch_nor_gymnasium(tmp_path: Path) -> None:
    path = graph_file.write(make_graph(), tmp_path / "student.safetensors")
    code = f"""
import sys, kd_agent
policy = kd_agent.load_policy({str(path)!r})
print(policy.act([0.1, 0.2, 0.3, 0.4]), policy.predict([[0.0] * 4] * 2)[0].shape)
heavy = {{"torch", "stable_baselines3", "gymnasium", "scipy", "pydantic", "matplotlib"}} & set(sys.modules)
assert not heavy, heavy
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[1] == "(2,)"


def test_the_promised_names_are_functions_whatever_was_imported_before() -> None:
    code = """
import kd_agent.distill, kd_agent.evaluate, kd_agent
from kd_agent import distill, evaluate, load_policy, load_teacher
assert all(map(callable, (distill, evaluate, load_policy, load_teacher)))
assert kd_agent.distill is distill and kd_agent.evaluate is evaluate
assert {"distill", "evaluate"} <= set(kd_agent.__all__) and not hasattr(kd_agent, "absent")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_folder_is_the_registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    on_disk = {p.stem for p in (PACKAGE / "losses").glob("[!_]*.py")}
    assert set(plugins.names("losses")) == on_disk >= {"kl", "ce", "js", "mse", "reverse_kl"}
    (tmp_path / "losses").mkdir()
    (tmp_path / "losses" / "brand_new.py").write_text("")
    (tmp_path / "losses" / "_private.py").write_text("")
    monkeypatch.setattr(plugins, "_ROOT", tmp_path)
    assert plugins.names("losses") == ["brand_new"]


@pytest.mark.parametrize(("kind", "noun", "name", "nearest"), [
    ("losses", "loss", "reverse_lk", "reverse_kl"), ("students", "student", "mpl", "mlp"),
])  # fmt: skip
def test_an_unknown_plugin_is_answered_with_the_nearest(kind: str, noun: str, name: str, nearest: str) -> None:
    with pytest.raises(KDError, match=f"unknown {noun} '{name}'; did you mean '{nearest}'"):
        plugins.load(kind, name)


def test_a_plugin_name_cannot_leave_its_folder() -> None:
    with pytest.raises(KDError, match="unknown loss"):
        plugins.load("losses", "..cli")
