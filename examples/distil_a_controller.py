"""A scripted controller as a teacher: Gymnasium's own heuristic for LunarLander, asked so many questions and no more.

python examples/distil_a_controller.py                 asks it about 2,000 states
python examples/distil_a_controller.py --questions 500

A controller says what it would do, not how sure it is: it teaches less by each answer than a policy with probabilities.
"""

import argparse

import gymnasium as gym
import numpy as np
from gymnasium.envs.box2d.lunar_lander import heuristic

from kd_agent import distill, load_teacher

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("--questions", type=int, default=2_000, help="states that the controller is asked about")
parser.add_argument("--env-steps", type=int, default=60_000, help="steps in which the student looks for them")
parser.add_argument("--final-steps", type=int, default=3_000, help="gradient steps of a final fit")
parser.add_argument("--attempts", type=int, default=4, help="final fits, of which the one that earns most is kept")
parser.add_argument("--episodes", type=int, default=90, help="episodes after which most verdicts fall")
parser.add_argument("--max-episodes", type=int, default=1_000, help="episodes while the verdict is open")
parser.add_argument("--seed", type=int, default=0)
parser.add_argument("--out", help="the run folder")
arguments = parser.parse_args()

ENV = "LunarLander-v3"
world = gym.make(ENV)


def controller(observations):
    """Actions [B] for observations [B, 8]."""
    return np.array([heuristic(world, observation) for observation in observations])


teacher = load_teacher(controller, env=(world.observation_space, world.action_space))
result = distill(
    {
        "env": ENV,
        "label_budget": arguments.questions,
        "env_steps": arguments.env_steps,
        "final_steps": arguments.final_steps,
        "attempts": arguments.attempts,
        "episodes": arguments.episodes,
        "max_episodes": arguments.max_episodes,
        "seed": arguments.seed,
        "out": arguments.out,
    },
    teacher,
)
print(f"{result['cost']['questions']:,} questions, return {result['student']['mean']:.1f} of the controller's "
      f"{result['teacher']['mean']:.1f}: {result.verdict['decision']}")  # fmt: skip
print(f"the student, {result['student']['bytes']:,} bytes: {result.student_file}")
