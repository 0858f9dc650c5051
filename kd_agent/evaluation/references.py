"""What a verdict is worth: the teacher against the random policy, and its greedy play against its sampled play.

A student can hold the return of a teacher that is worth nothing, and then its verdict alone would look like a success.
A recording cannot be played the other way: what that would earn nobody knows, and nothing is said of it.
"""

from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np

from kd_agent.evaluation.comparison import PairedComparison, better_than_random
from kd_agent.evaluation.non_inferiority import FEWEST
from kd_agent.evaluation.statistics import mean_difference_interval
from kd_agent.runs import Run
from kd_agent.teachers import RecordedTeacher


@dataclass(frozen=True)
class References:
    """Returns of the first episodes, on the same seeds.

    Attributes:
        env_id: The environment.
        play: How the verdict is played, "greedy" or "sampled".
        teacher: Of the teacher, as the verdict is played.
        otherwise: Of the teacher, played the other way; none of a recording.
        random: Of the random policy.
    """

    env_id: str
    play: str
    teacher: list[float]
    otherwise: list[float]
    random: list[float]

    @staticmethod
    def of(run: Run, comparison: PairedComparison) -> "References":
        """Let the three play.

        Args:
            run: The run.
            comparison: The episodes of its verdict, and who plays them.
        """
        count = min(FEWEST, run.config.max_episodes)
        sampled = bool(run.config.sampled)
        play, other = ("sampled", "greedy") if sampled else ("greedy", "sampled")
        first = comparison.teacher_returns(count)
        otherwise: list[float] = []
        if not isinstance(run.teacher, RecordedTeacher):
            otherwise = comparison.episodes.play(run.teacher, f"the teacher, {other}", count, deterministic=sampled)
        return References(run.recipe.env_id, play, first, otherwise, comparison.random_returns)

    @property
    def better_than_random(self) -> bool:
        """Whether the teacher is shown to be better than the random policy."""
        return better_than_random(self.teacher, self.random)

    @property
    def better_otherwise(self) -> bool:
        """Whether the teacher is shown to be better where it is played the other way."""
        if not self.otherwise:
            return False
        return mean_difference_interval(self.teacher, self.otherwise)[0] > 0

    @property
    def threshold(self) -> float | None:
        """From which mean return on the environment counts as solved; None where it does not say."""
        return gym.spec(self.env_id).reward_threshold

    @property
    def weak(self) -> bool:
        """Whether the teacher stays below that."""
        return self.threshold is not None and float(np.mean(self.teacher)) < self.threshold

    def figures(self) -> dict[str, Any]:
        """What `result.json` says of the teacher."""
        return {
            "better_than_random": self.better_than_random,
            "better_otherwise": self.better_otherwise if self.otherwise else None,
            "mean_otherwise": float(np.mean(self.otherwise)) if self.otherwise else None,
            "reward_threshold": self.threshold,
            "weak": self.weak,
        }

    def lines(self) -> list[str]:
        """A warning for each reason why the verdict may be worth little."""
        mean = np.mean(self.teacher)
        lines = []
        if not self.better_than_random:
            lines.append(
                f"WARNING: the teacher is not shown to be better than chance: mean {mean:.1f}, the random policy "
                f"{np.mean(self.random):.1f}"
            )
        if self.better_otherwise:
            other, advice = "sampled", "try --sampled"
            if self.play == "sampled":
                other, advice = "greedy", "leave --sampled out"
            otherwise = np.mean(self.otherwise)
            lines.append(
                f"WARNING: the teacher plays worse {self.play} ({mean:.1f}) than {other} ({otherwise:.1f}): {advice}"
            )
        if self.weak:
            lines.append(
                f"WARNING: the teacher is weak: mean {mean:.1f}, {self.env_id} counts as solved from {self.threshold:g}"
            )
        return lines
