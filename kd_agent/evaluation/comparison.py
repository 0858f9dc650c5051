"""Episodes that everybody plays on the same seeds: what each is worth, and how it compares with a teacher."""

from collections.abc import Sequence
from functools import cached_property

import numpy as np

from kd_agent.environments import Recipe
from kd_agent.evaluation.statistics import Verdict, compare, iqm
from kd_agent.rollouts import Predicts, evaluate
from kd_agent.runs import Reporter


class Arena:
    """A world whose episodes have numbers, each with a seed of its own.

    Args:
        recipe: The world.
        first_seed: Seed of episode 0; the others count up.
        reporter: Shows who plays.
        stage: What the reporter calls it, before the player's name.

    Attributes:
        steps: Environment steps spent so far.
    """

    def __init__(self, recipe: Recipe, *, first_seed: int, reporter: Reporter, stage: str = "evaluating") -> None:
        self.recipe, self.reporter, self.steps = recipe, reporter, 0
        self._first_seed, self._stage = first_seed, stage

    def play(self, player: Predicts | None, name: str, episodes: int, after: int = 0) -> list[float]:
        """Returns of a player (None: the random policy) in `episodes` episodes, from number `after`."""
        seeds = range(self._first_seed + after, self._first_seed + after + episodes)
        if not seeds:
            return []
        with self.reporter.stage(f"{self._stage} {name}", len(seeds), "episodes") as advance:
            played = evaluate(player, self.recipe, seeds=seeds, advance=advance)
        self.steps += int(played.lengths.sum())
        return [float(score) for score in played.returns]


class Contest:
    """A teacher, and those who are held against it; what the teacher has played it need not play again.

    Args:
        arena: Where they play.
        teacher: Who is to be equalled.
        margin: Loss that counts as none, as a share of |teacher - random|.
        episodes: How many the random policy plays, for scale.
    """

    def __init__(self, arena: Arena, teacher: Predicts, *, margin: float, episodes: int) -> None:
        self.arena, self._teacher, self._margin, self._episodes = arena, teacher, margin, episodes
        self._returns: list[float] = []

    @cached_property
    def chance(self) -> list[float]:
        """Returns of the random policy."""
        return self.arena.play(None, "the random policy", self._episodes)

    def teacher(self, episodes: int) -> list[float]:
        """Returns of the teacher in the first `episodes` episodes."""
        missing = max(0, episodes - len(self._returns))
        self._returns += self.arena.play(self._teacher, "the teacher", missing, len(self._returns))
        return self._returns[:episodes]

    def verdict(self, returns: Sequence[float], *, looks: int = 1) -> Verdict:
        """How the returns of a player in the first episodes compare with the teacher's in the same ones."""
        teacher = self.teacher(len(returns))
        return compare(teacher, returns, float(iqm(self.chance)), margin=self._margin, looks=looks)

    def settle(self, player: Predicts, name: str, looks: Sequence[int]) -> tuple[list[float], Verdict]:
        """Let a player play on while its verdict is open: its returns, and the verdict on them.

        Args:
            player: Who plays.
            name: What it is called.
            looks: Numbers of episodes, increasing, after each of which the verdict may fall.
        """
        returns: list[float] = []
        for episodes in looks:
            returns += self.arena.play(player, name, episodes - len(returns), len(returns))
            verdict = self.verdict(returns, looks=len(looks))
            if verdict.decision != "undecided":
                break
        return returns, verdict


def doublings(episodes: int, max_episodes: int) -> list[int]:
    """Numbers of episodes after which a comparison is made: `episodes`, each doubling of them, and the maximum."""
    if max_episodes <= episodes:
        return [episodes]
    count = 1 + int(np.ceil(np.log2(max_episodes / episodes)))
    return [min(episodes << look, max_episodes) for look in range(count)]
