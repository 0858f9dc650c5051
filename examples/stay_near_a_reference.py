"""A frozen reference: an agent goes on learning, and a KL penalty keeps it near the student that it came from.

python examples/stay_near_a_reference.py runs/LunarLander-v3/0/student.safetensors --coefficient 0.1

The reward pays for actions that the reference finds likely and the entropy bonus is as large: together they are a
penalty on KL(agent || reference).
"""

import argparse

import gymnasium as gym
import numpy as np
from stable_baselines3 import PPO
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.evaluation import evaluate_policy

from kd_agent import export, load_policy
from kd_agent.adapters.gymnasium import NearReference

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("student")
parser.add_argument("--coefficient", type=float, default=0.1, help="reward per nat")
parser.add_argument("--steps", type=int, default=50_000)
parser.add_argument("--episodes", type=int, default=10)
arguments = parser.parse_args()

reference = load_policy(arguments.student)


def make() -> gym.Env:
    """The environment, paying for what the reference finds likely."""
    return NearReference(gym.make(reference.env_id), reference, coefficient=arguments.coefficient)


[path] = export(reference, "near.zip", to="sb3")
env = make_vec_env(make, n_envs=4, seed=0)
changes = {"learning_rate": 1e-4, "n_steps": 512, "ent_coef": arguments.coefficient}
agent = PPO.load(path, env=env, device="cpu", **changes)
agent.learn(arguments.steps)
agent.save(path)

plain = make_vec_env(reference.env_id, n_envs=4, seed=0)
mean, deviation = evaluate_policy(agent, plain, n_eval_episodes=arguments.episodes)
# Where episodes begin, and anywhere in the space: near is more than alike at the start.
anywhere = [plain.observation_space.sample() for _ in range(60)]
observations = np.concatenate([plain.reset(), anywhere])
actions, _ = agent.predict(observations, deterministic=True)
expected, _ = reference.predict(observations, deterministic=True)
same = np.mean(actions == expected)
print(f"return {mean:.1f} +- {deviation:.1f}, {same:.0%} of {len(actions)} actions are the reference's: {path}")
