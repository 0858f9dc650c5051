"""A student as an RLlib module: it plays, and PPO goes on from it. Needs the extra `rllib`.

python examples/fine_tune_with_rllib.py runs/LunarLander-v3/0/student.safetensors
"""

import argparse

from ray.rllib.algorithms.ppo import PPOConfig

from kd_agent import load_policy
from kd_agent.adapters.rllib import module_spec

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("student")
parser.add_argument("--iterations", type=int, default=5)
parser.add_argument("--batch", type=int, default=4000, help="environment steps of an iteration")
arguments = parser.parse_args()

config = (
    PPOConfig()
    .environment(load_policy(arguments.student).env_id, normalize_actions=False, clip_actions=True)
    .env_runners(num_env_runners=0)
    .rl_module(rl_module_spec=module_spec(arguments.student))
    .training(lr=1e-4, train_batch_size_per_learner=arguments.batch, num_epochs=4)
)
algorithm = config.build_algo()
for iteration in range(arguments.iterations):
    runners = algorithm.train()["env_runners"]
    print(f"iteration {iteration}: return {runners.get('episode_return_mean', float('nan')):.1f}, sampled actions")
algorithm.stop()
