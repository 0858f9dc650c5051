"""A skill library: a higher-level agent whose actions are frozen students, each played for some steps.

python examples/skill_library.py hover.safetensors land.safetensors --steps 20000

The skills run on NumPy inside the environment; Stable-Baselines3's PPO learns which of them to play when.
"""

import argparse

import gymnasium as gym
from stable_baselines3 import PPO
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.evaluation import evaluate_policy

from kd_agent import load_policy
from kd_agent.adapters.gymnasium import Skills

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("students", nargs="+", help="at least two make sense; all of one environment")
parser.add_argument("--skill-steps", type=int, default=8, help="environment steps of one choice")
parser.add_argument("--steps", type=int, default=20_000, help="choices to learn from")
parser.add_argument("--episodes", type=int, default=10)
arguments = parser.parse_args()

skills = [load_policy(path) for path in arguments.students]


def make() -> gym.Env:
    """An environment to choose skills in."""
    return Skills(gym.make(skills[0].env_id), skills, steps=arguments.skill_steps)


env = make_vec_env(make, n_envs=4, seed=0)
# A rollout is no longer than the budget, so that a short one still learns once.
rollout = min(256, max(2, arguments.steps // 4))
chooser = PPO("MlpPolicy", env, n_steps=rollout, device="cpu", seed=0)
chooser.learn(arguments.steps)
mean, deviation = evaluate_policy(chooser, env, n_eval_episodes=arguments.episodes)
print(f"{len(skills)} skills: return {mean:.1f} +- {deviation:.1f}")
