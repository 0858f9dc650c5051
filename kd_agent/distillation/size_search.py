"""The smallest student that is still non-inferior, and the whole front of size and score.

Successive halving (Jamieson and Talwalkar 2016): every size gets a short fit and a few episodes, the field is at
most halved, the others get twice as much. What is sought is not the best score, so that a size is dropped where a
smaller one does at least as well, or where it is shown to be inferior. The sizes that are left get final fits in
earnest, the smallest first, and those that these do not show to be inferior the verdict, until it is "non-inferior".
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from kd_agent.distillation.dagger import Rounds
from kd_agent.distillation.final_fits import Attempt, FinalFits, final_fits
from kd_agent.distillation.fitting import build_student, fit
from kd_agent.distillation.outcome import Fitted, judge_student
from kd_agent.distillation.validation import Validation
from kd_agent.errors import KDError
from kd_agent.evaluation import VALIDATION, scores
from kd_agent.rollouts import Rollout
from kd_agent.runs import Run, RunFolder
from kd_agent.settings import DistillConfig

RUNGS = 3
LAST = RUNGS + 1
"""The number of the rung that stands for the final fits."""
PATIENCE = 3
"""Final fits in a row, none of them better than the best before, after which a size is given up."""
_FILE = "front.json"
_UNITS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512)
"""Layers that are tried, each about a half or a third wider than the one before."""
_NARROWEST_PAIR = 4
"""Units of two layers at least: through fewer, nothing gets that one layer would not do."""


@dataclass(frozen=True)
class Score:
    """How a size did at one rung.

    Attributes:
        hidden: Hidden layers.
        parameters: Parameters that act.
        rung: From 1; `LAST` is that of the final fits.
        gradient_steps: Of its fits at this rung.
        returns: Of its episodes in the validation, in seed order.
        decision: Of the comparison with the teacher on them.
        score: Of the same: how far the worse part is from being lost, in margins.
    """

    hidden: tuple[int, ...]
    parameters: int
    rung: int
    gradient_steps: int
    returns: list[float]
    decision: str
    score: float

    def row(self) -> dict[str, Any]:
        """What `result.json` says of it."""
        figures = scores(self.returns)
        del figures["returns"]
        return {
            "hidden": list(self.hidden),
            "parameters": self.parameters,
            **figures,
            "score": self.score,
            "holds": self.decision == "non-inferior",
            "decision": self.decision,
            "rung": self.rung,
            "episodes": len(self.returns),
        }


class _Book:
    """The scores so far, kept in the run folder with what they cost; what is in it need not be measured again."""

    def __init__(self, run: Run, validation: Validation) -> None:
        self._run = run
        self._validation = validation
        self.scores: dict[tuple[int, tuple[int, ...]], Score] = {}
        if run.folder.holds_file(_FILE):
            with run.folder.reading(_FILE):
                self._read(run.folder)

    def add(self, score: Score) -> Score:
        """Keep a score."""
        self.scores[score.rung, score.hidden] = score
        teacher, random = self._validation.played()
        self._run.folder.write_json(
            _FILE,
            {
                "scores": [asdict(score) for score in self.scores.values()],
                "teacher": teacher,
                "random": random,
                "counts": self._run.costs.counts,
            },
        )
        return score

    def front(self) -> list[Score]:
        """Each size at the last rung that it reached, the smallest first."""
        furthest: dict[tuple[int, ...], Score] = {}
        for score in sorted(self.scores.values(), key=lambda score: score.rung):
            furthest[score.hidden] = score
        return sorted(furthest.values(), key=lambda score: score.parameters)

    def _read(self, folder: RunFolder) -> None:
        known = folder.read_json(_FILE)
        for row in known["scores"]:
            # JSON has no tuples, and a list cannot be looked up.
            row["hidden"] = tuple(row["hidden"])
            score = Score(**row)
            self.scores[score.rung, score.hidden] = score
        self._validation.restore(known["teacher"], known["random"])
        self._run.costs.counts.update(known["counts"])


class SizeSearch(FinalFits):
    """The strategy of `--search-size`: rounds, then the smallest size whose student the verdict calls non-inferior."""

    def check(self, config: DistillConfig) -> None:
        """Refuse a search over what a student has not."""
        if config.student == "tree":
            raise KDError("--search-size searches over hidden layers, and a tree has none; its size is --leaves")

    def final_fit(self, rounds: Rounds) -> Fitted:
        """The smallest size that is non-inferior; where none is, the largest.

        Args:
            rounds: The rounds so far; final fits add theirs.
        """
        run = rounds.run
        validation = Validation(run)
        book = _Book(run, validation)
        verdicts = []
        for hidden in _finalists(rounds, validation, book):
            rounds.runs = [run.planned(hidden=hidden)]
            best = final_fits(rounds, [validation], name=f"best-{_name(hidden)}", patience=PATIENCE)
            score = book.add(_final_score(run, hidden, best, validation.decision(best.returns)))
            run.reporter.say(
                f"size {_name(hidden)}: {score.parameters} parameters, validation {np.mean(score.returns):.1f}, "
                f"{score.decision}"
            )
            # The verdict costs more episodes than the validation: what is known to be inferior does not get one, but
            # for the largest, because a search ends with a student and a verdict.
            if score.decision == "inferior" and hidden != run.plan.hidden:
                continue
            result = judge_student(rounds.run, best.student)
            verdicts.append({"hidden": list(hidden), "decision": result["verdict"]["decision"]})
            if result["verdict"]["non_inferior"]:
                break
        search = {"chosen": list(hidden), "front": [score.row() for score in book.front()], "judged": verdicts}
        run.reporter.say(table(search))
        return Fitted(rounds.run, best.student, best.score, result, {"search": search})


def ladder(run: Run, first: Rollout) -> list[tuple[int, ...]]:
    """The candidates, the smallest first: linear, one layer, two equal layers, and last the run's own size.

    Args:
        run: The run.
        first: Its first round.
    """
    top = run.plan.hidden
    shapes: list[tuple[int, ...]] = [()]
    shapes += [(units,) for units in _UNITS]
    shapes += [(units, units) for units in _UNITS if units >= _NARROWEST_PAIR]
    size: dict[tuple[int, ...], int] = {}
    for hidden in (*shapes, top):
        size[hidden] = build_student(run.planned(hidden=hidden), first, 0).policy().num_parameters
    # Counted and not guessed: it depends on observations and head which of two shapes is the smaller.
    smaller = [hidden for hidden in size if size[hidden] < size[top]]
    return [*sorted(smaller, key=size.__getitem__), top]


def survivors(field: Sequence[Score]) -> list[Score]:
    """The sizes that go on, the smallest first; at most half of them are dropped, and never the largest.

    Dropped are those that a smaller one equals or beats, first those of them that are shown to be inferior,
    then the others, the largest first; then, the worst first, what is shown to be inferior otherwise.

    Args:
        field: The scores of one rung, the smallest size first.
    """
    *candidates, _ = field
    dominated = set()
    for place, score in enumerate(candidates):
        smaller = candidates[:place]
        if any(other.score >= score.score for other in smaller):
            dominated.add(score.hidden)

    def _order(score: Score) -> tuple[int, float]:
        if score.hidden not in dominated:
            return (2, score.score)
        if score.decision == "inferior":
            return (0, score.score)
        return (1, -score.parameters)

    # The last of the field is never a candidate: the run's own size is what all others are measured against.
    useless = [score for score in candidates if score.hidden in dominated or score.decision == "inferior"]
    dropped = sorted(useless, key=_order)[: len(field) // 2]
    return [score for score in field if score not in dropped]


def table(search: dict[str, Any]) -> str:
    """The front in lines."""
    lines = [f"{'hidden':>8} {'parameters':>10} {'mean':>8}  95 % interval, episodes of the validation"]
    for row in search["front"]:
        low, high = row["mean_ci"]
        stage = f"rung {row['rung']}"
        if row["rung"] == LAST:
            stage = "final fit"
        mark = ""
        if row["hidden"] == search["chosen"]:
            mark = "  <- chosen"
        lines.append(
            f"{_name(row['hidden']):>8} {row['parameters']:>10,} {row['mean']:>8.1f}  [{low:.1f}, {high:.1f}], "
            f"{row['episodes']}, {row['decision']} at {stage}{mark}"
        )
    return "\n".join(lines)


def _finalists(rounds: Rounds, validation: Validation, book: _Book) -> list[tuple[int, ...]]:
    """What the rungs leave, the smallest first."""
    run = rounds.run
    # Those of the budget alone: a search that goes on has read further rounds too, and must measure the same.
    data = rounds.data[0][: run.plan.rounds]
    field = ladder(run, data[0])
    for rung in range(1, LAST):
        scores = []
        for hidden in field:
            known = book.scores.get((rung, hidden))
            scores.append(known or book.add(_measured(run, data, validation, hidden, rung)))
        field = [score.hidden for score in survivors(scores)]
        run.reporter.say(
            f"rung {rung} of {RUNGS} ({scores[0].gradient_steps} gradient steps, "
            f"{len(scores[0].returns)} episodes): {len(field)} of {len(scores)} sizes go on: "
            f"{', '.join(map(_name, field))}"
        )
    return field


def _measured(run: Run, data: Sequence[Rollout], validation: Validation, hidden: tuple[int, ...], rung: int) -> Score:
    """Fit one size and give it a short validation; each rung doubles both."""
    steps = max(1, run.plan.final_steps >> (LAST - rung))
    episodes = max(1, run.plan.exam_episodes >> (LAST - rung))
    sized = run.planned(hidden=hidden)
    name = f"size {_name(hidden)}, rung {rung}"
    student = build_student(sized, data[0], rung)
    fit(sized, student, data, name=name, steps=steps, seed=run.seed("fit", rung))
    policy = student.policy()
    returns = validation.episodes.play(policy, name, episodes)
    verdict = validation.verdict(returns, error=VALIDATION.late)
    return Score(hidden, policy.num_parameters, rung, steps, returns, verdict.decision, verdict.score)


def _final_score(run: Run, hidden: tuple[int, ...], best: Attempt, decision: str) -> Score:
    steps = best.tried * run.plan.final_steps
    parameters = best.student.policy().num_parameters
    return Score(hidden, parameters, LAST, steps, list(best.returns), decision, best.score)


def _name(hidden: Sequence[int]) -> str:
    return "x".join(map(str, hidden)) or "linear"
