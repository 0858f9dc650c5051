"""How few questions to a teacher make a student that is non-inferior: one table.

    OMP_NUM_THREADS=1 nice -n 10 python benchmarks/label_budget.py --teachers TEACHERS --out runs/label_budget

TEACHERS holds the RL Zoo's agents, `ppo-LunarLander-v2/` and `ppo-BipedalWalker-v3/`. Each cell (environment, budget,
seed) is a run folder below --out; finished ones are not run again, so that a table grows. All else is the defaults'.
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from kd_agent import distill

TEACHERS = {"LunarLander-v3": "ppo-LunarLander-v2", "BipedalWalker-v3": "ppo-BipedalWalker-v3"}
BUDGETS = {"LunarLander-v3": (300,), "BipedalWalker-v3": (5_000,)}
"""Questions that are to be enough."""
COLUMNS = (
    "environment",
    "seed",
    "questions",
    "verdict, episodes",
    "student",
    "teacher",
    "difference",
    "margin",
    "worst tenth",
    "KL",
    "agreement",
    "parameters",
    "steps collected, validated",
)


def cell(env: str, budget: int, seed: int, teachers: Path, out: Path) -> Mapping[str, Any]:
    """The result of one run, which is run where there is none.

    Args:
        env: The environment.
        budget: Questions.
        seed: The run's.
        teachers: Where the teachers lie.
        out: Where the runs lie.
    """
    folder = out / f"{env}-{budget}-{seed}"
    file = folder / "result.json"
    if not file.is_file():
        begun = (folder / "config.yaml").is_file()
        teacher = str(teachers / TEACHERS[env])
        asked = {"env": env, "teacher": [teacher], "label_budget": budget, "seed": seed}
        distill({**asked, "out": str(folder), "resume": begun, "progress": False})
    content: Mapping[str, Any] = json.loads(file.read_text())
    return content


def row(result: Mapping[str, Any]) -> list[str]:
    """A cell's row."""
    student, verdict, cost = result["student"], result["verdict"], result["cost"]
    low, high = verdict["difference_ci"]
    tail = verdict["lower_tail"]
    return [
        result["env"],
        str(result["seed"]),
        f"{cost['questions']:,}",
        f"{verdict['decision']}, {verdict['episodes']}",
        f"{student['mean']:.1f}",
        f"{result['teacher']['mean']:.1f}",
        f"{verdict['difference']:+.1f} [{low:.1f}, {high:.1f}]",
        f"{verdict['margin']:.1f}",
        f"{tail['difference']:+.1f} against {tail['margin']:.1f}",
        f"{student['kl']:.2g}",
        f"{student['agreement']:.1%}",
        f"{student['parameters']:,}",
        f"{cost['collect_steps']:,}, {cost['validation_steps']:,}",
    ]


def table(rows: Sequence[Sequence[str]]) -> str:
    """Rows in Markdown."""
    lines = ["| " + " | ".join(cells) + " |" for cells in (COLUMNS, *rows)]
    return "\n".join([lines[0], "|" + "---|" * len(COLUMNS), *lines[1:]])


def main() -> None:
    """Run what is missing and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--teachers", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--env", nargs="+", choices=TEACHERS, default=list(TEACHERS))
    parser.add_argument("--budget", type=int, nargs="+", help="questions; default: 300 and 5,000")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    arguments = parser.parse_args()
    rows = []
    for env in arguments.env:
        for budget in arguments.budget or BUDGETS[env]:
            for seed in arguments.seeds:
                rows.append(row(cell(env, budget, seed, arguments.teachers, arguments.out)))
                print(table(rows[-1:]).splitlines()[-1], flush=True)
    print(table(rows))


if __name__ == "__main__":
    main()
