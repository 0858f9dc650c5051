"""A student becomes a Stable-Baselines3 PPO, learns on, and stays as small as it was.

python examples/fine_tune_with_sb3.py runs/LunarLander-v3/0/student.safetensors --out tuned.zip

The zip's critic is new. While it learns, the actor may get worse first; a small rate keeps it near.
"""

import argparse

from stable_baselines3 import PPO
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.evaluation import evaluate_policy

from kd_agent import export, load_policy

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("student")
parser.add_argument("--out", default="tuned.zip")
parser.add_argument("--steps", type=int, default=50_000)
parser.add_argument("--episodes", type=int, default=10)
arguments = parser.parse_args()

policy = load_policy(arguments.student)
[path] = export(policy, arguments.out, to="sb3")
env = make_vec_env(policy.env_id, n_envs=4, seed=0)
model = PPO.load(path, env=env, device="cpu", learning_rate=1e-4, n_steps=512)
before, _ = evaluate_policy(model, env, n_eval_episodes=arguments.episodes)
model.learn(arguments.steps)
after, _ = evaluate_policy(model, env, n_eval_episodes=arguments.episodes)
model.save(path)
print(f"return {before:.1f} before, {after:.1f} after {arguments.steps} steps: {path}")
