"""An optimiser as a teacher: model-predictive control of Pendulum, ten lines of NumPy, distilled into a small network.

python examples/distil_an_mpc.py                 asks it about 2,000 states
python examples/distil_an_mpc.py --questions 500

The controller tries a few hundred plans on a model of the pendulum and does the first step of the best one. That takes
a thousand times longer than the student does, and is why its answers are dear.
"""

import argparse

import gymnasium as gym
import numpy as np

from kd_agent import distill, load_teacher

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("--questions", type=int, default=2_000, help="states that the controller is asked about")
parser.add_argument("--env-steps", type=int, default=40_000, help="steps in which the student looks for them")
parser.add_argument("--final-steps", type=int, default=3_000, help="gradient steps of a final fit")
parser.add_argument("--attempts", type=int, default=4, help="final fits, of which the one that earns most is kept")
parser.add_argument("--episodes", type=int, default=90, help="episodes after which most verdicts fall")
parser.add_argument("--max-episodes", type=int, default=1_000, help="episodes while the verdict is open")
parser.add_argument("--seed", type=int, default=0)
parser.add_argument("--out", help="the run folder")
arguments = parser.parse_args()

ENV = "Pendulum-v1"
GRAVITY, MASS, LENGTH, STEP = 10.0, 1.0, 1.0, 0.05  # as Gymnasium has them; in SI units
# Plans [K, T]: a torque for the first steps, another for those after them, a third to the end.
TORQUES = np.linspace(-2, 2, 9)
PLANS = np.stack(np.meshgrid(TORQUES, TORQUES, TORQUES), axis=-1).reshape(-1, 3).repeat([3, 7, 15], axis=1)


def controller(observations):
    """Torques [B, 1] for observations [B, 3]: the first of the plan that costs least."""
    angle = np.arctan2(observations[:, 1], observations[:, 0])[:, None]
    speed = observations[:, 2:]
    cost = 0.0
    for torque in PLANS.T:
        away = (angle + np.pi) % (2 * np.pi) - np.pi
        cost = cost + away**2 + 0.1 * speed**2 + 0.001 * torque**2
        push = 3 * GRAVITY / (2 * LENGTH) * np.sin(angle) + 3 / (MASS * LENGTH**2) * torque
        speed = np.clip(speed + STEP * push, -8, 8)
        angle = angle + STEP * speed
    return PLANS[cost.argmin(axis=1), :1]


world = gym.make(ENV)
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
