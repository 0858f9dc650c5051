"""Distil every teacher below a folder with the defaults, each in a process of its own."""

import os
import re
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Lock
from typing import Any

import kd_envs

import kd_agent
from kd_agent.environments import recorded_id
from kd_agent.errors import KDError
from kd_agent.runs import CONFIG_FILE, RESULT_FILE, TEACHER_FILE, Reporter, RunFolder
from kd_agent.settings import SweepConfig
from kd_agent.studies.sweep_table import draw, sentence, write
from kd_agent.teachers import read_settings

_NOT_AGENTS = ("best_model", "rl_model")
"""How the names of the zoo's files begin that are other moments of an agent whose last weights lie beside them."""


def sweep(config: SweepConfig) -> list[dict[str, Any]]:
    """Distil all teachers and write `sweep.json`, `sweep.md` and `sweep.png`.

    A teacher that fails is a row with its error; one that was finished by an earlier sweep into the
    same folder is not done again, one that was begun goes on.

    Raises:
        KDError: There are no teachers, or the folder cannot be written.
    """
    root, out = Path(config.teachers), Path(config.out)
    teachers = find_teachers(root)
    if not teachers:
        raise KDError(f"{root}: no teachers (*.zip) below this folder")
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise KDError(f"{out}: cannot be written ({error.strerror})") from None
    reporter = Reporter(quiet=config.quiet)
    rows: dict[str, dict[str, Any]] = {}
    writing = Lock()

    def _work(item: tuple[str, Path]) -> None:
        name, path = item
        row = distil_one(name, path, out / name, config)
        # Rewritten after each: a sweep that is stopped leaves a table of what is done.
        with writing:
            rows[name] = row
            reporter.say(f"{len(rows)}/{len(teachers)} {sentence(row)}")
            write(out, [rows[key] for key in sorted(rows)])

    # Threads that wait: the work is done in a process for each teacher, and one that crashes takes no other along.
    with ThreadPoolExecutor(config.jobs) as pool:
        list(pool.map(_work, sorted(teachers.items())))
    draw(out / "sweep.png", list(rows.values()))
    return [rows[key] for key in sorted(rows)]


def find_teachers(root: Path) -> dict[str, Path]:
    """Agents' zips below a folder, by a name that is unique among them."""
    zips = [path for path in sorted(root.rglob("*.zip")) if not path.stem.startswith(_NOT_AGENTS)]
    # Most lie one in a folder, whose name says more than that of the file.
    names = ["-".join(path.relative_to(root).parent.parts) or path.stem for path in zips]
    teachers: dict[str, Path] = {}
    for name, path in zip(names, zips, strict=True):
        unique = name
        if names.count(name) > 1:
            unique = f"{name}-{path.stem}"
        teachers[unique] = path
    return teachers


def distil_one(name: str, teacher: Path, out: Path, config: SweepConfig) -> dict[str, Any]:
    """One row: the result of an earlier sweep, or of `kd-agent distill` run now.

    Args:
        name: What the teacher is called in the table.
        teacher: Its zip.
        out: The run folder of its distillation.
        config: The sweep's settings.
    """
    if (out / RESULT_FILE).is_file():
        return _row(name, teacher, out, None, None)
    started = time.monotonic()
    error = _run(teacher, out, config)
    return _row(name, teacher, out, error, time.monotonic() - started)


def _run(teacher: Path, out: Path, config: SweepConfig) -> str | None:
    """Run the command; the error's line, if it fails."""
    try:
        # A file's word becomes a typed one here: only a registered id may.
        env = recorded_id(environment(teacher), "", str(teacher))
    except KDError as error:
        return f"{error} (kd-agent distill --teacher {teacher})"
    # Each value joined to its flag: neither a file's name nor what stands in it can be a flag of its own.
    flags = [f"--teacher={teacher}", f"--env={env}", f"--out={out}", "--no-progress"]
    flags.append(f"--episodes={config.episodes}")
    if config.settings:
        flags.append(f"--config={config.settings}")
    if config.trust_teacher:
        flags.append("--trust-teacher")
    if (out / CONFIG_FILE).is_file():
        flags.append("--resume")
    # -P: the working folder, which may hold anybody's teachers, is not where Python looks for modules.
    done = subprocess.run(  # noqa: S603 - our own command, no shell
        [sys.executable, "-P", "-m", "kd_agent", "distill", *flags],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(_import_path())},
    )
    if done.returncode == 0:
        return None
    # The last line says what was wrong; a process that was killed says nothing.
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    return lines[-1] if lines else f"exit code {done.returncode}"


def _import_path() -> list[str]:
    """Where the package and its environments come from, and what the environment variable says already."""
    homes = [str(Path(module.__file__ or "").parent.parent) for module in (kd_agent, kd_envs)]
    return [*homes, *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]


def environment(teacher: Path) -> str:
    """The environment of an agent: what its settings say, or else what its file or folder is called."""
    try:
        named = read_settings(teacher).env
    except KDError:
        # Of a damaged file too the row is to say which environment it was for.
        named = ""
    if named:
        return named
    for text in (teacher.stem, teacher.parent.name):
        match = re.search(r"[A-Za-z]\w*-v\d+", text)
        if match:
            return match.group()
    return teacher.stem


def _row(name: str, teacher: Path, out: Path, error: str | None, seconds: float | None) -> dict[str, Any]:
    folder = RunFolder(out)
    row: dict[str, Any] = dict.fromkeys(
        ("algo", "teacher_parameters", "student_parameters", "compression", "teacher_mean", "student_mean", "seconds")
    )
    row |= {
        "name": name,
        "env": environment(teacher),
        "loaded": folder.holds_file(TEACHER_FILE),
        "non_inferior": False,
        "error": error,
    }
    if not folder.holds_file(RESULT_FILE):
        return row
    try:
        with folder.reading(RESULT_FILE):
            return row | _figures(folder.read_json(RESULT_FILE), seconds)
    except KDError as damage:
        return row | {"error": str(damage)}


def _figures(result: dict[str, Any], seconds: float | None) -> dict[str, Any]:
    """What a finished run has to say in a row."""
    cost = result["cost"]
    return {
        "algo": result["teacher"]["algo"],
        "env": result["env"],
        "teacher_parameters": result["teacher"]["parameters"],
        "student_parameters": result["student"]["parameters"],
        "compression": result["verdict"]["compression"],
        "teacher_mean": result["teacher"]["mean"],
        "student_mean": result["student"]["mean"],
        "teacher_lower_tail": result["teacher"]["lower_tail"],
        "student_lower_tail": result["student"]["lower_tail"],
        "episodes": result["verdict"]["episodes"],
        "non_inferior": result["verdict"]["non_inferior"],
        "decision": result["verdict"]["decision"],
        "difference": result["verdict"]["difference"],
        "difference_ci": result["verdict"]["difference_ci"],
        "random_mean": result["random"]["mean"],
        "seconds": seconds or cost["teacher_s"] + cost["distill_s"] + cost["evaluate_s"],
    }
