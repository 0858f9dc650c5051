"""PPO that goes on from a distilled student: five seeds, two tasks, one table each.

    OMP_NUM_THREADS=1 python benchmarks/then_ppo.py --teachers DIR --out runs/then_ppo

Each run is a folder below --out; finished runs are not made again, so that a table grows. All students and the teacher
play the same 90 episodes, greedily: those of the verdict, of which neither PPO nor the choice has seen one. Each
student is distilled in one final fit, so that methods are compared and not attempts.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch

from kd_agent import compare, load_policy
from kd_agent.distillation.distill import distill
from kd_agent.distillation.then_ppo import DISTILLED_FILE
from kd_agent.evaluation import EVALUATION_SEED, Verdict
from kd_agent.rollouts.evaluate import evaluate

EPISODES = 90
SHARED: dict[str, Any] = {
    "hidden": [16, 16],
    "attempts": 1,
    "episodes": EPISODES,
    "max_episodes": EPISODES,
    "quiet": True,
}
TASKS: dict[str, dict[str, Any]] = {
    "BipedalWalker-v3": {"teacher": "ppo-BipedalWalker-v3", "then_ppo": 200_000},
    "Hopper-v5": {"teacher": "sac-Hopper-v3", "then_ppo": 100_000},
}
"""The folder of each task's teacher, and the steps of PPO."""
DISTILLED_RETURNS = "distilled.json"
"""Returns of the distilled student in the verdict's episodes, in a run folder."""


def result_of(env: str, seed: int, teachers: Path, folder: Path) -> dict[str, Any]:
    """The result of one run, made now or earlier; `distilled` has the distilled student's returns.

    Args:
        env: The task.
        seed: The run's.
        teachers: The folder of the teachers.
        folder: The run's.
    """
    if not (folder / "result.json").is_file():
        task = {**TASKS[env], "teacher": str(teachers / TASKS[env]["teacher"])}
        distill({**SHARED, **task, "env": env, "seed": seed, "out": str(folder)})
    result: dict[str, Any] = json.loads((folder / "result.json").read_text())
    result["distilled"] = distilled_returns(env, result, folder)
    return result


def distilled_returns(env: str, result: dict[str, Any], folder: Path) -> list[float]:
    """Returns of the distilled student in the verdict's episodes."""
    if result["then_ppo"]["kept"] == "distilled":
        return list(result["student"]["returns"])
    kept = folder / DISTILLED_RETURNS
    if not kept.is_file():
        seeds = range(EVALUATION_SEED, EVALUATION_SEED + EPISODES)
        played = evaluate(load_policy(folder / DISTILLED_FILE), env, seeds=seeds)
        kept.write_text(json.dumps(played.returns.tolist()))
    return list(json.loads(kept.read_text()))


def table(env: str, results: dict[int, dict[str, Any]]) -> list[str]:
    """The rows of a task, the last of them over all seeds.

    Args:
        env: The task.
        results: By seed.
    """
    lines = [
        f"## {env}",
        "",
        "| seed | distilled | returned | kept | teacher | returned - distilled | returned - teacher | overtook |",
        "|---|---|---|---|---|---|---|---|",
    ]
    students, distilled = [], []
    for seed, result in results.items():
        student, before = result["student"]["returns"][:EPISODES], result["distilled"][:EPISODES]
        students.append(student)
        distilled.append(before)
        lines.append(row(str(seed), before, student, result, result["then_ppo"]["kept"]))
    kept = sum(result["then_ppo"]["kept"] == "reinforced" for result in results.values())
    lines.append(row("all", distilled, students, result, f"{kept} of {len(results)} reinforced"))
    return lines


def row(name: str, distilled: Any, student: Any, result: dict[str, Any], kept: str) -> str:
    """One row.

    Args:
        name: Its seed.
        distilled: Returns `[n]` of the distilled student, or `[K, n]` of those of all seeds.
        student: Of the student that was returned.
        result: Of a run: teacher and random policy are the same in all.
        kept: Which was.
    """
    teacher = result["teacher"]["returns"][:EPISODES]
    random = result["random"]["returns"]
    against = compare(teacher, student, random)
    gain = float(np.mean(student) - np.mean(distilled))
    cells = [
        name,
        f"{np.mean(distilled):.1f}",
        f"{np.mean(student):.1f}",
        kept,
        f"{np.mean(teacher):.1f}",
        f"{gain:+.1f} [{interval_of_gain(distilled, student)}]",
        f"{against.difference:+.1f} [{interval(against)}]",
        "yes" if against.difference_ci[0] > 0 else "no",
    ]
    return f"| {' | '.join(cells)} |"


def interval(verdict: Verdict) -> str:
    """Of a difference, at 95 %."""
    low, high = verdict.difference_ci
    return f"{low:.1f}, {high:.1f}"


def interval_of_gain(distilled: Any, student: Any) -> str:
    """Of the mean paired difference, at 95 %: a bootstrap over the seeds, and over the episodes, which all share."""
    gains = np.atleast_2d(np.subtract(student, distilled))
    rng = np.random.default_rng(0)
    seeds, episodes = gains.shape
    means = []
    for _ in range(4_999):
        drawn = gains[rng.integers(seeds, size=seeds)][:, rng.integers(episodes, size=episodes)]
        means.append(drawn.mean())
    low, high = np.quantile(means, [0.025, 0.975])
    return f"{low:.1f}, {high:.1f}"


def main() -> None:
    """Make the runs and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--teachers", type=Path, required=True, help="folder of the public agents")
    parser.add_argument("--out", type=Path, default=Path("runs/then_ppo"))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--only", choices=TASKS, nargs="+", default=list(TASKS))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    for env in arguments.only:
        results = {}
        for seed in range(arguments.seeds):
            folder = arguments.out / env / str(seed)
            results[seed] = result_of(env, seed, arguments.teachers, folder)
            print(table(env, {seed: results[seed]})[-2], flush=True)
        print("\n".join(["", *table(env, results), ""]), flush=True)


if __name__ == "__main__":
    main()
