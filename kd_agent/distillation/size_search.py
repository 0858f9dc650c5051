"""The smallest student that is still non-inferior, and the whole front of size and score.

Successive halving (Jamieson and Talwalkar 2016): every size gets a short fit and a few episodes, the field is at
most halved, the others get twice as much. What is sought is not the best score, so that a size is dropped where a
smaller one does at least as well, or where it is shown to be inferior. The sizes that are left get last fits in
earnest, the smallest first, and those that these do not show to be inferior the verdict, until it is "non-inferior".
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from stable_baselines3.common.vec_env import VecEnv

from kd_agent.distillation.final_fits import Attempt, Exam, last_fits
from kd_agent.distillation.fitting import build_student, fit
from kd_agent.errors import KDError
from kd_agent.evaluation import iqm, iqm_interval
from kd_agent.networks import Student
from kd_agent.rollouts import Rollout
from kd_agent.runs import RunFolder
from kd_agent.runs.record import Session
from kd_agent.settings import DistillConfig

Judged = Callable[[Session, Student], dict[str, Any]]
"""Saves a student and judges it: the content of `result.json` without its costs."""

RUNGS = 3
LAST = RUNGS + 1
"""The number of the rung that stands for the last fits."""
PATIENCE = 3
"""Last fits in a row, none of them better than the best before, after which a size is given up."""
_FILE = "front.json"
_UNITS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512)
_NARROWEST_PAIR = 4


@dataclass(frozen=True)
class Score:
    """How a size did at one rung.

    Attributes:
        hidden: Hidden layers.
        parameters: Parameters that act.
        rung: From 1; `LAST` is that of the last fits.
        gradient_steps: Of its fits at this rung.
        returns: Of its episodes in the exam, in seed order.
        decision: Of the comparison with the teacher on them.
    """

    hidden: tuple[int, ...]
    parameters: int
    rung: int
    gradient_steps: int
    returns: list[float]
    decision: str

    @property
    def iqm(self) -> float:
        """The score."""
        return float(iqm(self.returns))

    def row(self) -> dict[str, Any]:
        """What `result.json` says of it."""
        return {"hidden": list(self.hidden), "parameters": self.parameters, "iqm": self.iqm,
                "iqm_ci": list(iqm_interval(self.returns)), "holds": self.decision == "non-inferior",
                "decision": self.decision, "rung": self.rung, "episodes": len(self.returns)}  # fmt: skip


class _Book:
    """The scores so far, kept in the run folder; what is in it need not be measured again."""

    def __init__(self, folder: RunFolder) -> None:
        self._folder = folder
        known = folder.read_json(_FILE)["scores"] if (folder.path / _FILE).is_file() else []
        self.scores = {(row["rung"], tuple(row["hidden"])): Score(**row | {"hidden": tuple(row["hidden"])})
                       for row in known}  # fmt: skip

    def add(self, score: Score) -> Score:
        """Keep a score."""
        self.scores[score.rung, score.hidden] = score
        self._folder.write_json(_FILE, {"scores": [asdict(score) for score in self.scores.values()]})
        return score

    def front(self) -> list[Score]:
        """Each size at the last rung that it reached, the smallest first."""
        furthest = {hidden: score for (_, hidden), score in sorted(self.scores.items(), key=lambda item: item[0][0])}
        return sorted(furthest.values(), key=lambda score: score.parameters)

    def gradient_steps(self) -> int:
        """Of all fits."""
        return sum(score.gradient_steps for score in self.scores.values())


def check_search(config: DistillConfig) -> None:
    """Refuse a search over what a student has not."""
    if config.search_size and config.student == "tree":
        raise KDError("--search-size searches over hidden layers, and a tree has none; its size is --leaves")


def search_size(
    run: Session, env: VecEnv, rollouts: list[Rollout], exam: Exam, judged: Judged
) -> tuple[Session, dict[str, Any], int]:
    """Find the smallest size whose student the verdict calls non-inferior; else take the largest.

    Args:
        run: The run; its hidden layers are the largest size.
        env: Where rounds are collected.
        rollouts: The rounds so far; the last fits append theirs.
        exam: Episodes of teacher and students, none of them the verdict's.
        judged: Gives the verdict.

    Returns:
        The run with the size that was chosen, its result with the key `search`, and the gradient steps.
    """
    book, verdicts = _Book(run.folder), []
    for hidden in _finalists(run, rollouts, exam, book):
        sized = _resized(run, hidden)
        best = last_fits(sized, env, rollouts, exam, name=f"best-{_name(hidden)}", patience=PATIENCE)
        score = book.add(_last(run, hidden, best, exam.decision(best)))
        run.reporter.say(f"size {_name(hidden)}: {score.parameters} parameters, exam {score.iqm:.1f}, {score.decision}")
        if score.decision == "inferior" and hidden != run.config.hidden:
            continue
        result = judged(sized, best.student)
        verdicts.append({"hidden": list(hidden), "decision": result["verdict"]["decision"]})
        if result["verdict"]["non_inferior"]:
            break
    result["search"] = {"chosen": list(hidden), "front": [s.row() for s in book.front()], "judged": verdicts}
    run.reporter.say(table(result["search"]))
    return sized, result, book.gradient_steps()


def ladder(run: Session, first: Rollout) -> list[tuple[int, ...]]:
    """The candidates, the smallest first: linear, one layer, two equal layers, and last the run's own size."""
    top = run.config.hidden
    assert top is not None, "a session's settings are settled"
    shapes: Iterable[tuple[int, ...]] = [(), *((u,) for u in _UNITS), *((u, u) for u in _UNITS if u >= _NARROWEST_PAIR)]
    size = {h: build_student(_resized(run, h), first, 0).policy().num_parameters for h in (*shapes, top)}
    return [*sorted((h for h in size if size[h] < size[top]), key=size.__getitem__), top]


def survivors(field: Sequence[Score]) -> list[Score]:
    """The sizes that go on, the smallest first; at most half of them are dropped, and never the largest.

    Dropped are those that a smaller one equals or beats, first those of them that are shown to be inferior,
    then the others, the largest first; then, the worst first, what is shown to be inferior otherwise.

    Args:
        field: The scores of one rung, the smallest size first.
    """
    *candidates, _ = field
    dominated = {s.hidden for n, s in enumerate(candidates) if any(t.iqm >= s.iqm for t in candidates[:n])}

    def order(score: Score) -> tuple[int, float]:
        inferior = score.decision == "inferior"
        if score.hidden in dominated:
            return (0, score.iqm) if inferior else (1, -score.parameters)
        return (2, score.iqm)

    useless = [s for s in candidates if s.hidden in dominated or s.decision == "inferior"]
    dropped = sorted(useless, key=order)[: len(field) // 2]
    return [score for score in field if score not in dropped]


def table(search: dict[str, Any]) -> str:
    """The front in lines."""
    lines = [f"{'hidden':>8} {'parameters':>10} {'IQM':>8}  95 % interval, episodes of the exam"]
    for row in search["front"]:
        low, high = row["iqm_ci"]
        stage = "last fit" if row["rung"] == LAST else f"rung {row['rung']}"
        mark = "  <- chosen" if row["hidden"] == search["chosen"] else ""
        lines.append(f"{_name(row['hidden']):>8} {row['parameters']:>10,} {row['iqm']:>8.1f}  [{low:.1f}, {high:.1f}], "
                     f"{row['episodes']}, {row['decision']} at {stage}{mark}")  # fmt: skip
    return "\n".join(lines)


def _finalists(run: Session, rollouts: Sequence[Rollout], exam: Exam, book: _Book) -> list[tuple[int, ...]]:
    """What the rungs leave, the smallest first."""
    rounds = rollouts[: run.effort.rounds]
    field = ladder(run, rounds[0])
    for rung in range(1, LAST):
        scores = [
            book.scores.get((rung, hidden)) or book.add(_measured(run, rounds, exam, hidden, rung)) for hidden in field
        ]
        field = [score.hidden for score in survivors(scores)]
        run.reporter.say(f"rung {rung} of {RUNGS} ({scores[0].gradient_steps} gradient steps, "
                         f"{len(scores[0].returns)} episodes): {len(field)} of {len(scores)} sizes go on: "
                         f"{', '.join(map(_name, field))}")  # fmt: skip
    return field


def _measured(run: Session, rounds: Sequence[Rollout], exam: Exam, hidden: tuple[int, ...], rung: int) -> Score:
    """Fit one size and let it sit a short exam; each rung doubles both."""
    steps, episodes = (max(1, total >> (LAST - rung)) for total in (run.effort.final_steps, run.effort.exam_episodes))
    sized, name = _resized(run, hidden), f"size {_name(hidden)}, rung {rung}"
    student = build_student(sized, rounds[0], rung)
    fit(sized, student, rounds, name=name, steps=steps, seed=run.config.seed * 1_000 + rung)
    policy = student.policy()
    returns = exam.arena.play(policy, name, episodes)
    return Score(hidden, policy.num_parameters, rung, steps, returns, exam.verdict(returns, looks=RUNGS).decision)


def _last(run: Session, hidden: tuple[int, ...], best: Attempt, decision: str) -> Score:
    steps = best.tried * run.effort.final_steps
    return Score(hidden, best.student.policy().num_parameters, LAST, steps, list(best.returns), decision)


def _resized(run: Session, hidden: tuple[int, ...]) -> Session:
    return replace(run, config=replace(run.config, hidden=hidden))


def _name(hidden: Sequence[int]) -> str:
    return "x".join(map(str, hidden)) or "linear"
