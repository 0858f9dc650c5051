"""A student is whatever has Stable-Baselines3's `predict`: here in its `evaluate_policy`.

python examples/evaluate_with_sb3.py runs/LunarLander-v3/0/student.safetensors
"""

import argparse

from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.evaluation import evaluate_policy

from kd_agent import load_policy

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("student")
parser.add_argument("--episodes", type=int, default=10)
arguments = parser.parse_args()

policy = load_policy(arguments.student)
env = make_vec_env(policy.env_id, n_envs=4, seed=0)
mean, deviation = evaluate_policy(policy, env, n_eval_episodes=arguments.episodes)
print(f"{policy.num_parameters} parameters: return {mean:.1f} +- {deviation:.1f}")
