"""The problem: what is asked of a command that learns from a teacher, complete and checked before anything is written.

Every such command builds the same `Problem`; the checks are in `checks`, once each. What a command itself cannot honour
it says in its `Use`.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import torch
from torch.utils.tensorboard import SummaryWriter

from kd_agent.distillation.checks import (
    Spaces,
    Use,
    check_learner,
    check_losses,
    check_plan,
    check_questions,
    check_recording,
    check_returns,
    check_settings,
    idle_settings,
)
from kd_agent.distillation.masks import check_masked
from kd_agent.distillation.temperature import recall_temperature
from kd_agent.distillation.then_ppo import check_then_ppo
from kd_agent.environments import Recipe
from kd_agent.environments.vector import episode_limit, spaces_of
from kd_agent.evaluation import select_teachers
from kd_agent.networks import Teacher
from kd_agent.policies import ObservationSpec
from kd_agent.ppo.control import check_control
from kd_agent.ppo.teacher import Watch, train_named, training_of_teacher
from kd_agent.runs import CONFIG_FILE, Costs, Plan, Reporter, Run, RunFolder, choose_folder, open_run, remember
from kd_agent.settings import DistillConfig, plain
from kd_agent.teachers import load_named, load_one, load_recording, named_recipe, observations_of_student


class Watches(Protocol):
    """A strategy that may follow the teacher's training."""

    def watch(
        self, folder: RunFolder, run_with: Callable[[Teacher], Run], load: Callable[[Path], Teacher]
    ) -> Watch | None:
        """As `final_fits.FinalFits.watch`.

        Args:
            folder: The run folder.
            run_with: Makes the run for the teacher of the moment.
            load: Reads the teacher of the moment from its zip.
        """


@dataclass(frozen=True)
class Problem:
    """What is asked.

    Attributes:
        config: The settings.
        recipe: The environment.
        spaces: Its observation and action space.
        observed: What the student sees of an observation, by key.
        teacher: The one that is named, or several as one; None: one is to be trained.
        training: Settings under which that is trained.
        use: What the command does.
    """

    config: DistillConfig
    recipe: Recipe
    spaces: Spaces
    observed: Mapping[str, ObservationSpec]
    teacher: Teacher | None
    training: DistillConfig
    use: Use

    @staticmethod
    def of(config: DistillConfig, teacher: Teacher | None = None, use: Use | None = None) -> "Problem":
        """Build a problem and check it; nothing is written, nothing trained.

        Args:
            config: The settings.
            teacher: One made by `load_teacher`; default: those that the settings name.
            use: What the command does with it; default: a distillation.

        Raises:
            KDError: Something does not fit; the message says what would.
        """
        # One thread: the same bits whatever the number of cores, and small networks are no faster with more.
        torch.set_num_threads(1)
        use = use or Use(recordings=True)
        check_settings(config, use)
        check_recording(config, teacher, use)
        recipe = named_recipe(config)
        if recipe.env_id:
            spaces = spaces_of(recipe)
        else:
            teacher = recorded = load_recording(config, teacher)
            spaces = recorded.spaces
        observed = observations_of_student(config, spaces[0])
        teacher = teacher or load_named(config, spaces)
        # What needs no teacher is refused also where one is still to be trained, which takes minutes or hours.
        check_learner(config, observed, teacher)
        check_control(config, spaces[0])
        check_then_ppo(config, spaces, observed, teacher)
        if teacher:
            plan = Plan.of(config, teacher, observed, episode_limit(recipe))
            check_plan(plan, config, spaces)
            check_questions(plan, config, teacher)
            check_losses(plan, teacher, observed)
            check_returns(teacher, bool(recipe.env_id))
            check_masked(teacher, recipe, by_command=use.masks, control=config.control)
        training = config
        if not teacher:
            training = training_of_teacher(config, spaces)
        # Written into the run's files later on: what no file can hold is refused now.
        plain(config)
        return Problem(config, recipe, spaces, observed, teacher, training, use)

    def in_folder(self, own: Path, **changes: Any) -> "Problem":
        """The problem in a folder of its own within another run's, gone on with where that was begun.

        Args:
            own: The folder.
            changes: Settings that are others there.
        """
        begun = RunFolder(own).holds_file(CONFIG_FILE)
        return replace(self, config=replace(self.config, out=str(own), resume=begun, **changes))

    @contextmanager
    def begin(self, watching: Watches | None = None, costs: Costs | None = None) -> Iterator[Run]:
        """A run in its folder, the teacher ready and the plan decided.

        Args:
            watching: May follow the teacher's training.
            costs: The ledger of several runs that are one; default: a new one.
        """
        costs = costs or Costs()
        name = self.recipe.env_id or Path(self.config.teacher[0]).stem
        path = choose_folder(self.config.out, name, resume=self.config.resume)
        config = replace(self.config, out=str(path))
        reporter = Reporter(quiet=config.quiet, progress=config.progress)
        with (
            open_run(path, resume=config.resume, resumes=self.use.resumes) as folder,
            folder.running() as died_before,
            SummaryWriter(str(folder.path)) as events,
        ):
            reporter.say(f"run folder: {folder.path}")
            if died_before:
                reporter.say(
                    "the process that ran here before died without a word; the rounds that it finished are kept"
                )
            config = recall_temperature(folder, config)

            def _run_with(teacher: Teacher) -> Run:
                plan = Plan.of(config, teacher, self.observed, episode_limit(self.recipe))
                return Run(config, plan, self.recipe, self.observed, teacher, folder, reporter, events, costs)

            def _load(source: Path) -> Teacher:
                return load_one(config, str(source), self.spaces)

            with costs.timed("teacher_s"):
                watch = watching.watch(folder, _run_with, _load) if watching else None
                teacher = self.teacher or train_named(config, self.training, self.spaces, reporter, watch)
                # Once more: a selection changes the weights of an ensemble, and so the teacher of the run.
                run = _run_with(select_teachers(_run_with(teacher)))
            # Of a teacher that has just been trained nobody could know before.
            check_plan(run.plan, config, self.spaces)
            check_questions(run.plan, config, run.teacher)
            check_losses(run.plan, run.teacher, self.observed)
            if not config.resume:
                # A resumed run's settings say everything that was decided: nobody asked for that.
                for line in idle_settings(config, run.plan, run.teacher):
                    reporter.say(line)
            if self.use.resumes:
                remember(run)
            with costs.timed("distill_s"):
                yield run
