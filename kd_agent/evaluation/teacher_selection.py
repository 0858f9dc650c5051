"""Teacher selection: what each of several teachers is worth, examined before the first round.

The seeds of its episodes are neither those of the data nor those of the validation or the verdict.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from kd_agent.evaluation.comparison import Episodes
from kd_agent.evaluation.non_inferiority import compare
from kd_agent.networks import Teacher
from kd_agent.runs import TEACHER_FILE, Reporter, Run
from kd_agent.teachers import EnsembleTeacher

SELECTION_SEED = 5_000
EPISODES = 48
"""Of each teacher: three for each of the 16 environments that play side by side."""


def select_teachers(run: Run) -> Teacher:
    """A run's teacher, under the weights that it deserves where it is several: others stay as they are.

    A teacher that is inferior to the best by the rule of the verdict (`non_inferiority.compare`, its level shared
    among all that are held against the best) gets weight 0, the others weigh alike. A resumed run goes on
    with the weights that it was begun with.
    """
    teacher = run.teacher
    if not isinstance(teacher, EnsembleTeacher):
        return teacher
    if run.config.resume:
        known = run.folder.read_json(TEACHER_FILE)
        if known.get("sha256") != teacher.origin.sha256:
            # Other teachers than it was begun with: `remember` refuses them, with the reason.
            return teacher
        with run.folder.reading(TEACHER_FILE):
            steps = int(known["gate_steps"])
            weighed = teacher.with_weights(known["teachers"], steps)
        run.costs.add("selection_steps", steps)
        return weighed
    if not run.config.teacher_gate:
        return teacher
    episodes = Episodes.of(run, first_seed=SELECTION_SEED, stage="teacher selection:", purpose="selection_steps")
    return TeacherSelection(episodes, run.config.margin, run.reporter).weigh(teacher)


class TeacherSelection:
    """Episodes that all teachers play on the same seeds.

    Args:
        episodes: The episodes.
        margin: Loss that counts as none, as a share of |best - random|.
        reporter: Says what each is worth.
    """

    def __init__(self, episodes: Episodes, margin: float, reporter: Reporter) -> None:
        self._episodes = episodes
        self._margin = margin
        self._reporter = reporter

    def weigh(self, ensemble: EnsembleTeacher) -> EnsembleTeacher:
        """The teachers under weights by what they earned."""
        returns = []
        for teacher in ensemble.teachers:
            returns.append(self._episodes.play(teacher, teacher.origin.source, EPISODES))
        random = self._episodes.play(None, "the random policy", EPISODES)
        verdicts = decisions(returns, random, self._margin)
        selected = len(verdicts) - verdicts.count("inferior")
        records = []
        for record, scores, verdict in zip(ensemble.origin.teachers, returns, verdicts, strict=True):
            weight = 1 / selected
            if verdict == "inferior":
                weight = 0.0
            figures = {"mean": float(np.mean(scores)), "verdict": verdict, "episodes": EPISODES, "weight": weight}
            records.append({**record, **figures})
        self._report(records)
        self._compare_together(ensemble.with_weights(records), returns, random)
        # Only now: what they played together is among the steps.
        return ensemble.with_weights(records, self._episodes.steps)

    def _report(self, records: Sequence[Mapping[str, Any]]) -> None:
        for record in records:
            why = ""
            if record["verdict"] == "inferior":
                why = ", inferior to the best: it is left out"
            self._reporter.say(
                f"teacher {record['source']}: mean {record['mean']:.1f} in {EPISODES} episodes, "
                f"weight {record['weight']:.2g}{why}"
            )

    def _compare_together(self, ensemble: EnsembleTeacher, returns: Sequence[list[float]], random: list[float]) -> None:
        """Say so where those who are selected do worse together than the best of them alone."""
        if len(ensemble.members) < 2:
            return
        # Each may be good and their mixture bad: two ways around an obstacle average to a collision.
        name = f"{ensemble.combine} of {len(ensemble.members)} teachers"
        together = self._episodes.play(ensemble, name, EPISODES)
        best = max(returns, key=np.mean)
        verdict = compare(best, together, random, margin=self._margin)
        self._reporter.say(f"{name}: mean {np.mean(together):.1f}")
        if verdict.decision == "inferior":
            self._reporter.say(
                f"WARNING: together the teachers are worse than the best alone (mean {np.mean(best):.1f}): "
                "try another --combine, or that teacher by itself"
            )


def decisions(returns: Sequence[list[float]], random: list[float], margin: float) -> list[str]:
    """Each teacher's verdict against the best: "best", "non-inferior", "inferior" or "undecided".

    Args:
        returns: Of each teacher, on the same seeds.
        random: Returns of the random policy.
        margin: Loss that counts as none, as a share of |best - random|.
    """
    best = max(range(len(returns)), key=lambda index: float(np.mean(returns[index])))
    # The best is chosen by the same returns and compared with all the others: they share the error.
    looks = max(1, len(returns) - 1)
    found = []
    for index, scores in enumerate(returns):
        if index == best:
            found.append("best")
        else:
            found.append(compare(returns[best], scores, random, margin=margin, looks=looks).decision)
    return found
