"""The README's commands work as they are typed, from the first to the last, in a copy of the checkout."""

import os
import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
from samples import ROOT

COPIED = (
    "kd_agent",
    "envs",
    "configs",
    "scripts",
    "setup.py",
    "pyproject.toml",
    "constraints.txt",
    "Makefile",
    "README.md",
    "LICENSE",
)
BUDGET = """
env_steps: 256
rounds: 2
n_envs: 2
hidden: [4]
round_steps: 8
final_steps: 16
attempts: 1
exam_episodes: 2
episodes: 2
max_episodes: 2
training: {total_steps: 128, n_envs: 2, n_steps: 32, batch_size: 32, n_epochs: 1, hidden: [8, 8], eval_episodes: 1}
"""
"""In the place of the settings shipped for an environment: the commands themselves stay as they are typed."""


def commands(text: str) -> str:
    """The shell blocks of a page, in order."""
    return "\n".join(re.findall(r"^```sh\n(.*?)^```", text, re.MULTILINE | re.DOTALL))


def copy_of_checkout(folder: Path) -> Path:
    for name in COPIED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
        else:
            shutil.copy(source, folder / name)
    for path in folder.glob("configs/*.yaml"):
        path.write_text(BUDGET)
    return folder


def surroundings(installed: Path) -> dict[str, str]:
    """Nothing is downloaded: what is installed here is what pip finds there, and builds with."""
    installed.mkdir()
    for path in Path(sysconfig.get_path("purelib")).iterdir():
        # All but the project itself, which an editable installation would find where it is.
        if "kd_agent" not in path.name:
            (installed / path.name).symlink_to(path)
    python = Path(getattr(sys, "_base_executable", sys.executable))
    return {
        **os.environ,
        "PATH": f"{python.parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(installed),
        "PIP_NO_INDEX": "1",
        # This is how pip reads it: no isolation.
        "PIP_NO_BUILD_ISOLATION": "0",
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
    }


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
def test_every_command_works_as_it_is_typed(tmp_path: Path) -> None:
    folder = copy_of_checkout(tmp_path / "kd_agent")
    script = commands((ROOT / "README.md").read_text())
    where = "python -c 'import kd_agent; print(kd_agent.__file__)'"
    done = subprocess.run(
        ["bash", "-e", "-c", f"{script}\n{where}"],
        cwd=folder,
        env=surroundings(tmp_path / "installed"),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.splitlines()[-1] == str(folder / "kd_agent" / "__init__.py")
    for number in (1, 2, 3):
        assert (folder / "runs" / "LunarLander-v3" / str(number) / "result.json").is_file()
    assert (folder / "runs" / "CartPole-v1" / "1" / "result.json").is_file()
    for name in ("policy.c", "policy_int8.c", "policy.onnx"):
        assert (folder / name).is_file()


def test_python_has_one_name_and_scripts_are_there() -> None:
    text = (ROOT / "README.md").read_text()
    assert ".venv/bin/python" not in text
    assert set(re.findall(r"python3 \S+ \S+", text)) == {"python3 -m venv"}
    for script in re.findall(r"python ((?:scripts|benchmarks|examples)/\S+\.py)", text):
        assert (ROOT / script).is_file(), script
    # A script named without the way to start it would be one more way.
    assert not re.search(r"`\w+_\w+\.py ", text)


def test_no_page_and_no_message_names_an_index_on_which_the_project_is_not() -> None:
    pages = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("kd_agent/**/*.py")]
    assert [page for page in pages if re.search(r"pip install '?kd-agent", page.read_text())] == []
