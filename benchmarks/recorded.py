"""Students of recorded data: 20 good episodes of LunarLander, and data of the random policy.

    OMP_NUM_THREADS=1 python benchmarks/recorded.py --teachers FOLDER --out runs/recorded

FOLDER holds the public agents. The good data are what ppo-LunarLander-v2 does greedily on seeds 0 to 19, once with its
distributions as labels and once with the actions alone; the others are 40 episodes of random actions, in LunarLander-v3
and CartPole-v1. Each is distilled with three seeds, and the student plays for a verdict. A line each, as JSON.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np

from kd_agent import distill
from kd_agent.deployment.record import record
from kd_agent.settings import RecordConfig

SEEDS = (0, 1, 2)
RANDOM_EPISODES = 40


def random_data(env_id: str, path: Path) -> Path:
    """Episodes of uniformly random actions, as an `.npz`.

    Args:
        env_id: The environment.
        path: The file.
    """
    env = gym.make(env_id)
    env.action_space.seed(0)
    rows: dict[str, list[Any]] = {
        name: [] for name in ("observations", "actions", "rewards", "terminations", "truncations")
    }
    for seed in range(RANDOM_EPISODES):
        observation, _ = env.reset(seed=seed)
        over = False
        while not over:
            action = env.action_space.sample()
            following, reward, terminated, truncated, _ = env.step(action)
            for name, value in zip(rows, (observation, action, reward, terminated, truncated), strict=True):
                rows[name].append(value)
            observation, over = following, terminated or truncated
    np.savez(path, **{name: np.array(values) for name, values in rows.items()})  # type: ignore[arg-type]
    return path


def row(source: Path, env_id: str, seed: int, out: Path) -> dict[str, Any]:
    """What one student came to.

    Args:
        source: The recording.
        env_id: Where it plays.
        seed: The run's.
        out: Folder of the run.
    """
    result = distill({"teacher": str(source), "env": env_id, "seed": seed, "out": str(out), "quiet": True})
    student, teacher, verdict = result["student"], result["teacher"], result["verdict"]
    return {
        "data": source.stem,
        "env": env_id,
        "seed": seed,
        "decision": verdict["decision"],
        "recorded": round(teacher["mean"], 1),
        "student": round(student["mean"], 1),
        "difference": round(verdict["difference"], 1),
        "difference_ci": [round(bound, 1) for bound in verdict["difference_ci"]],
        "worst_tenths": [round(student["lower_tail"], 1), round(teacher["lower_tail"], 1)],
        "episodes": verdict["episodes"],
        "held_out_agreement": round(student["agreement"], 4),
        "held_out_kl": student["kl"],
        "held_out_cross_entropy": student["cross_entropy"],
        "seconds": result["cost"]["distill_cpu_s"] + result["cost"]["evaluate_cpu_s"],
    }


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--teachers", type=Path, required=True, help="folder of the public agents")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    lander = "LunarLander-v3"
    tasks = []
    for name, params in (("distributions", True), ("actions", False)):
        path = arguments.out / f"{name}.npz"
        source = str(arguments.teachers / "ppo-LunarLander-v2")
        record(RecordConfig(source, str(path), env=lander, episodes=20, params=params, quiet=True))
        tasks.append((path, lander))
    for env_id in (lander, "CartPole-v1"):
        tasks.append((random_data(env_id, arguments.out / f"random-{env_id}.npz"), env_id))
    for path, env_id in tasks:
        for seed in SEEDS:
            print(json.dumps(row(path, env_id, seed, arguments.out / f"{path.stem}-{seed}")), flush=True)


if __name__ == "__main__":
    main()
