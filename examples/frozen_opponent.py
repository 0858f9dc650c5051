"""Distil a policy against a frozen opponent of a PettingZoo game, and let the student play the game itself.

python examples/frozen_opponent.py --games 10 --out runs/rock-paper-scissors

The opponent plays what would have beaten the move before; who has understood that plays the opponent's own last move.
"""

import argparse

import gymnasium as gym
import numpy as np
import pettingzoo

from kd_agent import distill, load_teacher
from kd_agent.adapters.pettingzoo import Agent, FrozenOpponents

MOVES = 3  # rock, paper, scissors: each is beaten by the next
LEARNER, OPPONENT = "player_0", "player_1"
GAME, ID = "classic/rps-v2", "AgainstAFrozenOpponent-v0"

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("--games", type=int, default=10, help="games of the student in the end")
parser.add_argument("--env-steps", type=int, default=2_000, help="distillation budget")
parser.add_argument("--out", default=None, help="the run folder")
arguments = parser.parse_args()


class BeatsTheLastMove:
    """The frozen opponent: anything with `predict`, such as a student, or an agent of Stable-Baselines3."""

    def predict(self, observation, state=None, episode_start=None, deterministic=False):
        """One move; what is observed is the other's last move, or that there was none."""
        return (int(observation) + 1) % MOVES, None


def teacher(observations):
    """The moves `[B]` that win against it."""
    return np.minimum(observations, MOVES - 1)


def make() -> gym.Env:
    """The game as the learner meets it."""
    return FrozenOpponents(pettingzoo.make("aec", GAME, max_cycles=20), BeatsTheLastMove(), agent=LEARNER)


gym.register(ID, make)
env = make()
expert = load_teacher(teacher, env=(env.observation_space, env.action_space))
budget = {"env_steps": arguments.env_steps, "rounds": 2, "final_steps": 500, "round_steps": 100, "episodes": 20}
result = distill({"env": ID, "hidden": [8], "out": arguments.out, "quiet": True, **budget}, expert)
print(f"against the frozen opponent: {result['verdict']['decision']}")

# The student as an agent among others: in the parallel form of the game all move at once.
game = pettingzoo.make("parallel", GAME, max_cycles=20)
agents = {LEARNER: Agent(result.policy), OPPONENT: Agent(BeatsTheLastMove())}
returns = []
for number in range(arguments.games):
    observations, _ = game.reset(seed=number)
    for agent in agents.values():
        agent.reset(number)
    total = 0.0
    while game.agents:
        actions = {name: agents[name].act(observations[name]) for name in game.agents}
        observations, rewards, _, _, _ = game.step(actions)
        total += rewards[LEARNER]
    returns.append(total)
print(f"{arguments.games} games: return {np.mean(returns):.1f}")
