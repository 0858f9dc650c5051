"""Paired comparisons: everybody plays the same numbered episodes, and is held against a teacher.

A teacher that is a recording plays no more: its returns are those that it has, and are paired with nobody's.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from kd_agent.environments import Recipe
from kd_agent.evaluation.non_inferiority import ERROR, FEWEST, FEWEST_TO_PASS, compare
from kd_agent.evaluation.parts import Verdict
from kd_agent.evaluation.statistics import mean_difference_interval
from kd_agent.policies import Array, HeadSpec
from kd_agent.rollouts import Predicts, evaluate
from kd_agent.runs import Costs, Reporter, Run
from kd_agent.teachers import RecordedTeacher


class Episodes:
    """The episodes of an environment by number, each with a seed of its own.

    Args:
        recipe: The environment.
        first_seed: Seed of episode 0; the others count up.
        reporter: Shows who plays.
        stage: What the reporter calls it, before the player's name.
        costs: Where the steps are booked; None: nowhere.
        purpose: As what, one of `Costs.counts`.
        head: Head of the policies that the random policy is held against; its actions start where theirs do.
        deterministic: Whether greedy actions are played, rather than samples.

    Attributes:
        steps: Environment steps so far.
    """

    def __init__(
        self,
        recipe: Recipe,
        *,
        first_seed: int,
        reporter: Reporter,
        stage: str = "evaluating",
        costs: Costs | None = None,
        purpose: str = "verdict_steps",
        head: HeadSpec | None = None,
        deterministic: bool = True,
    ) -> None:
        self._recipe = recipe
        self._first_seed = first_seed
        self._reporter = reporter
        self._stage = stage
        self._costs = costs
        self._purpose = purpose
        self._head = head
        self._deterministic = deterministic
        self.steps = 0

    @staticmethod
    def of(run: Run, *, first_seed: int, stage: str = "evaluating", purpose: str = "verdict_steps") -> "Episodes":
        """Those of a run's environment, booked among its costs.

        Args:
            run: The run.
            first_seed: Seed of episode 0.
            stage: What the reporter calls it.
            purpose: As what the steps are booked.
        """
        return Episodes(
            run.recipe,
            first_seed=first_seed,
            reporter=run.reporter,
            stage=stage,
            costs=run.costs,
            purpose=purpose,
            head=run.teacher.head.spec,
            deterministic=not run.config.sampled,
        )

    def play(
        self, player: Predicts | None, name: str, episodes: int, after: int = 0, *, deterministic: bool | None = None
    ) -> list[float]:
        """Returns of a player in consecutive episodes.

        Args:
            player: Who plays; None: the random policy.
            name: What it is called.
            episodes: How many episodes.
            after: Number of the first of them.
            deterministic: Greedy actions rather than samples; None: as all play here.
        """
        if deterministic is None:
            deterministic = self._deterministic
        first = self._first_seed + after
        seeds = range(first, first + episodes)
        if not seeds:
            # What is missing of something that is complete.
            return []
        with self._reporter.stage(f"{self._stage} {name}", len(seeds), "episodes") as advance:
            played = evaluate(
                player, self._recipe, seeds=seeds, deterministic=deterministic, head=self._head, advance=advance
            )
        steps = int(played.lengths.sum())
        self.steps += steps
        if self._costs:
            self._costs.add(self._purpose, steps)
        return [float(score) for score in played.returns]


class PairedComparison:
    """A teacher, and those who are held against it; what the teacher has played it need not play again.

    Args:
        episodes: What they play.
        teacher: Who is to be equalled.
        margin: Loss that counts as none, as a share of |teacher - random|.
        random_episodes: How many the random policy plays, for scale.
    """

    def __init__(self, episodes: Episodes, teacher: Predicts, *, margin: float, random_episodes: int) -> None:
        self.episodes = episodes
        self._teacher = teacher
        self._margin = margin
        self._random_episodes = random_episodes
        self._teacher_returns: list[float] = []
        self._random_returns: list[float] = []

    @property
    def random_returns(self) -> list[float]:
        """Returns of the random policy."""
        # Played when they are first asked for: a validation that is never held needs none.
        if not self._random_returns:
            self._random_returns = self.episodes.play(None, "the random policy", self._random_episodes)
        return self._random_returns

    def teacher_returns(self, episodes: int) -> list[float]:
        """Returns of the teacher in the first `episodes` episodes; it plays those alone that it has not played.

        Of a recording, all that it has.
        """
        if isinstance(self._teacher, RecordedTeacher):
            return list(self._teacher.recording.returns)
        played = len(self._teacher_returns)
        missing = max(0, episodes - played)
        self._teacher_returns += self.episodes.play(self._teacher, "the teacher", missing, played)
        return self._teacher_returns[:episodes]

    @property
    def decidable(self) -> bool:
        """Whether a student's episodes can decide anything.

        Not against a recording of too few episodes, nor against one that chance explains.
        """
        if not isinstance(self._teacher, RecordedTeacher):
            return True
        returns = self._teacher.recording.returns
        return len(returns) >= FEWEST and better_than_random(returns, self.random_returns)

    def played(self) -> tuple[list[float], list[float]]:
        """Returns of teacher and random policy so far, for a checkpoint."""
        return self._teacher_returns, self._random_returns

    def restore(self, teacher: Sequence[float], random: Sequence[float]) -> None:
        """Go on from what was played before.

        Args:
            teacher: Returns of the teacher, from `played`.
            random: Returns of the random policy.
        """
        self._teacher_returns = list(teacher)
        self._random_returns = list(random)

    def verdict(self, returns: Sequence[float] | Array, *, error: float = ERROR) -> Verdict:
        """How a player's returns in the first episodes compare with the teacher's in the same ones.

        Args:
            returns: The player's `[n]`, in the order of the episodes, or `[K, n]` of several (`compare`).
            error: Of this look.
        """
        teacher = self.teacher_returns(np.shape(returns)[-1])
        rule = compare_recorded if isinstance(self._teacher, RecordedTeacher) else compare
        return rule(teacher, returns, self.random_returns, margin=self._margin, error=error)

    def play_until_decided(
        self, player: Predicts, name: str, looks: Sequence[tuple[int, float]], *, rival: float | None = None
    ) -> tuple[list[float], Verdict]:
        """Let a player play on while its verdict is open: its returns, and the verdict on them.

        Args:
            player: Who plays.
            name: What it is called.
            looks: Numbers of episodes, increasing, after each of which the verdict may fall, each with its error
                (`Boundary.looks`).
            rival: Score (`Verdict.score`) of the best so far; a player that falls a margin behind is not looked at
                further. None: there is none.
        """
        returns: list[float] = []
        for episodes, error in looks:
            returns += self.episodes.play(player, name, episodes - len(returns), len(returns))
            verdict = self.verdict(returns, error=error)
            if verdict.decision != "undecided":
                break
            if episodes >= FEWEST_TO_PASS and not self.decidable:
                break
            if rival is not None and verdict.score < rival - 1:
                break
        return returns, verdict


def compare_recorded(
    teacher: Sequence[float], student: Sequence[float] | Array, random: Sequence[float], *, margin: float, error: float
) -> Verdict:
    """As `compare`, against recorded returns, which are paired with none.

    A student that is like a recording which chance explains is worth nothing: it never passes.

    Args:
        teacher: The recorded returns `[m]`.
        student: Returns `[n]`.
        random: Returns of the random policy.
        margin: As `compare` has it.
        error: Of this look.
    """
    verdict = compare(teacher, student, random, margin=margin, error=error, paired=False)
    if better_than_random(teacher, random):
        return verdict
    reason = "the recording is not shown to be better than chance: to be like it shows nothing"
    decision = "undecided" if verdict.non_inferior else verdict.decision
    return replace(verdict, decision=decision, reasons=(reason, *verdict.reasons))


def better_than_random(teacher: Sequence[float], random: Sequence[float]) -> bool:
    """Whether a teacher is shown to be better than the random policy.

    Args:
        teacher: Its returns.
        random: Those of the random policy.
    """
    return mean_difference_interval(random, teacher)[0] > 0
