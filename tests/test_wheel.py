"""A wheel, installed where there is no checkout, does what the checkout does."""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest
from samples import PROBES, ROOT, TINY, flags

SOURCES = {"kd_agent": "kd_agent", "kd_envs": "envs/kd_envs", "kd_agent/configs": "configs"}
"""Where in the checkout the folders of the wheel lie."""
TRAINING = {
    "total-steps": 64,
    "n-envs": 2,
    "n-steps": 32,
    "batch-size": 32,
    "n-epochs": 1,
    "hidden": [8],
    "eval-episodes": 1,
}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from a copy: a checkout's own build folder may hold what is long gone."""
    copy = tmp_path_factory.mktemp("checkout")
    for name in ("kd_agent", "envs", "configs"):
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy)
    out = tmp_path_factory.mktemp("wheel")
    # Without isolation nothing is downloaded; torch brings setuptools along.
    pip("wheel", str(copy), "--no-deps", "--no-build-isolation", "--wheel-dir", str(out), folder=out)
    [path] = out.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of an environment with the wheel and, from elsewhere, what it depends on."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=False, symlinks=True)
    executable = folder / "bin" / "python"
    pip("--python", str(executable), "install", "--no-deps", "--no-index", str(wheel), folder=folder)
    [site] = folder.glob("lib/*/site-packages")
    # Folders that a .pth adds have no .pth files of their own read: an editable kd_agent in there is not seen.
    (site / "dependencies.pth").write_text(f"{sysconfig.get_path('purelib')}\n")
    return executable


def pip(*arguments: str, folder: Path) -> None:
    outside([sys.executable, "-m", "pip", "-q", *arguments], folder)


def outside(command: list[str], folder: Path) -> str:
    """Run a command where no checkout is in sight; what it prints."""
    # What Python finds of a checkout pip finds too: it would take the wheel for installed already.
    apart = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run(command, cwd=folder, env=apart, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_every_file_of_the_packages_is_in_the_wheel(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        held = {name for name in archive.namelist() if ".dist-info/" not in name}
    wanted = set()
    for inside, source in SOURCES.items():
        for path in (ROOT / source).rglob("*"):
            if path.is_file() and path.suffix != ".pyc":
                wanted.add(f"{inside}/{path.relative_to(ROOT / source).as_posix()}")
    assert held == wanted
    assert {"kd_agent/py.typed", "kd_agent/report/page.html.j2", "kd_agent/configs/methods/hint.yaml"} <= held


def test_it_distils_exports_and_evaluates_outside_the_checkout(python: Path, tmp_path: Path) -> None:
    budget = {**{name: value for name, value in TINY.items() if name != "quiet"}, "attempts": 1, "rounds": 2}
    training = {f"training.{name}": value for name, value in TRAINING.items()}
    asked = {"env": PROBES["Discrete"], "config": "methods/rusu.yaml", "out": "run", **budget, **training}
    outside([str(python.with_name("kd-agent")), "distill", *flags(asked), "--no-progress"], tmp_path)
    settings = (tmp_path / "run" / "config.yaml").read_text()
    assert "convention: rusu" in settings
    assert (tmp_path / "run" / "report.html").is_file()
    student = "run/student.safetensors"
    commands = [["export", student, "--out", f"policy.{kind}"] for kind in ("c", "onnx", "mjs")]
    commands.append(["evaluate", student, "--episodes", "2", "--out", "figures.json", "--no-progress"])
    # One process for all of them: each would import the same again.
    program = """
import json, sys
import kd_agent, kd_envs
from kd_agent import plugins
from kd_agent.commands.cli import main
from kd_agent.settings.resolve import find_config
kinds = ("export", "losses", "students", "teachers", "teachers.combine", "learners", "compress", "adapters")
for command in json.loads(sys.argv[1]):
    assert main(command) == 0, command
print(json.dumps({
    "files": [kd_agent.__file__, kd_envs.__file__, str(find_config("configs/methods/hint.yaml"))],
    "plugins": {kind: plugins.names(kind) for kind in kinds},
}))
"""
    printed = outside([str(python), "-c", program, json.dumps(commands)], tmp_path)
    found = json.loads(printed.splitlines()[-1])
    assert all(Path(file).is_relative_to(python.parents[1]) for file in found["files"])
    for kind, names in found["plugins"].items():
        folder = ROOT / "kd_agent" / kind.replace(".", "/")
        assert names == sorted(path.stem for path in folder.glob("[!_]*.py"))
    assert all((tmp_path / f"policy.{kind}").stat().st_size > 0 for kind in ("c", "onnx", "mjs"))
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert figures["env"] == PROBES["Discrete"]
    assert len(figures["student"]["returns"]) == 2
