"""After the world has changed: how many labelled steps a continued student needs, and how many one from scratch.

    python benchmarks/drift.py --old-teacher TEACHER.zip --out DIR [--teacher ZIP] [--hidden 8 8] [--seeds 0 1 2]

The old world is LunarLander-v3, the new one where kd_envs/LunarLanderDrift-v3 ends. One teacher serves both:
`--teacher`, or `--old-teacher` trained on by PPO over worlds between the two, the best of all evaluations by the
worse of the two worlds. A student distilled in the old world is (a) played and taught on in the new one, a lesson
after each episode, with and without its reservoir, and (b) distilled anew there by the same recipe, once for each
budget. Each is judged by the verdict of `kd_agent.statistics` (IQM, paired bootstrap, margin 5 %) on the same seeds
as the teacher, 100 to 400 episodes. Rows go to DIR/rows.json as they come; students that are
there are not fitted again.
"""

import argparse
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from kd_agent import distill, load_policy, load_teacher
from kd_agent.config import RunConfig, resolve
from kd_agent.contest import Arena, Contest
from kd_agent.continual import ContinualStudent, play
from kd_agent.drift import kept_states
from kd_agent.environments import Recipe, make_env, recipe_of, spaces_of
from kd_agent.evaluate import evaluate
from kd_agent.judge import EVALUATION_SEED
from kd_agent.policy import Teacher
from kd_agent.progress import Reporter
from kd_agent.reservoir import Reservoir
from kd_agent.runtime import Policy
from kd_agent.statistics import iqm
from kd_agent.train import CHECK_SEED, make_ppo, save, training_env

OLD, DRIFT, WORLDS = "LunarLander-v3", "kd_envs/LunarLanderDrift-v3", "kd_envs/LunarLanderWorlds-v3"
LOOKS = (100, 200, 400)
CONTINUED = (0, 125, 250, 500, 1000, 2000, 4000)
SCRATCH = (500, 1000, 2000, 4000, 8000, 16_000, 32_000)


def court(world: Recipe, teacher: Teacher) -> Contest:
    """Where students are held against the teacher."""
    arena = Arena(world, first_seed=EVALUATION_SEED, reporter=Reporter(quiet=True))
    return Contest(arena, teacher, margin=0.05, episodes=LOOKS[0])


def judged(contest: Contest, policy: Policy) -> dict[str, Any]:
    """The verdict on a policy."""
    returns, verdict = contest.settle(policy, "the student", LOOKS)
    return {"decision": verdict.decision, "iqm": float(iqm(returns)),
            "teacher": float(iqm(contest.teacher(len(returns)))), "difference": verdict.difference,
            "difference_ci": verdict.difference_ci, "margin": verdict.margin,
            "episodes": verdict.episodes}  # fmt: skip


def versatile_teacher(old_teacher: str, new: Mapping[str, float], steps: int, path: Path) -> Path:
    """The old teacher, trained on over many worlds; kept at `path`."""
    if path.is_file():
        return path
    kwargs = {"new": dict(new)} if new else {}
    config = resolve(RunConfig, {"env": WORLDS, "env_kwargs": kwargs, "training": {
        "hidden": [256, 256], "activation": "relu", "n_steps": 1024, "batch_size": 512, "gamma": 0.999,
        "gae_lambda": 0.98, "ent_coef": 0.01, "learning_rate": 4e-4}})  # fmt: skip
    env = training_env(config, config.env)
    model, best = make_ppo(config, env, path.parent), -1e9
    model.set_parameters(old_teacher)
    while model.num_timesteps < steps:
        model.learn(65_536, reset_num_timesteps=False)
        seeds = range(CHECK_SEED, CHECK_SEED + 32)
        found = [float(iqm(evaluate(model, world, seeds=seeds).returns)) for world in worlds(new)]
        print(f"teacher after {model.num_timesteps:,} more steps: old world {found[0]:.1f}, new {found[1]:.1f}")
        if min(found) > best:
            best = min(found)
            save(model, env, path)
    env.close()
    return path


def worlds(new: Mapping[str, float]) -> tuple[Recipe, Recipe]:
    """The old world and the new one."""
    return recipe_of(OLD), recipe_of(DRIFT, {"drift": 1.0, **({"new": dict(new)} if new else {})})


def continued(teacher: Teacher, run: Path, world: Recipe, seed: int, reservoir: int) -> Iterator[tuple[int, Policy]]:
    """The old student, taught on in the new world: labelled steps so far, and the student after them."""
    memory = Reservoir(reservoir, seed)
    for states in kept_states(run / "student.safetensors"):
        memory.add(states)
    student = ContinualStudent(load_policy(run / "student.safetensors").graph, teacher, memory, steps=500,
                               batch_size=512, learning_rate=2e-3, seed=seed)  # fmt: skip
    env, steps, wanted = make_env(world, 1), 0, list(CONTINUED)
    for episode in play(env, teacher, lambda: student.policy, seed + 1):
        while wanted and steps >= wanted[0]:
            yield steps, student.policy
            wanted = [x for x in wanted if x > steps]
        if not wanted:
            break
        student.learn([episode.observations])
        steps += episode.steps
    env.close()


def settings(args: argparse.Namespace, teacher: Path, seed: int, out: Path, **more: Any) -> dict[str, Any]:
    """The recipe, for the old world and for the new one."""
    return {"env": OLD, "teacher": str(teacher), "seed": seed, "hidden": args.hidden, "out": str(out), "quiet": True,
            "episodes": 2, "max_episodes": 2, "round_steps": 200, "final_steps": 5000, **more}  # fmt: skip


def rows_of(
    args: argparse.Namespace, path: Path, seed: int, courts: tuple[Contest, Contest]
) -> Iterator[dict[str, Any]]:
    """Everything of one seed, row by row."""
    old, new = courts
    teacher = load_teacher(str(path), env=spaces_of(OLD))
    run = args.out / f"old-{seed}"
    if not (run / "result.json").is_file():
        distill(settings(args, path, seed, run, env_steps=40_000))
    for name, size in (("continued", 10_000), ("continued, no reservoir", 0)):
        for steps, policy in continued(teacher, run, new.arena.recipe, seed, size):
            yield {"who": name, "seed": seed, "steps": steps, "new": judged(new, policy), "old": judged(old, policy)}
    for steps in SCRATCH:
        out = args.out / f"scratch-{seed}-{steps}"
        if not (out / "result.json").is_file():
            n_envs = max(1, min(16, steps // 1000))
            kwargs = dict(new.arena.recipe.env_kwargs)
            distill(settings(args, path, seed, out, env=DRIFT, env_kwargs=kwargs, env_steps=steps, n_envs=n_envs,
                             attempts=1))  # fmt: skip
        policy = load_policy(out / "student.safetensors")
        yield {"who": "from scratch", "seed": seed, "steps": steps, "new": judged(new, policy), "old": None}


def main() -> None:
    parser = argparse.ArgumentParser(description="a continued student against one from scratch")
    parser.add_argument("--old-teacher", help="a teacher of LunarLander-v3, 256 x 256, relu (SB3 zip)")
    parser.add_argument("--teacher", type=Path, help="one that copes with both worlds already")
    parser.add_argument("--teacher-steps", type=int, default=500_000)
    parser.add_argument("--new", type=json.loads, default={}, help="JSON of the new world (default: the environment's)")
    parser.add_argument("--hidden", type=int, nargs="+", default=[8, 8])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    torch.set_num_threads(1)
    args.out.mkdir(parents=True, exist_ok=True)
    path = args.teacher or versatile_teacher(args.old_teacher, args.new, args.teacher_steps, args.out / "teacher.zip")
    teacher = load_teacher(str(path), env=spaces_of(OLD))
    old, new = (court(world, teacher) for world in worlds(args.new))
    rows: list[dict[str, Any]] = []
    for seed in args.seeds:
        for row in rows_of(args, path, seed, (old, new)):
            rows.append(row)
            (args.out / "rows.json").write_text(json.dumps(rows, indent=1) + "\n")
            shown = [f"{world}: {row[world]['decision']}, {row[world]['iqm']:.1f} of {row[world]['teacher']:.1f}"
                     for world in ("new", "old") if row[world]]  # fmt: skip
            print(f"{row['who']}, seed {seed}, {row['steps']:,} steps; {'; '.join(shown)}", flush=True)


if __name__ == "__main__":
    main()
