"""A distillation whose expensive parts are stand-ins that write down what reached them.

The loop itself is the package's own. All places where a stand-in is put are named in `SEAMS`, and nowhere else.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from samples import HEADS, PROBES, make_student

from kd_agent import distill
from kd_agent.losses import Objective
from kd_agent.networks import Origin, Student, Teacher
from kd_agent.policies.graph import PolicyGraph
from kd_agent.rollouts import Rollout
from kd_agent.rollouts.evaluate import Evaluation
from kd_agent.teachers import GraphTeacher

SEAMS = {
    "collect": "kd_agent.distillation.collecting.collect_on",
    "online collect": "kd_agent.distillation.online.collect_on",
    "fit": "kd_agent.learners.gradient.fit",
    "fit_jointly": "kd_agent.distillation.dagger.fit_jointly",
    "evaluate": "kd_agent.evaluation.comparison.evaluate",
    "compare": "kd_agent.evaluation.comparison.compare",
    "agreement states": "kd_agent.evaluation.agreement.play_whole_episodes",
    "agreement": "kd_agent.distillation.temperature.agreement_on",
    "episodes": "kd_agent.evaluation.agreement.EPISODES",
    "states": "kd_agent.evaluation.agreement.STATES",
    "bonus": "kd_agent.ppo.guided_policy.Guidance.bonus",
    "keeper": "kd_agent.ppo.training.evaluate",
    "report": "kd_agent.report.html.write",
    "say": "kd_agent.runs.reporter.Reporter.say",
    "clock": "kd_agent.runs.costs.time.monotonic",
    "train": "kd_agent.distillation.problem.train_named",
    "timing": "kd_agent.studies.compression.c_loop",
    "relation": "kd_agent.losses.relation.loss",
    "kl": "kd_agent.losses.kl.loss",
    "product": "kd_agent.teachers.combine.product.combine",
    "learn": "stable_baselines3.PPO.learn",
}
"""Where stand-ins are put: dotted paths of attributes."""


def original(seam: str) -> Any:
    """What stands at a seam now."""
    parts = SEAMS[seam].split(".")
    for length in range(len(parts) - 1, 0, -1):
        try:
            found: Any = import_module(".".join(parts[:length]))
        except ModuleNotFoundError:
            continue
        for name in parts[length:]:
            found = getattr(found, name)
        return found
    raise AssertionError(f"nothing stands at {SEAMS[seam]}")


class Stopped(BaseException):
    """Ends a run where a test has seen enough; no part of the package catches it."""


@dataclass
class Collected:
    """A round: what `collect` was told, and what it gave."""

    student: str | None
    teacher: Teacher
    n_envs: int
    told: dict[str, Any]
    rollout: Rollout
    policy: Any
    episodes: Any


@dataclass
class Fitted:
    """A fit: what the learner was told, and the student's weights before and after."""

    student: Student
    rollouts: list[Rollout]
    objective: Objective
    told: dict[str, Any]
    before: str
    after: str
    dropout: set[float]
    device: str


@dataclass
class Played:
    """Episodes: who played, on which seeds, where; `verdict` where the student came out of its file."""

    who: str | None
    seeds: list[int]
    env_id: str
    verdict: bool
    deterministic: bool = True


@dataclass
class Recorder:
    """Stands in for learner, episodes and report; a fit moves every weight by a little, so that it leaves a trace.

    Attributes:
        exam: What each new student earns in every episode of its validation, one after the other.
        verdict: What a student that came out of its file earns in an episode, by the episode's seed.
        teachers: What a teacher earns, by its fingerprint (others 100).
        sampled: What a teacher earns where it samples; None: the same.
        by_policy: What a student earns in validation and verdict, in place of the two above.
        stop_at_round: The call of `collect`, from 0, before which the run is stopped.
        stop_at_fit: Whether the first fit stops the run.
        trains: Whether a teacher may be trained, which takes long: else that is an error.
    """

    exam: Sequence[float] = ()
    verdict: Callable[[int], float] = lambda seed: 100.0
    teachers: dict[str, float] = field(default_factory=dict)
    sampled: float | None = None
    by_policy: Callable[[Any], float] | None = None
    stop_at_round: int | None = None
    stop_at_fit: bool = False
    trains: bool = False
    rounds: list[Collected] = field(default_factory=list)
    fits: list[Fitted] = field(default_factory=list)
    joint_fits: list[list[Fitted]] = field(default_factory=list)
    plays: list[Played] = field(default_factory=list)
    agreements: list[dict[str, Any]] = field(default_factory=list)
    reports: list[dict[str, Any]] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)
    result: dict[str, Any] = field(default_factory=dict)

    def install(self, patch: pytest.MonkeyPatch) -> None:
        """Put the stand-ins in their places."""
        collect = original("collect")
        for seam in ("collect", "online collect"):
            patch.setattr(SEAMS[seam], lambda *args, **told: self._collect(collect, *args, **told))
        patch.setattr(SEAMS["fit"], self._fit)
        patch.setattr(SEAMS["fit_jointly"], self._fit_jointly)
        patch.setattr(SEAMS["evaluate"], self._evaluate)
        play = original("agreement states")
        patch.setattr(SEAMS["agreement states"], lambda *args, **told: self._agreement(play, *args, **told))
        patch.setattr(SEAMS["report"], lambda folder, result: self.reports.append(dict(result)))
        patch.setattr(SEAMS["say"], lambda reporter, text: self.lines.append(text))
        patch.setattr(SEAMS["episodes"], 2)
        patch.setattr(SEAMS["states"], 32)
        if not self.trains:
            patch.setattr(SEAMS["train"], _must_not_train)

    def validations(self) -> list[Played]:
        """Episodes of students in training, in order."""
        return [play for play in self.plays if play.who in self._students() and not play.verdict]

    def verdicts(self) -> list[Played]:
        """Episodes of students that came out of their file."""
        return [play for play in self.plays if play.verdict]

    def on_seeds(self, first: int) -> list[Played]:
        """Episodes on the seeds from `first` on, up to the next thousands."""
        return [play for play in self.plays if first <= min(play.seeds) < first + 5_000]

    def _students(self) -> set[str]:
        together = [fit for joint in self.joint_fits for fit in joint]
        return {fit.after for fit in [*self.fits, *together]}

    def _collect(self, collect: Any, episodes: Any, teacher: Teacher, student: Any, **told: Any) -> Rollout:
        if len(self.rounds) == self.stop_at_round:
            raise Stopped
        rollout: Rollout = collect(episodes, teacher, student, **told)
        driver = fingerprint(student.graph) if student else None
        # As it was then: the list grows from round to round.
        told["before"] = list(told.get("before", ()))
        self.rounds.append(Collected(driver, teacher, episodes.env.num_envs, told, rollout, student, episodes))
        return rollout

    def _agreement(self, play: Any, env: Any, teacher: Teacher, student: Any, **told: Any) -> Any:
        self.agreements.append({**told, "teacher": teacher, "student": fingerprint(student.graph)})
        return play(env, teacher, student, **told)

    def _fit(self, student: Student, rollouts: Sequence[Rollout], objective: Objective, **told: Any) -> float:
        self.fits.append(moved(student, rollouts, objective, told))
        if self.stop_at_fit:
            raise Stopped
        return 0.5

    def _fit_jointly(self, students: Any, rollouts: Any, objectives: Any, **told: Any) -> float:
        before = [fingerprint(student.graph()) for student in students]
        joint = [moved(*parts, told) for parts in zip(students, rollouts, objectives, strict=True)]
        # A later student moves the layers that an earlier one shares with it.
        for fit, student, weights in zip(joint, students, before, strict=True):
            fit.before, fit.after = weights, fingerprint(student.graph())
        self.joint_fits.append(joint)
        return 0.5

    def _evaluate(
        self, player: Any, recipe: Any, *, seeds: Iterable[int], head: Any, deterministic: bool, advance: Any
    ) -> Evaluation:
        seeds = list(seeds)
        graph = getattr(player, "graph", None)
        who = fingerprint(graph) if graph else None
        is_teacher = isinstance(player, Teacher)
        verdict = bool(graph and graph.provenance and not is_teacher)
        self.plays.append(Played(who, seeds, recipe.env_id, verdict, deterministic))
        if player is None:
            earned = [0.0 for _ in seeds]
        elif is_teacher and not deterministic and self.sampled is not None:
            earned = [self.sampled for _ in seeds]
        elif is_teacher:
            earned = [self.teachers.get(str(who), 100.0) for _ in seeds]
        elif self.by_policy:
            earned = [self.by_policy(player) for _ in seeds]
        elif verdict:
            earned = [self.verdict(seed) for seed in seeds]
        else:
            examined = list(dict.fromkeys(play.who for play in self.validations()))
            earned = [self.exam[examined.index(who)] for _ in seeds]
        return Evaluation(np.array(earned), np.full(len(seeds), 10))


def _must_not_train(*told: Any) -> None:
    raise AssertionError("a teacher is trained though there is one")


def moved(student: Student, rollouts: Sequence[Rollout], objective: Objective, told: dict[str, Any]) -> Fitted:
    """Move a student's weights by a little, as a fit does, and write down all that is known of it."""
    device = str(next(student.parameters()).device)
    dropout = {module.p for module in student.modules() if isinstance(module, torch.nn.Dropout)}
    if device == "meta":
        return Fitted(student, list(rollouts), objective, told, "", "", dropout, device)
    before = fingerprint(student.graph())
    with torch.no_grad():
        for parameter in student.parameters():
            parameter.add_(0.01)
    return Fitted(student, list(rollouts), objective, told, before, fingerprint(student.graph()), dropout, device)


def fingerprint(graph: PolicyGraph) -> str:
    """A name for a program's weights; its normalisation does not count."""
    weights = [op.tensors["weight"] for op in graph.ops if op.kind == "linear"]
    return "".join(f"{float(np.abs(weight).sum()):.6f}/{float(weight.sum()):.6f};" for weight in weights)


def a_teacher(seed: int = 9, kind: str = "categorical") -> GraphTeacher:
    """A teacher of 6 and 5 units without a file."""
    graph = make_student(HEADS[kind], hidden=(6, 5), seed=seed).graph()
    return GraphTeacher(graph, Origin(f"teacher {seed}", f"{seed:064d}", "student", 1_000))


def layers(teacher: GraphTeacher) -> list[str]:
    """Names of a teacher's hidden layers, the first first."""
    return [op.output for op in teacher.graph.ops if op.kind == "activation"]


TEACHER = a_teacher()
ROUNDS, ATTEMPTS = 4, 4
SCORES = [10.0, 30.0, 20.0, 25.0]
"""Of the attempts in the exam: the second is the best, and none holds 100."""
OPEN = [77.0, 81.0, 78.0, 79.0]
"""The same, but so near to 80, which would be a loss of the margin, that all episodes are played."""
GIVEN: dict[str, Any] = {
    "env": PROBES["Discrete"], "quiet": True, "seed": 3, "env_steps": 64, "rounds": ROUNDS, "n_envs": 4,
    "beta_fraction": 0.5, "exploration": 0.25, "round_steps": 7, "final_steps": 11, "attempts": ATTEMPTS,
    "exam_episodes": 80, "batch_size": 13, "learning_rate": 0.017, "hidden": [7, 3], "dropout": 0.3, "l2": 0.02,
    "loss": {"kl": 0.75, "relation": 0.5}, "temperature": 2.5, "convention": "rusu", "activation": "tanh",
    "teacher_layer": layers(TEACHER)[0], "student_layer": "hidden.0", "episodes": 60, "max_episodes": 90, "margin": 0.2,
}  # fmt: skip
"""No setting has its default."""


def wavering(seed: int) -> float:
    """A return about which the verdict stays undecided."""
    return 120.0 if seed % 2 else 40.0


def recorded(
    folder: Path, recorder: Recorder | None = None, *, taught_by: Teacher | None = TEACHER, **more: Any
) -> Recorder:
    """What reached the stand-ins in a run under `GIVEN` and more."""
    recorder = recorder or Recorder(SCORES, wavering)
    with pytest.MonkeyPatch.context() as patch:
        recorder.install(patch)
        recorder.result = distill({**GIVEN, "out": str(folder), **more}, teacher=taught_by)
    return recorder
