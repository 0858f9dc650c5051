"""The only place that steps environments."""

from kd_agent.rollouts.collect import collect, collect_on
from kd_agent.rollouts.evaluate import Player, Predicts, evaluate
from kd_agent.rollouts.questions import Questions, hand_over
from kd_agent.rollouts.record import RecordedEpisode, episodes_of, record_episodes
from kd_agent.rollouts.reservoir import Reservoir, flat, labelled
from kd_agent.rollouts.rollout import Rollout, aggregate
from kd_agent.rollouts.running import RunningEpisodes
from kd_agent.rollouts.steps import Step, episode_seeds, play

__all__ = [
    "Player",
    "Predicts",
    "Questions",
    "RecordedEpisode",
    "Reservoir",
    "Rollout",
    "RunningEpisodes",
    "Step",
    "aggregate",
    "collect",
    "collect_on",
    "episode_seeds",
    "episodes_of",
    "evaluate",
    "flat",
    "hand_over",
    "labelled",
    "play",
    "record_episodes",
]
