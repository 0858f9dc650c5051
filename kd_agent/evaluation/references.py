"""What a verdict is worth: the teacher against the random policy, and its greedy play against its sampled play.

A student can hold the return of a teacher that is worth nothing, and then its verdict alone would look like a success.
"""

from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np

from kd_agent.evaluation.comparison import PairedComparison
from kd_agent.evaluation.non_inferiority import FEWEST
from kd_agent.evaluation.statistics import mean_difference_interval
from kd_agent.runs import Run


@dataclass(frozen=True)
class References:
    """Returns of the first episodes, on the same seeds.

    Attributes:
        env_id: The environment.
        greedy: Of the teacher, as it labels.
        sampled: Of the teacher where it samples its actions.
        random: Of the random policy.
    """

    env_id: str
    greedy: list[float]
    sampled: list[float]
    random: list[float]

    @staticmethod
    def of(run: Run, comparison: PairedComparison) -> "References":
        """Let the three play.

        Args:
            run: The run.
            comparison: The episodes of its verdict, and who plays them.
        """
        count = min(FEWEST, run.config.max_episodes)
        return References(
            run.recipe.env_id,
            comparison.teacher_returns(count),
            comparison.episodes.play(run.teacher, "the teacher, sampled", count, deterministic=False),
            comparison.random_returns,
        )

    @property
    def better_than_random(self) -> bool:
        """Whether the teacher is shown to be better than the random policy."""
        return mean_difference_interval(self.random, self.greedy)[0] > 0

    @property
    def worse_than_sampled(self) -> bool:
        """Whether the teacher is shown to be worse where it is greedy."""
        return mean_difference_interval(self.greedy, self.sampled)[0] > 0

    @property
    def threshold(self) -> float | None:
        """From which mean return on the environment counts as solved; None where it does not say."""
        return gym.spec(self.env_id).reward_threshold

    @property
    def weak(self) -> bool:
        """Whether the teacher stays below that."""
        return self.threshold is not None and float(np.mean(self.greedy)) < self.threshold

    def figures(self) -> dict[str, Any]:
        """What `result.json` says of the teacher."""
        return {
            "sampled_mean": float(np.mean(self.sampled)),
            "better_than_random": self.better_than_random,
            "worse_than_sampled": self.worse_than_sampled,
            "reward_threshold": self.threshold,
            "weak": self.weak,
        }

    def lines(self) -> list[str]:
        """A warning for each reason why the verdict may be worth little."""
        greedy, sampled = np.mean(self.greedy), np.mean(self.sampled)
        lines = []
        if not self.better_than_random:
            lines.append(
                f"WARNING: the teacher is not shown to be better than chance: mean {greedy:.1f}, the random policy "
                f"{np.mean(self.random):.1f}"
            )
        if self.worse_than_sampled:
            lines.append(
                f"WARNING: the teacher plays worse greedy ({greedy:.1f}) than sampled ({sampled:.1f}): try --sampled"
            )
        if self.weak:
            lines.append(
                f"WARNING: the teacher is weak: mean {greedy:.1f}, {self.env_id} counts as solved from "
                f"{self.threshold:g}"
            )
        return lines
