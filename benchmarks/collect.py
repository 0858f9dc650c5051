"""How fast labelled rollouts are collected, against the same VecEnv under random actions, in one run.

    python benchmarks/collect.py [--env LunarLander-v3] [--steps 2000] [--repeats 5] [--json FILE]

Both sides step the same vector environment from the same seeds. The teacher is an untrained 256 x 256
PPO policy read from its zip, the driver a [16, 16] student (so both networks run at each step).
"""

import argparse
import json
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gymnasium.vector.utils import batch_space
from stable_baselines3 import PPO
from stable_baselines3.common.vec_env import VecEnv

from kd_agent.environments.recipe import resolve_id
from kd_agent.environments.vector import make_env, start
from kd_agent.networks.base import Teacher
from kd_agent.policies.normalizer import Normalizer
from kd_agent.policies.policy import Policy
from kd_agent.rollouts import collect, episode_seeds
from kd_agent.students.mlp import MLP
from kd_agent.teachers import load_teacher


def make_teacher(env: VecEnv) -> Teacher:
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        path = Path(folder) / "teacher.zip"
        PPO("MlpPolicy", env, device="cpu", policy_kwargs={"net_arch": [256, 256]}).save(path)
        return load_teacher(str(path))


def make_student(teacher: Teacher) -> Policy:
    normalizers = {k: Normalizer(np.zeros(s.shape), np.ones(s.shape)) for k, s in teacher.observations.items()}
    return MLP(teacher.observations, teacher.head, normalizers).policy()


def random_rate(env: VecEnv, steps: int, seed: int) -> float:
    chance = batch_space(env.action_space, env.num_envs)
    chance.seed(seed)
    start(env, episode_seeds(seed))
    began = time.perf_counter()
    for _ in range(steps):
        env.step(np.asarray(chance.sample()))
    return steps * env.num_envs / (time.perf_counter() - began)


def labelled_rate(env: VecEnv, teacher: Teacher, student: Policy, steps: int, seed: int) -> float:
    began = time.perf_counter()
    collect(env, teacher, student, steps=steps, beta=0.5, exploration=0.02, seed=(seed,))
    return steps * env.num_envs / (time.perf_counter() - began)


def main() -> None:
    parser = argparse.ArgumentParser(description="labelled rollouts against random stepping")
    parser.add_argument("--env", default="LunarLander-v3")
    parser.add_argument("--n-envs", type=int, default=16)
    parser.add_argument("--steps", type=int, default=2000, help="steps of each environment")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(1)
    env = make_env(resolve_id(args.env), args.n_envs)
    teacher = make_teacher(env)
    student = make_student(teacher)
    rows = []
    for seed in range(args.repeats):
        labelled, chance = labelled_rate(env, teacher, student, args.steps, seed), random_rate(env, args.steps, seed)
        rows.append({"labelled": labelled, "random": chance, "ratio": labelled / chance})
        print(f"labelled {labelled:,.0f} steps/s, random {chance:,.0f} steps/s, ratio {labelled / chance:.2f}")
    ratios = [row["ratio"] for row in rows]
    result: dict[str, Any] = {
        "env": args.env,
        "n_envs": args.n_envs,
        "rows": rows,
        "median_ratio": float(np.median(ratios)),
    }
    print(f"median ratio {result['median_ratio']:.2f} (min {min(ratios):.2f}, max {max(ratios):.2f})")
    if args.json:
        args.json.write_text(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
