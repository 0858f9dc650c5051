"""After the world has changed: how many labelled steps a continued student needs, and how many a new one.

    OMP_NUM_THREADS=1 python benchmarks/drift.py --out runs/drift --write docs/drift.md

The old world is LunarLander-v3, the new one where kd_envs/LunarLanderDrift-v3 ends. One teacher serves both: the one
that `configs/` trains for the old world, trained on by PPO over worlds between the two, the best of all evaluations by
the worse of the two worlds. A student distilled in the old world is (a) played and taught on in the new one, a lesson
after each episode, with and without its reservoir, and (b) distilled anew there, once for each budget, in eight rounds
and in a single one that the teacher drives alone. Everybody plays the same episodes. Rows of a finished seed are kept
in rows.json, and not measured again.
"""

import argparse
import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from kd_agent import distill, load_policy, load_teacher
from kd_agent.continual.follow_drift import kept_states
from kd_agent.continual.student import ContinualStudent, play_episodes
from kd_agent.environments.recipe import Recipe, recipe_of
from kd_agent.environments.vector import make_env, spaces_of
from kd_agent.evaluation import Episodes, PairedComparison, verdict_figures
from kd_agent.evaluation.non_inferiority import ERROR
from kd_agent.evaluation.verdict import EVALUATION_SEED
from kd_agent.networks.base import Teacher
from kd_agent.policies.policy import Policy
from kd_agent.ppo.teacher import trained_teacher
from kd_agent.ppo.training import CHECK_SEED, make_ppo, save, training_env
from kd_agent.rollouts.evaluate import evaluate
from kd_agent.rollouts.reservoir import Reservoir
from kd_agent.runs.reporter import Reporter
from kd_agent.settings import DistillConfig, resolve

OLD, DRIFT, WORLDS = "LunarLander-v3", "kd_envs/LunarLanderDrift-v3", "kd_envs/LunarLanderWorlds-v3"
EPISODES = 300
CONTINUED = (0, 250, 500, 1000, 2000, 4000)
ANEW = (500, 1000, 2000, 4000, 8000, 16_000, 32_000)
ROUNDS = {"anew, eight rounds": 8, "anew, one round of the teacher's": 1}
MARGIN = 0.05
MARK = "<!-- tables -->"


def comparison_in(world: Recipe, teacher: Teacher) -> PairedComparison:
    """The episodes on which students are held against the teacher in a world."""
    episodes = Episodes(world, first_seed=EVALUATION_SEED, reporter=Reporter(quiet=True))
    return PairedComparison(episodes, teacher, margin=MARGIN, random_episodes=EPISODES)


def judged(world: PairedComparison, policy: Policy) -> dict[str, Any]:
    """How a policy compares with the teacher."""
    returns, verdict = world.play_until_decided(policy, "the student", [(EPISODES, ERROR)])
    return {"mean_return": float(np.mean(returns)), **verdict_figures(verdict)}


def versatile_teacher(steps: int, path: Path) -> Path:
    """The teacher of the old world, trained on over many worlds; kept at `path`."""
    if path.is_file():
        return path
    old = resolve(DistillConfig, {"env": OLD})
    config = replace(old, env=WORLDS, training=replace(old.training, learning_rate=4e-4))
    env = training_env(config, config.env)
    model, best = make_ppo(config, env, path.parent), -1e9
    model.set_parameters(str(trained_teacher(old, Reporter())))
    while model.num_timesteps < steps:
        model.learn(65_536, reset_num_timesteps=False)
        seeds = range(CHECK_SEED, CHECK_SEED + 32)
        found = [float(np.mean(evaluate(model, world, seeds=seeds).returns)) for world in worlds()]
        print(f"teacher after {model.num_timesteps:,} more steps: old world {found[0]:.1f}, new {found[1]:.1f}")
        if min(found) > best:
            best = min(found)
            save(model, env, path)
    env.close()
    return path


def worlds() -> tuple[Recipe, Recipe]:
    """The old world and the new one."""
    return recipe_of(OLD), recipe_of(DRIFT, {"drift": 1.0})


def continued(teacher: Teacher, run: Path, world: Recipe, seed: int, reservoir: int) -> Iterator[tuple[int, Policy]]:
    """The old student, taught on in the new world: labelled steps so far, and the student after them."""
    memory = Reservoir(reservoir, seed)
    for states in kept_states(run / "student.safetensors"):
        memory.add(states)
    student = ContinualStudent(load_policy(run / "student.safetensors").graph, teacher, memory, steps=500,
                               batch_size=512, learning_rate=2e-3, seed=seed)  # fmt: skip
    env, steps, wanted = make_env(world, 1), 0, list(CONTINUED)
    for episode in play_episodes(env, teacher, lambda: student.policy, seed + 1):
        while wanted and steps >= wanted[0]:
            yield steps, student.policy
            wanted = [x for x in wanted if x > steps]
        if not wanted:
            break
        student.learn([episode.observations])
        steps += episode.steps
    env.close()


class Seed:
    """Everything that is measured under one seed."""

    def __init__(self, seed: int, teacher_file: Path, hidden: list[int], out: Path) -> None:
        self._seed, self._file, self._hidden, self._out = seed, teacher_file, hidden, out
        self.teacher = load_teacher(str(teacher_file), env=spaces_of(OLD))
        self.old_world, self.new_world = worlds()
        self.old = comparison_in(self.old_world, self.teacher)
        self.new = comparison_in(self.new_world, self.teacher)

    def rows(self) -> Iterator[dict[str, Any]]:
        """A row for each student: who, labelled steps, and how it compares."""
        begun = self._distilled(self._out / f"old-{self._seed}", OLD, {}, 40_000, rounds=8)
        for who, size in (("continued", 10_000), ("continued, no reservoir", 0)):
            for steps, policy in continued(self.teacher, begun, self.new_world, self._seed, size):
                yield self._row(who, steps, policy, old=True)
        for who, rounds in ROUNDS.items():
            for steps in ANEW:
                folder = self._out / f"anew-{rounds}-{self._seed}-{steps}"
                run = self._distilled(folder, DRIFT, {"drift": 1.0}, steps, rounds=rounds)
                yield self._row(who, steps, load_policy(run / "student.safetensors"), old=False)

    def _row(self, who: str, steps: int, policy: Policy, *, old: bool) -> dict[str, Any]:
        return {"who": who, "seed": self._seed, "steps": steps, "new": judged(self.new, policy),
                "old": judged(self.old, policy) if old else None}  # fmt: skip

    def _distilled(self, out: Path, env: str, kwargs: Mapping[str, Any], steps: int, *, rounds: int) -> Path:
        """The folder of a distillation, finished earlier or now."""
        if not (out / "result.json").is_file():
            distill({"env": env, "env_kwargs": kwargs, "teacher": str(self._file), "seed": self._seed, "quiet": True,
                     "hidden": self._hidden, "out": str(out), "attempts": 1, "episodes": 2, "max_episodes": 2,
                     "env_steps": steps, "n_envs": max(1, min(16, steps // 1000)), "round_steps": 200,
                     "final_steps": 5000, "rounds": rounds})  # fmt: skip
        return out


def table(rows: list[dict[str, Any]]) -> str:
    """Loss of return in the new world by budget, a number a seed, and the verdicts in the old one."""
    lines = ["| who | labelled steps | return less the teacher's, new world, by seed | mean | within the margin "
             "| old world |", "|---" * 6 + "|"]  # fmt: skip
    groups: dict[tuple[str, int], list[dict[str, Any]]] = {}
    for row in rows:
        budget = row["steps"] if row["who"] in ROUNDS else max(b for b in CONTINUED if b <= row["steps"])
        groups.setdefault((row["who"], budget), []).append(row)
    order = ["continued", "continued, no reservoir", *ROUNDS]
    for who, budget in sorted(groups, key=lambda group: (order.index(group[0]), group[1])):
        found = groups[who, budget]
        lost = [row["new"]["difference"] for row in found]
        steps = sorted({row["steps"] for row in found})
        within = sum(row["new"]["difference"] >= -row["new"]["margin"] for row in found)
        old = ", ".join(sorted({row["old"]["decision"] for row in found})) if found[0]["old"] else ""
        lines.append(
            f"| {who} | {' to '.join(f'{s:,}' for s in sorted({steps[0], steps[-1]}))} | "
            f"{', '.join(f'{x:+.1f}' for x in lost)} | {np.mean(lost):+.1f} | {within} of {len(found)} | {old} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description="a continued student against a new one")
    parser.add_argument("--teacher-steps", type=int, default=1_500_000)
    parser.add_argument("--hidden", type=int, nargs="+", default=[8, 8])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--write", type=Path, help="a page whose tables are replaced")
    args = parser.parse_args()
    torch.set_num_threads(1)
    args.out.mkdir(parents=True, exist_ok=True)
    teacher = versatile_teacher(args.teacher_steps, args.out / "teacher.zip")
    kept = args.out / "rows.json"
    rows: list[dict[str, Any]] = json.loads(kept.read_text()) if kept.is_file() else []
    for seed in args.seeds:
        if any(row["seed"] == seed for row in rows):
            continue
        found = list(Seed(seed, teacher, args.hidden, args.out).rows())
        rows += found
        kept.write_text(json.dumps(rows, indent=1) + "\n")
        print(table(found), flush=True)
    print(table(rows))
    if args.write:
        head = args.write.read_text().partition(MARK)[0]
        args.write.write_text(f"{head}{MARK}\n\n{table(rows)}\n")


if __name__ == "__main__":
    main()
