"""The only place that steps environments."""

from kd_agent.rollouts.collect import Rollout, aggregate, collect
from kd_agent.rollouts.evaluate import Predicts, evaluate
from kd_agent.rollouts.reservoir import Reservoir, flat, labelled
from kd_agent.rollouts.steps import Step, episode_seeds, play

__all__ = [
    "Predicts",
    "Reservoir",
    "Rollout",
    "Step",
    "aggregate",
    "collect",
    "episode_seeds",
    "evaluate",
    "flat",
    "labelled",
    "play",
]
