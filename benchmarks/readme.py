"""The README's table of figures: made anew, or held against what a new run gives.

    OMP_NUM_THREADS=1 python benchmarks/readme.py --out runs/readme --jobs 2         # run what is missing; write
    OMP_NUM_THREADS=1 python benchmarks/readme.py --out runs/again --jobs 2 --check  # say what has moved

Each row is a command of the README; its runs lie in `--out`, and finished ones are not made again. The figures are kept
in benchmarks/readme.json. A row has moved where the difference of student and teacher lies outside the interval that is
written, or where the verdict is another one; `--check` names it, and exits with 1. Public agents are looked for in
`--agents`; rows without theirs are left out, which is said.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
FIGURES = Path(__file__).with_name("readme.json")
README = ROOT / "README.md"
MARK = "<!-- figures -->"
AGENTS = "AGENTS"
"""Stands for the folder of the public agents."""


@dataclass(frozen=True)
class Row:
    """A command of the README.

    Attributes:
        shown: As it is typed.
        command: What is run, without `--seed` and `--out`.
        seeds: With which seeds.
    """

    shown: str
    command: tuple[str, ...]
    seeds: tuple[int, ...] = (0, 1, 2)

    @property
    def name(self) -> str:
        """Of its folder."""
        return "".join(letter if letter.isalnum() else "-" for letter in self.shown).strip("-")


TASKS = ("CartPole-v1", "Acrobot-v1", "LunarLander-v3")
ROWS = (
    Row("make distill", ("distill", "--env", "LunarLander-v3")),
    Row(
        "distill --env LunarLander-v3 --teacher ppo-LunarLander-v2",
        ("distill", "--env", "LunarLander-v3", "--teacher", f"{AGENTS}/ppo-LunarLander-v2"),
    ),
    Row(
        "the same with --env-steps 500",
        ("distill", "--env", "LunarLander-v3", "--teacher", f"{AGENTS}/ppo-LunarLander-v2", "--env-steps", "500"),
    ),
    Row(
        "distill --env BipedalWalker-v3 --teacher ppo-BipedalWalker-v3",
        ("distill", "--env", "BipedalWalker-v3", "--teacher", f"{AGENTS}/ppo-BipedalWalker-v3"),
    ),
    Row('make distill ARGS="--search-size"', ("distill", "--env", "LunarLander-v3", "--search-size")),
    Row("make distill ENV=kd_envs/LunarLanderBlind-v3", ("distill", "--env", "kd_envs/LunarLanderBlind-v3"), (0,)),
    Row("make distill ENV=kd_envs/LunarLanderPixels-v3", ("distill", "--env", "kd_envs/LunarLanderPixels-v3"), (0,)),
    Row(f"distill_tasks --tasks {' '.join(TASKS)}", ("distill-tasks", "--tasks", *TASKS)),
)


def run(row: Row, seed: int, out: Path, agents: Path) -> list[dict[str, Any]]:
    """What a row gives with a seed; one result, or one for each task.

    Args:
        row: The row.
        seed: The seed.
        out: Where its folder goes.
        agents: Folder of the public agents.
    """
    folder = out / f"{row.name}-{seed}"
    if not (folder / "result.json").is_file():
        words = [word.replace(AGENTS, str(agents)) for word in row.command]
        resume = ["--resume"] if (folder / "config.yaml").is_file() else []
        flags = [f"--seed={seed}", f"--out={folder}", "--no-progress", *resume]
        command = [sys.executable, "-m", "kd_agent", *words, *flags]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(f"{row.shown}, seed {seed}: {done.stderr.strip().splitlines()[-1:]}")
    result = json.loads((folder / "result.json").read_text())
    tasks = result.get("tasks")
    cost = result["cost"]
    return [_figures(one, cost, result) for one in tasks.values()] if tasks else [_figures(result, cost, result)]


def _figures(result: Mapping[str, Any], cost: Mapping[str, Any], whole: Mapping[str, Any]) -> dict[str, Any]:
    student, teacher, verdict = result["student"], result["teacher"], result["verdict"]
    parameters = student["parameters"]
    if "tasks" in whole:
        parameters = whole["parameters"]["total"]
    return {
        "teacher": round(teacher["mean"], 1),
        "student": round(student["mean"], 1),
        "teacher_tail": round(teacher["lower_tail"], 1),
        "student_tail": round(student["lower_tail"], 1),
        "difference": round(verdict["difference"], 2),
        "difference_ci": [round(end, 2) for end in verdict["difference_ci"]],
        "margin": round(verdict["margin"], 1),
        "decision": verdict["decision"],
        "episodes": verdict["episodes"],
        "parameters": [teacher["parameters"], parameters],
        "cpu_s": {name: round(cost[f"{name}_cpu_s"]) for name in ("teacher", "distill", "evaluate")},
    }


def rows_of(agents: Path) -> Iterator[Row]:
    """The rows that can be run here."""
    for row in ROWS:
        if any(AGENTS in word for word in row.command) and not agents.is_dir():
            print(f"left out: {row.shown} (no agents in {agents})")
        else:
            yield row


def table(figures: Mapping[str, Sequence[Mapping[str, Any]]]) -> str:
    """The figures in Markdown, a line for each command."""
    lines = [
        "| command | teacher: mean (worst tenth) | student | difference, interval | verdict, episodes | parameters | "
        "CPU seconds: teacher, distil, judge |",
        "|---" * 7 + "|",
    ]
    for shown, found in figures.items():
        cells = [
            f"`{shown}`" if not shown.startswith("the same") else shown,
            _each(f"{one['teacher']} ({one['teacher_tail']})" for one in found),
            _each(f"{one['student']} ({one['student_tail']})" for one in found),
            _each(f"{one['difference']:+} {one['difference_ci']}" for one in found),
            _each(f"{one['decision']}, {one['episodes']}" for one in found),
            _each(" to ".join(f"{size:,}" for size in one["parameters"]) for one in found),
            _each(", ".join(map(str, one["cpu_s"].values())) for one in found),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _each(cells: Iterator[str]) -> str:
    """The cells of several seeds, what is alike once."""
    return "; ".join(dict.fromkeys(cells))


def moved(old: Mapping[str, Any], new: Mapping[str, Any]) -> str | None:
    """How a figure has moved; None: it has not."""
    if new["decision"] != old["decision"]:
        return f"{new['decision']}, it was {old['decision']}"
    low, high = old["difference_ci"]
    if not low <= new["difference"] <= high:
        return f"difference {new['difference']:+}, outside {old['difference_ci']}"
    return None


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="where the runs go")
    parser.add_argument("--agents", type=Path, default=ROOT.parent / "shared" / "teachers")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--check", action="store_true", help="say what moved, and write nothing")
    arguments = parser.parse_args()
    rows = list(rows_of(arguments.agents))
    tasks = [(row, seed) for row in rows for seed in row.seeds]
    with ThreadPoolExecutor(arguments.jobs) as workers:
        found = list(workers.map(lambda task: run(*task, arguments.out, arguments.agents), tasks))
    figures: dict[str, list[dict[str, Any]]] = {}
    for (row, _), results in zip(tasks, found, strict=True):
        figures.setdefault(row.shown, []).extend(results)
    if arguments.check:
        check(figures)
        return
    FIGURES.write_text(json.dumps(figures, indent=1) + "\n")
    head, _, rest = README.read_text().partition(MARK)
    _, _, tail = rest.partition(MARK)
    README.write_text(f"{head}{MARK}\n{table(figures)}\n{MARK}{tail}")


def check(figures: Mapping[str, Sequence[Mapping[str, Any]]]) -> None:
    """Hold new figures against those that are kept; exit with 1 where a row has moved."""
    kept = json.loads(FIGURES.read_text())
    news = []
    for shown, found in figures.items():
        for old, new in zip(kept[shown], found, strict=True):
            how = moved(old, new)
            if how:
                news.append(f"{shown}: {how}")
    print("\n".join(news) or f"{len(figures)} rows, none has moved beyond its interval")
    if news:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
