"""The only place that steps environments."""

from kd_agent.rollouts.collect import Rollout, aggregate, collect, episode_seeds
from kd_agent.rollouts.evaluate import Predicts, evaluate
from kd_agent.rollouts.reservoir import Reservoir, flat, labelled

__all__ = ["Predicts", "Reservoir", "Rollout", "aggregate", "collect", "episode_seeds", "evaluate", "flat", "labelled"]
