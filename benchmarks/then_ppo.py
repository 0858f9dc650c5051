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

from kd_agent import compare, load_policy, load_teacher
from kd_agent.distillation.distill import distill
from kd_agent.distillation.then_ppo import DISTILLED_FILE
from kd_agent.environments.vector import spaces_of
from kd_agent.evaluation import EVALUATION_SEED, Verdict
from kd_agent.rollouts.evaluate import evaluate
from kd_agent.runs import STUDENT_FILE

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


def made(env: str, seed: int, teacher: Path, folder: Path) -> dict[str, Any]:
    """The result of one run, made now or earlier; `played` has the returns of both its students.

    Args:
        env: The task.
        seed: The run's.
        teacher: The teacher.
        folder: The run's.
    """
    if not (folder / "result.json").is_file():
        task = {"teacher": str(teacher), "then_ppo": TASKS[env]["then_ppo"]}
        distill({**SHARED, **task, "env": env, "seed": seed, "out": str(folder)})
    result: dict[str, Any] = json.loads((folder / "result.json").read_text())
    returned = returns_of(env, load_policy(folder / STUDENT_FILE), folder / "returned.json")
    distilled = returned
    if result["then_ppo"]["kept"] == "reinforced":
        distilled = returns_of(env, load_policy(folder / DISTILLED_FILE), folder / "distilled.json")
    result["played"] = {"returned": returned, "distilled": distilled}
    return result


def returns_of(env: str, policy: Any, kept: Path) -> list[float]:
    """Returns in the verdict's first episodes, all played in one go.

    In a chaotic world the last bit of a float decides an episode, and may differ with how many are played side by side.

    Args:
        env: The task.
        policy: Who plays.
        kept: The file that keeps them.
    """
    if not kept.is_file():
        seeds = range(EVALUATION_SEED, EVALUATION_SEED + EPISODES)
        played = evaluate(policy, env, seeds=seeds, deterministic=True)
        kept.write_text(json.dumps(played.returns.tolist()))
    return list(json.loads(kept.read_text()))


def table(env: str, teacher: list[float], results: dict[int, dict[str, Any]]) -> list[str]:
    """The rows of a task, the last of them over all seeds.

    Args:
        env: The task.
        teacher: The teacher's returns.
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
        both = result["played"]
        students.append(both["returned"])
        distilled.append(both["distilled"])
        # The random policy is the same in all runs.
        random = result["random"]["returns"]
        lines.append(row(str(seed), result["then_ppo"]["kept"], teacher=teacher, random=random, **both))
    kept = sum(result["then_ppo"]["kept"] == "reinforced" for result in results.values())
    several = {"returned": students, "distilled": distilled}
    lines.append(row("all", f"{kept} of {len(results)} reinforced", teacher=teacher, random=random, **several))
    return lines


def row(name: str, kept: str, *, teacher: list[float], random: list[float], returned: Any, distilled: Any) -> str:
    """One row.

    Args:
        name: Its seed.
        kept: Which student was returned.
        teacher: Returns `[n]` of the teacher.
        random: Returns of the random policy.
        returned: Of the student that was returned, `[n]`, or `[K, n]` of those of all seeds.
        distilled: Of the distilled student, likewise.
    """
    against = compare(teacher, returned, random)
    gain = float(np.mean(returned) - np.mean(distilled))
    cells = [
        name,
        f"{np.mean(distilled):.1f}",
        f"{np.mean(returned):.1f}",
        kept,
        f"{np.mean(teacher):.1f}",
        f"{gain:+.1f} [{interval_of_gain(returned, distilled)}]",
        f"{against.difference:+.1f} [{interval(against)}]",
        "yes" if against.difference_ci[0] > 0 else "no",
    ]
    return f"| {' | '.join(cells)} |"


def interval(verdict: Verdict) -> str:
    """Of a difference, at 95 %."""
    low, high = verdict.difference_ci
    return f"{low:.1f}, {high:.1f}"


def interval_of_gain(returned: Any, distilled: Any) -> str:
    """Of the mean paired difference, at 95 %: a bootstrap over the seeds, and over the episodes, which all share."""
    gains = np.atleast_2d(np.subtract(returned, distilled))
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
        source = arguments.teachers / TASKS[env]["teacher"]
        folder = arguments.out / env
        folder.mkdir(parents=True, exist_ok=True)
        teacher = returns_of(env, load_teacher(str(source), env=spaces_of(env)), folder / "teacher.json")
        results = {}
        for seed in range(arguments.seeds):
            results[seed] = made(env, seed, source, folder / str(seed))
            print(table(env, teacher, {seed: results[seed]})[-2], flush=True)
        print("\n".join(["", *table(env, teacher, results), ""]), flush=True)


if __name__ == "__main__":
    main()
