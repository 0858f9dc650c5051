"""A student as a module of TorchRL, in one of its environments. Needs the extra `torchrl`.

python examples/play_with_torchrl.py runs/LunarLander-v3/0/student.safetensors
"""

import argparse

from torchrl.envs import GymEnv, set_exploration_type
from torchrl.envs.utils import ExplorationType

from kd_agent import load_policy
from kd_agent.adapters.torchrl import actor

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("student")
parser.add_argument("--steps", type=int, default=1000, help="of one episode at most")
arguments = parser.parse_args()

policy = load_policy(arguments.student)
env = GymEnv(policy.env_id, categorical_action_encoding=True)
env.set_seed(0)
for mode in (ExplorationType.DETERMINISTIC, ExplorationType.RANDOM):
    with set_exploration_type(mode):
        played = env.rollout(arguments.steps, actor(policy))
    print(f"{mode.name.lower()}: return {played['next', 'reward'].sum().item():.1f} in {len(played)} steps")
