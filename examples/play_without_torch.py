"""A student in a plain Gymnasium loop: NumPy is all it needs, and a C compiler makes it faster.

python examples/play_without_torch.py runs/LunarLander-v3/0/student.safetensors
"""

import argparse

import gymnasium as gym

from kd_agent import load_policy

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("student")
parser.add_argument("--episodes", type=int, default=3)
arguments = parser.parse_args()

policy = load_policy(arguments.student, backend="auto")
env = gym.make(policy.env_id)
for seed in range(arguments.episodes):
    observation, _ = env.reset(seed=seed)
    total = 0.0
    done = False
    while not done:
        observation, reward, terminated, truncated, _ = env.step(policy.act(observation))
        total += float(reward)
        done = terminated or truncated
    print(f"episode {seed}: return {total:.1f} ({policy.backend})")
