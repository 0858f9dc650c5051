"""The gate before the first round: what each of several teachers is worth, and who is heard.

The seeds of its episodes are neither those of the data nor those of an exam or the verdict.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from kd_agent.environments import Recipe
from kd_agent.evaluation.comparison import Arena
from kd_agent.evaluation.statistics import compare, iqm
from kd_agent.networks import Teacher
from kd_agent.runs import Reporter, RunFolder
from kd_agent.settings import DistillConfig
from kd_agent.teachers import EnsembleTeacher

GATE_SEED = 5_000
EPISODES = 48


def weighed(
    teacher: Teacher, config: DistillConfig, recipe: Recipe, folder: RunFolder, reporter: Reporter
) -> Teacher:  # fmt: skip
    """A teacher with the weights that it deserves: several that are one are examined, others stay as they are.

    A teacher that is inferior to the best by the rule of the verdict (`statistics.compare`, its level shared
    among all that are held against the best) gets weight 0, the others weigh alike. A resumed run goes on
    with the weights that it was begun with.
    """
    if not isinstance(teacher, EnsembleTeacher):
        return teacher
    if config.resume:
        known = folder.read_json("teacher.json")
        same = known.get("sha256") == teacher.origin.sha256
        return teacher.with_weights(known["teachers"], known["gate_steps"]) if same else teacher
    return Gate(config, recipe, reporter).weigh(teacher) if config.teacher_gate else teacher


class Gate:
    """Episodes that all teachers play on the same seeds."""

    def __init__(self, config: DistillConfig, recipe: Recipe, reporter: Reporter) -> None:
        self._arena = Arena(recipe, first_seed=GATE_SEED, reporter=reporter, stage="gate:")
        self._margin, self._reporter = config.margin, reporter

    def weigh(self, ensemble: EnsembleTeacher) -> EnsembleTeacher:
        """The teachers under weights by what they earned."""
        origins = [teacher.origin for teacher in ensemble.teachers]
        returns = [
            self._arena.play(teacher, origin.source, EPISODES)
            for teacher, origin in zip(ensemble.teachers, origins, strict=True)
        ]
        chance = self._arena.play(None, "the random policy", EPISODES)
        verdicts = judged(returns, float(iqm(chance)), self._margin)
        heard = sum(verdict != "inferior" for verdict in verdicts)
        records = [
            {**record, "iqm": float(iqm(scores)), "verdict": verdict, "episodes": EPISODES,
             "weight": 0.0 if verdict == "inferior" else 1 / heard}
            for record, scores, verdict in zip(ensemble.origin.teachers, returns, verdicts, strict=True)
        ]  # fmt: skip
        self._report(records)
        self._check_together(ensemble.with_weights(records), returns, float(iqm(chance)))
        return ensemble.with_weights(records, self._arena.steps)

    def _report(self, records: Sequence[Mapping[str, Any]]) -> None:
        for record in records:
            why = ", inferior to the best: it is not heard" if record["verdict"] == "inferior" else ""
            self._reporter.say(f"teacher {record['source']}: IQM {record['iqm']:.1f} in {EPISODES} episodes, "
                               f"weight {record['weight']:.2g}{why}")  # fmt: skip

    def _check_together(self, ensemble: EnsembleTeacher, returns: Sequence[list[float]], chance: float) -> None:
        """Say so where those who are heard do worse together than the best of them alone."""
        if len(ensemble.members) < 2:
            return
        together = self._arena.play(ensemble, f"{ensemble.combine} of {len(ensemble.members)} teachers", EPISODES)
        best = max(returns, key=iqm)
        verdict = compare(best, together, chance, margin=self._margin)
        self._reporter.say(f"{ensemble.combine} of {len(ensemble.members)} teachers: IQM {iqm(together):.1f}")
        if verdict.decision == "inferior":
            self._reporter.say(f"WARNING: together the teachers are worse than the best alone (IQM {iqm(best):.1f}): "
                               "try another --combine, or that teacher by itself")  # fmt: skip


def judged(returns: Sequence[list[float]], chance: float, margin: float) -> list[str]:
    """Each teacher's verdict against the best: "best", "non-inferior", "inferior" or "undecided"."""
    best = max(range(len(returns)), key=lambda index: float(iqm(returns[index])))
    looks = max(1, len(returns) - 1)
    return [
        "best" if index == best else compare(returns[best], scores, chance, margin=margin, looks=looks).decision
        for index, scores in enumerate(returns)
    ]
