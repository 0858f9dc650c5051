"""Real-time distillation: the student follows a teacher that is still being trained, checkpoint by checkpoint.

At each of the teacher's evaluations the student plays, the policy of that moment labels what it visits, and older
states out of a reservoir anew; so the labels follow the teacher. When its training ends, one more fit is left to do.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from stable_baselines3.common.vec_env import VecEnv

from kd_agent.distillation.collecting import EXTRA, running_episodes, steps_of_round
from kd_agent.distillation.dagger import Rounds, collect_rounds
from kd_agent.distillation.final_fits import BEST, FinalFits, final_fits, grade, keep_best
from kd_agent.distillation.fitting import build_student, fit
from kd_agent.distillation.outcome import Fitted
from kd_agent.distillation.validation import Validation
from kd_agent.errors import KDError
from kd_agent.evaluation import agreement_on, iqm
from kd_agent.networks import Student, Teacher
from kd_agent.ppo.training import CHECK_SEED, save
from kd_agent.rollouts import Reservoir, Rollout, RunningEpisodes, collect_on, evaluate, flat, labelled
from kd_agent.runs import Reporter, Run, RunFolder
from kd_agent.settings import DistillConfig

FOLLOWED = "followed"
"""Name of the follower's attempt in the run folder."""
TIMELINE_FILE = "realtime.json"


class Online(FinalFits):
    """The strategy of `--realtime`: there are no rounds of its own, the student has followed the teacher's training.

    Where the teacher was trained earlier there was nothing to follow, and it is taught from as any other.
    """

    def __init__(self) -> None:
        self._follower: Follower | None = None

    def check(self, config: DistillConfig) -> None:
        """Refuse what cannot be distilled while its teacher is being trained."""
        if config.teacher:
            raise KDError("--realtime follows a teacher in training, and this one is finished: leave --teacher out")
        if config.student in ("gru", "tree"):
            raise KDError(
                f"--realtime fits one student on and on to single states, which a {config.student} is not "
                "fitted by; take --student mlp or cnn"
            )
        if config.sampled:
            raise KDError("--realtime follows a teacher by its greedy evaluations: leave --sampled out")
        measured = {"--search-size": config.search_size, "--temperature auto": config.temperature == "auto"}
        for name, asked in measured.items():
            if asked:
                raise KDError(f"--realtime and {name} do not go together: the teacher to measure by is not there yet")

    def watch(
        self, folder: RunFolder, run_with: Callable[[Teacher], Run], load: Callable[[Path], Teacher]
    ) -> "Follower":
        """Who is shown the teacher after each of its evaluations.

        Args:
            folder: The run folder.
            run_with: Makes the run for the teacher of the moment.
            load: Reads the teacher of the moment from its zip.
        """
        self._follower = Follower(folder, run_with, load)
        return self._follower

    def collect(self, run: Run) -> Rounds:
        """The states that were followed along, under the finished teacher's labels."""
        # Labels of the teachers on the way are worth nothing now: the finished one is asked about every state.
        if self._follower and self._follower.student:
            self._follower.close()
            rounds = Rounds([run])
            rounds.data = [self._follower.states(run)]
            for number, rollout in enumerate(rounds.data[0]):
                run.folder.save_arrays(f"round-{number}", rollout.arrays())
            return rounds
        # A run that goes on after its teacher's training has no follower, and what that one left.
        if run.folder.holds_checkpoint(FOLLOWED):
            rounds = Rounds([run])
            for _ in range(2):
                rounds.read()
            return rounds
        return collect_rounds([run])

    def final_fit(self, rounds: Rounds) -> Fitted:
        """One more fit of the follower, then as ever: further attempts until one holds the teacher's return.

        Args:
            rounds: What `collect` gave.
        """
        run, follower = rounds.run, self._follower
        validations = [Validation(run)]
        if follower and follower.student:
            students = [follower.student]
            rounds.fit(students, name="final fit", steps=run.plan.final_steps, number=run.plan.rounds)
            keep_best(rounds, validations, FOLLOWED, grade(validations, students, 0))
        name = BEST
        if run.folder.holds_checkpoint(FOLLOWED):
            # The follower is the first attempt.
            name = FOLLOWED
        best = final_fits(rounds, validations, name=name)
        timeline: list[dict[str, float]] = []
        if follower:
            timeline = follower.timeline
        return Fitted(rounds.run, best.student, best.score, figures={"realtime": timeline})


class Follower:
    """A student that follows a teacher in training; `ppo.teacher` calls it after each evaluation.

    Args:
        folder: The run folder.
        run_with: Makes the run for the teacher of the moment.
        load: Reads it from its zip.

    Attributes:
        student: The student; None before the first checkpoint.
        timeline: A row for each checkpoint.
    """

    def __init__(self, folder: RunFolder, run_with: Callable[[Teacher], Run], load: Callable[[Path], Teacher]) -> None:
        self._folder = folder
        self._run_with = run_with
        self._load = load
        self._reservoir: Reservoir | None = None
        self._first: Rollout | None = None
        # One after the other, each lesson goes on in the last one's episodes.
        self._episodes: RunningEpisodes | None = None
        self.student: Student | None = None
        self.timeline: list[dict[str, float]] = []
        if folder.holds_file(TIMELINE_FILE):
            # The training of a run that was stopped begins anew, and its rows go on where they ended.
            with folder.reading(TIMELINE_FILE):
                self.timeline = list(folder.read_json(TIMELINE_FILE)["realtime"])

    def __call__(self, model: Any, env: VecEnv, score: float) -> None:
        """Follow the model as it is now.

        Args:
            model: SB3's, in training.
            env: Where it is trained.
            score: IQM of the evaluation that it has just had.
        """
        present = self._folder.path / "checkpoint" / "present.zip"
        present.parent.mkdir(exist_ok=True)
        save(model, env, present)
        run = self._run_with(self._load(present))
        with run.costs.timed("follow_s"):
            row = {"env_steps": model.num_timesteps, "teacher_iqm": score, **self._lesson(run)}
            for name, value in row.items():
                run.events.add_scalar(f"realtime/{name}", value, model.num_timesteps)
        self.timeline.append(row)
        run.folder.write_json(TIMELINE_FILE, {"realtime": self.timeline})
        run.reporter.say(
            f"realtime: {row['env_steps']:,} steps, teacher {score:.1f}, student "
            f"{row['student_iqm']:.1f}, agreement {row['agreement']:.1%}"
        )

    def states(self, run: Run) -> list[Rollout]:
        """The states followed along, with the finished teacher's labels: the first round, then the reservoir."""
        assert self._first, "there was a checkpoint"
        assert self._reservoir, "there was a checkpoint"
        layer = run.plan.teacher_layer
        first = labelled(flat(self._first), run.teacher, layer)
        return [first, self._reservoir.labelled(run.teacher, layer)]

    def close(self) -> None:
        """Close the environments: the lessons are over."""
        if self._episodes:
            self._episodes.close()

    def _lesson(self, run: Run) -> dict[str, float]:
        """Collect, label anew, fit, and play the teacher's evaluation; the figures of the timeline."""
        # What a lesson does is not shown: the bar on the screen is the teacher's training.
        silent = replace(run, reporter=Reporter(quiet=True))
        number = len(self.timeline)
        before = 0.0
        rollout = self._collect(silent, number)
        if self.student:
            before = agreement_on(run.teacher, self.student.policy(), rollout).agreement
        else:
            self.student = build_student(silent, rollout, 0)
        self._first = self._first or rollout
        self._reservoir = self._reservoir or Reservoir(run.plan.env_steps, run.seed("reservoir"))
        self._reservoir.add(flat(rollout))
        states = self._reservoir.labelled(run.teacher, run.plan.teacher_layer)
        fit(silent, self.student, [states], name="", steps=run.plan.round_steps, seed=run.seed("fit", number))
        policy = self.student.policy()
        seeds = range(CHECK_SEED, CHECK_SEED + run.config.training.eval_episodes)
        return {
            "student_iqm": float(iqm(evaluate(policy, run.recipe, seeds=seeds).returns)),
            "agreement": agreement_on(run.teacher, policy, rollout).agreement,
            "agreement_before": before,
        }

    def _collect(self, run: Run, number: int) -> Rollout:
        """A round of states: the student's own, the teacher's before there is a student."""
        plan = run.plan
        policy = None
        if self.student:
            policy = self.student.policy()
        self._episodes = self._episodes or running_episodes(run, "lessons")
        rollout = collect_on(
            self._episodes,
            run.teacher,
            policy,
            steps=steps_of_round(plan.env_steps, EXTRA, plan.n_envs),
            beta=0.0,
            exploration=plan.exploration,
            seed=run.seed("round", number),
            layer=plan.teacher_layer,
        )
        run.costs.add("collect_steps", rollout.driver.size)
        return rollout
