"""Real-time distillation: the student follows a teacher that is still being trained, checkpoint by checkpoint.

At each of the teacher's evaluations the student plays, the policy of that moment labels what it visits, and older
states out of a reservoir anew; so the labels follow the teacher. When its training ends, one more fit is left to do.
"""

import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from stable_baselines3.common.vec_env import VecEnv
from torch.utils.tensorboard import SummaryWriter

from kd_agent.distillation.dagger import EXTRA, keep_round, steps_of
from kd_agent.distillation.final_fits import Exam
from kd_agent.distillation.fitting import build_student, fit, fit_all
from kd_agent.environments import Recipe
from kd_agent.environments.vector import make_env
from kd_agent.errors import KDError
from kd_agent.evaluation import along, iqm
from kd_agent.networks import Student, Teacher
from kd_agent.policies import ObservationSpec
from kd_agent.ppo.teacher import CHECK_SEED, save
from kd_agent.rollouts import Reservoir, Rollout, collect, evaluate, flat, labelled
from kd_agent.runs import Reporter, RunFolder
from kd_agent.runs.plan import effort, settled
from kd_agent.runs.record import Session
from kd_agent.settings import DistillConfig
from kd_agent.teachers import load_named

FOLLOWED = "followed"
"""Name of the follower's attempt in the run folder."""
_TIMELINE = "realtime.json"


def check_realtime(config: DistillConfig, given: Teacher | None) -> None:
    """Refuse what cannot be distilled while its teacher is being trained."""
    if not config.realtime:
        return
    if given:
        raise KDError("--realtime follows a teacher in training, and this one is finished: leave --teacher out")
    if config.student in ("gru", "tree"):
        raise KDError(f"--realtime fits one student on and on to single states, which a {config.student} is not "
                      "fitted by; take --student mlp or cnn")  # fmt: skip
    if config.search_size or config.temperature == "auto":
        name = "--search-size" if config.search_size else "--temperature auto"
        raise KDError(f"--realtime and {name} do not go together: the teacher to measure by is not there yet")


class Follower:
    """A student that follows a teacher in training; `kd_agent.ppo.teacher` calls it after each evaluation.

    Args:
        config: The settings of the distillation.
        recipe: The student's environment.
        seen: What the student sees of an observation, by key.
        spaces: Observation and action space of that environment.
        folder: The run folder.
        reporter: Says how far it is.

    Attributes:
        student: The student; None before the first checkpoint.
        timeline: A row for each checkpoint.
        env_steps: Labelled environment steps.
        gradient_steps: Of all fits.
        seconds: Wall-clock time that following took, of the teacher's training.
    """

    def __init__(
        self, config: DistillConfig, recipe: Recipe, seen: Mapping[str, ObservationSpec], spaces: Any,
        *, folder: RunFolder, reporter: Reporter,
    ) -> None:  # fmt: skip
        self._config, self._recipe, self._seen, self._spaces = config, recipe, seen, spaces
        self._folder, self._reporter = folder, reporter
        self._reservoir: Reservoir | None = None
        self._first: Rollout | None = None
        self.student: Student | None = None
        self.timeline: list[dict[str, float]] = []
        if config.resume and (folder.path / _TIMELINE).is_file():
            self.timeline = folder.read_json(_TIMELINE)["realtime"]
        self.env_steps, self.gradient_steps, self.seconds = 0, 0, 0.0

    def __call__(self, model: Any, env: VecEnv, score: float) -> None:
        """Follow the model as it is now, which has just been evaluated at `score`."""
        started = time.monotonic()
        with SummaryWriter(str(self._folder.path)) as events:
            run = self._session(self._present(model, env), events)
            row = {"env_steps": model.num_timesteps, "teacher_iqm": score, **self._lesson(run)}
            for name, value in row.items():
                events.add_scalar(f"realtime/{name}", value, model.num_timesteps)
        self.timeline.append(row)
        self._folder.write_json(_TIMELINE, {"realtime": self.timeline})
        self._reporter.say(f"realtime: {row['env_steps']:,} steps, teacher {score:.1f}, student "
                           f"{row['student_iqm']:.1f}, agreement {row['agreement']:.1%}")  # fmt: skip
        self.seconds += time.monotonic() - started

    def hand_over(self, run: Session, exam: Exam) -> list[Rollout]:
        """The last fit, to the finished teacher, and its exam: the first attempt, kept as `FOLLOWED`.

        Returns:
            The states followed along, with the finished teacher's labels: the first round, then the reservoir.
        """
        assert self.student, "there was a checkpoint"
        assert self._first, "there was a checkpoint"
        assert self._reservoir, "there was a checkpoint"
        layer = run.config.teacher_layer
        rollouts = [labelled(flat(self._first), run.teacher, layer), self._reservoir.labelled(run.teacher, layer)]
        for number, rollout in enumerate(rollouts):
            keep_round(run.folder, number, rollout)
        fit_all(run, self.student, rollouts, name="last fit", steps=run.effort.final_steps, number=run.effort.rounds)
        run.folder.save_arrays(FOLLOWED, exam.grade(self.student, 0, None).arrays())
        return rollouts

    def _present(self, model: Any, env: VecEnv) -> Teacher:
        """The model as a teacher: its zip, read as any other."""
        path = self._folder.path / "checkpoint" / "present.zip"
        path.parent.mkdir(exist_ok=True)
        save(model, env, path)
        teacher = load_named(replace(self._config, teacher=(str(path),)), self._spaces)
        assert teacher
        return teacher

    def _session(self, teacher: Teacher, events: SummaryWriter) -> Session:
        config = settled(self._config, teacher, self._seen)
        cost, silent = effort(config, teacher, self._seen), Reporter(quiet=True)
        return Session(config, cost, self._recipe, self._seen, teacher, self._folder, silent, events)

    def _lesson(self, run: Session) -> dict[str, float]:
        """Collect, label anew, fit, and play the teacher's evaluation; the figures of the timeline."""
        config, number = run.config, len(self.timeline)
        rollout = self._collect(run, number)
        before = along(run.teacher, self.student.policy(), rollout).agreement if self.student else 0.0
        self._first = self._first or rollout
        self._reservoir = self._reservoir or Reservoir(run.effort.env_steps, config.seed)
        self._reservoir.add(flat(rollout))
        self.student = self.student or build_student(run, rollout, 0)
        states = self._reservoir.labelled(run.teacher, config.teacher_layer)
        fit(run, self.student, [states], name="", steps=run.effort.round_steps, seed=config.seed * 1_000 + number)
        self.env_steps += rollout.driver.size
        self.gradient_steps += run.effort.round_steps
        policy = self.student.policy()
        seeds = range(CHECK_SEED, CHECK_SEED + config.training.eval_episodes)
        return {
            "student_iqm": float(iqm(evaluate(policy, self._recipe, seeds=seeds).returns)),
            "agreement": along(run.teacher, policy, rollout).agreement,
            "agreement_before": before,
        }

    def _collect(self, run: Session, number: int) -> Rollout:
        """A round of states: the student's own, the teacher's before there is a student."""
        env = make_env(self._recipe, run.effort.n_envs)
        rollout = collect(
            env, run.teacher, self.student.policy() if self.student else None, beta=0.0,
            steps=steps_of(run, EXTRA),
            exploration=run.config.exploration, seed=(run.config.seed, number), layer=run.config.teacher_layer,
        )  # fmt: skip
        env.close()
        return rollout
