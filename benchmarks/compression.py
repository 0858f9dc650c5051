"""The compression study on several tasks and seeds: whose verdict each way of compressing passes, and how often.

    OMP_NUM_THREADS=1 python benchmarks/compression.py --out runs/compression --agents FOLDER

FOLDER holds public agents of the RL Zoo (`ppo-LunarLander-v2`, ...); without it teachers are trained. A seed is a whole
study (`kd-agent compress`): its distillation, its fits, and 90 episodes for each row. Those that --out holds already
are read, not made again, so that the command can be given once more with more seeds or tasks.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np

from kd_agent.settings import DistillConfig, resolve
from kd_agent.studies.compression import compress

AGENTS = {
    "CartPole-v1": "ppo-CartPole-v1",
    "Acrobot-v1": "ppo-Acrobot-v1",
    "LunarLander-v3": "ppo-LunarLander-v2",
}
SEEDS = 3
HIDDEN = (16, 16)
Rows = dict[str, dict[str, Any]]


def study(env: str, seed: int, folder: Path, agents: Path | None) -> Rows:
    """The rows of one study by name, made unless they lie in the folder."""
    out = folder / env / str(seed)
    if not (out / "compression.json").exists():
        given: dict[str, Any] = {"env": env, "seed": seed, "hidden": list(HIDDEN), "out": str(out), "quiet": True}
        if agents:
            given["teacher"] = [str(agents / AGENTS[env])]
        compress(resolve(DistillConfig, given))
    rows = json.loads((out / "compression.json").read_text())["rows"]
    return {row["name"]: row for row in rows}


def table(studies: list[Rows]) -> str:
    """One task's rows over its seeds, in Markdown."""
    heads = ["policy", "bytes", "mean, least to most", "non-inferior", "KL, least to most", "agreement, least"]
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for name in studies[0]:
        rows = [rows[name] for rows in studies]
        sizes = sorted({row["bytes"] for row in rows})
        means = sorted(row["mean"] for row in rows)
        distances = sorted(row["kl"] for row in rows)
        passed = "" if name == "teacher" else f"{non_inferior(rows)} of {len(rows)}"
        agreement = min(row["agreement"] for row in rows)
        cells = [
            name,
            " to ".join(f"{size:,}" for size in sizes),
            f"{means[0]:.1f} to {means[-1]:.1f}",
            passed,
            f"{distances[0]:.1g} to {distances[-1]:.1g}",
            f"{agreement:.1%}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def summary(tasks: dict[str, list[Rows]]) -> str:
    """All tasks together: how often each row passed, and its KL beside that of the student in float32."""
    studies = [rows for own in tasks.values() for rows in own]
    lines = ["| policy | non-inferior | bytes, share of distilled | KL, times distilled |", "|---|---|---|---|"]
    for name in list(studies[0])[1:]:
        rows = [rows[name] for rows in studies]
        size = np.mean([rows[name]["bytes"] / rows["distilled"]["bytes"] for rows in studies])
        # Of ratios the geometric mean.
        distance = np.exp(np.mean([np.log(rows[name]["kl"] / rows["distilled"]["kl"]) for rows in studies]))
        lines.append(f"| {name} | {non_inferior(rows)} of {len(rows)} | {size:.2f} | {distance:.2g} |")
    return "\n".join(lines)


def non_inferior(rows: list[dict[str, Any]]) -> int:
    return sum(row["decision"] == "non-inferior" for row in rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="folder of the studies, one each task and seed")
    parser.add_argument("--agents", type=Path, help="folder of public agents; else teachers are trained")
    parser.add_argument("--tasks", nargs="+", choices=AGENTS, default=list(AGENTS))
    parser.add_argument("--seeds", type=int, default=SEEDS, help="studies of each task")
    arguments = parser.parse_args()
    tasks: dict[str, list[Rows]] = {}
    for env in arguments.tasks:
        tasks[env] = [study(env, seed, arguments.out, arguments.agents) for seed in range(arguments.seeds)]
        print(f"{env}, {arguments.seeds} seeds:\n\n{table(tasks[env])}\n", flush=True)
    print(f"All, {arguments.seeds} seeds each:\n\n{summary(tasks)}")


if __name__ == "__main__":
    main()
