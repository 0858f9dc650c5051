"""The rooms of the package: imports go upwards in the table alone, and a deployed agent needs little."""

import ast
import re
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest
from samples import ROOT, make_graph

from kd_agent.policies import file as graph_file

PACKAGE = ROOT / "kd_agent"
FACES = ("__init__", "__main__", "errors", "plugins", "loading")
"""What lies loose in the package; everything else has a room."""
OPEN_TO_ALL = ("errors", "plugins")


def rooms() -> list[str]:
    """The rooms in the order of CONTRIBUTING's table: each may import those above it, and `loading` below `native`."""
    section = (ROOT / "CONTRIBUTING.md").read_text().partition("## Rooms")[2].partition("\n## ")[0]
    first_cells = [line.split("|")[1] for line in section.splitlines() if line.startswith("| `")]
    return [name for cell in first_cells for name in re.findall(r"`(\w+)`", cell)]


ORDER = rooms()


def modules() -> list[str]:
    paths = (p.relative_to(PACKAGE).with_suffix("") for p in PACKAGE.rglob("*.py") if p != PACKAGE / "__init__.py")
    return sorted(".".join(p.parts).removesuffix(".__init__") for p in paths)


def imported(path: Path) -> set[str]:
    """Modules of the package that a file imports, lazily or not, without the package's own name.

    `import_module` with a name written out counts, and so does the room of a plug-in that is loaded.
    """
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name} imports relatively"
            deeper = [f"{node.module}.{alias.name}" for alias in node.names]
            names |= {name if is_module(name) else str(node.module) for name in deeper}
        elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            names |= loaded(ast.unparse(node.func), str(node.args[0].value))
    return {name.removeprefix("kd_agent.") for name in names if name.startswith("kd_agent.")}


def loaded(function: str, argument: str) -> set[str]:
    """What a call imports by name."""
    if function.endswith("import_module"):
        return {argument}
    return {f"kd_agent.{argument}"} if function in ("plugins.load", "plugins.names") else set()


def is_module(name: str) -> bool:
    place = ROOT.joinpath(*name.split("."))
    return place.is_dir() or place.with_suffix(".py").is_file()


def file_of(module: str) -> Path:
    place = PACKAGE.joinpath(*module.split("."))
    return place / "__init__.py" if place.is_dir() else place.with_suffix(".py")


def room(module: str) -> str:
    return module.partition(".")[0]


def test_nothing_but_the_faces_lies_outside_the_rooms() -> None:
    assert {p.stem for p in PACKAGE.glob("*.py")} == set(FACES)
    folders = {p.name for p in PACKAGE.iterdir() if (p / "__init__.py").is_file()}
    assert folders == set(ORDER) - {"loading"}
    assert len(ORDER) == len(set(ORDER))


@pytest.mark.parametrize("module", [m for m in modules() if room(m) in ORDER])
def test_a_room_imports_only_rooms_above_it(module: str) -> None:
    for other in imported(file_of(module)):
        if room(other) not in (*OPEN_TO_ALL, room(module)):
            assert room(other) in ORDER, f"kd_agent.{module} imports {other}, which has no room"
            above = ORDER.index(room(other)) < ORDER.index(room(module))
            assert above, f"kd_agent.{module} must not import kd_agent.{other}"


def test_modules_of_a_room_do_not_import_each_other_in_circles() -> None:
    within = {m: {o for o in imported(file_of(m)) if room(o) == room(m) and o != m} for m in modules()}
    plain = {m: {o for o in others if "." in o and o in within} for m, others in within.items()}
    assert list(TopologicalSorter(plain).static_order())


@pytest.mark.parametrize("module", [m for m in modules() if "." in m])
def test_a_module_of_another_room_is_private_where_its_name_says_so(module: str) -> None:
    foreign = [other for other in imported(file_of(module)) if room(other) != room(module)]
    assert not [other for other in foreign if "._" in other]


@pytest.mark.parametrize("name", [name for name in ORDER if name != "loading"])
def test_every_room_says_in_a_sentence_what_it_is(name: str) -> None:
    docstring = ast.get_docstring(ast.parse((PACKAGE / name / "__init__.py").read_text())) or ""
    assert docstring.partition("\n")[0].endswith((".", "?"))


COMMANDS = [path for path in sorted((ROOT / "scripts").glob("*.py")) if "kd_agent.commands" in path.read_text()]
"""The scripts that are commands; the others serve who works on the project."""


@pytest.mark.parametrize("script", COMMANDS, ids=lambda p: p.name)
def test_each_command_is_a_short_script(script: Path) -> None:
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
import kd_agent.distillation.distill, kd_agent.export, kd_agent
from kd_agent import distill, evaluate, load_policy, load_teacher
assert all(map(callable, (distill, evaluate, load_policy, load_teacher)))
assert kd_agent.distill is distill and kd_agent.evaluate is evaluate
assert {"distill", "evaluate"} <= set(kd_agent.__all__) and not hasattr(kd_agent, "absent")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
