"""The problem: what is asked of a command that learns from a teacher, complete and checked before anything is written.

Every such command builds the same `Problem`, and each check stands here once. What a command itself cannot honour it
says in its `Use`.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Protocol

import gymnasium as gym
import numpy as np
import torch
from torch.utils.tensorboard import SummaryWriter

from kd_agent import plugins
from kd_agent.distillation.fitting import new_student, objective_of
from kd_agent.distillation.masks import check_masked
from kd_agent.distillation.temperature import check_temperature, recall_temperature, temperature_matters
from kd_agent.environments import Recipe
from kd_agent.environments.vector import episode_limit, spaces_of
from kd_agent.errors import KDError
from kd_agent.evaluation import select_teachers
from kd_agent.losses import BoundObjective, needs
from kd_agent.networks import LAYER, Teacher
from kd_agent.policies import Array, ObservationSpec
from kd_agent.ppo.control import check_control
from kd_agent.ppo.teacher import Watch, train_named, training_of_teacher
from kd_agent.runs import CONFIG_FILE, Costs, Plan, Reporter, Run, RunFolder, choose_folder, open_run, remember
from kd_agent.settings import DistillConfig, plain
from kd_agent.students import COUNTED
from kd_agent.teachers import load_named, load_one, named_recipe, observations_of_student

Spaces = tuple[gym.Space[Any], gym.Space[Any]]
"""Observation and action space."""


@dataclass(frozen=True)
class Use:
    """What a command does with a problem.

    Attributes:
        refuses: Why it cannot honour a setting, by the setting's name: one that differs from its default is refused.
        resumes: Whether a run of it can be gone on with: then settings and teacher are kept from the beginning.
        masks: Whether it can be taught by a teacher that plays with action masks.
    """

    refuses: Mapping[str, str] = field(default_factory=dict)
    resumes: bool = True
    masks: bool = True


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
        use = use or Use()
        check_settings(config, use)
        recipe = named_recipe(config)
        spaces = spaces_of(recipe)
        observed = observations_of_student(config, spaces[0])
        teacher = teacher or load_named(config, spaces)
        # What needs no teacher is refused also where one is still to be trained, which takes minutes or hours.
        check_learner(config, observed, teacher)
        check_control(config, spaces[0])
        if teacher:
            plan = Plan.of(config, teacher, observed, episode_limit(recipe))
            check_plan(plan, config, spaces)
            check_losses(plan, teacher, observed)
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
        path = choose_folder(self.config.out, self.recipe.env_id, resume=self.config.resume)
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
            check_losses(run.plan, run.teacher, self.observed)
            if not config.resume:
                # A resumed run's settings say everything that was decided: nobody asked for that.
                for line in idle_settings(config, run.plan, run.teacher):
                    reporter.say(line)
            if self.use.resumes:
                remember(run)
            with costs.timed("distill_s"):
                yield run


def check_settings(config: DistillConfig, use: Use) -> None:
    """Find what is wrong with the settings by themselves.

    Args:
        config: The settings.
        use: What the command does with them.

    Raises:
        KDError: The message names the setting.
    """
    for name in config.loss or {}:
        plugins.load("losses", name)
    plugins.load("students", config.student or "mlp")
    changed = changed_settings(config)
    for name, why in use.refuses.items():
        if name in changed:
            raise KDError(why)
    check_temperature(config)
    check_size(config)
    try:
        torch.empty(0, device=config.device)
    except (RuntimeError, AssertionError) as error:
        raise KDError(f"device {config.device!r} is not to be had ({str(error).splitlines()[0]})") from None


def check_size(config: DistillConfig) -> None:
    """Refuse settings of a student's size that contradict each other, or that its kind has not.

    Args:
        config: The settings.

    Raises:
        KDError: The message names them.
    """
    if config.compression is not None and config.hidden is not None:
        raise KDError("--hidden and --compression both say the student's size: name one")
    for name, asked in (("compression", config.compression is not None), ("grow", bool(config.grow))):
        if asked and config.student not in (None, *COUNTED):
            raise KDError(f"--{name} counts the parameters of an mlp or a gru, not of a {config.student}")


def changed_settings(config: DistillConfig) -> list[str]:
    """Names of the settings that are not what they are by default."""
    default = type(config)(env=config.env)
    names = [field.name for field in fields(config)]
    return [name for name in names if getattr(config, name) != getattr(default, name)]


def check_learner(config: DistillConfig, observed: Mapping[str, ObservationSpec], teacher: Teacher | None) -> None:
    """Let the learner of the student's kind refuse what it cannot fit.

    Args:
        config: The settings.
        observed: What the student sees of an observation, by key.
        teacher: The teacher; None where it is still to be trained.
    """
    kind = plugins.load("students", config.student or "mlp").build.learner
    learner = plugins.load("learners", kind)
    if hasattr(learner, "check"):
        learner.check(config, observed, teacher)


def check_plan(plan: Plan, config: DistillConfig, spaces: Spaces) -> None:
    """Refuse what a decided plan cannot be combined with.

    Args:
        plan: The plan.
        config: The settings.
        spaces: Observation and action space.
    """
    check_control(replace(config, student=plan.student), spaces[0])


def check_losses(plan: Plan, teacher: Teacher, observed: Mapping[str, ObservationSpec]) -> None:
    """Require what teacher and student answer to a blank observation to serve every loss.

    Args:
        plan: The plan.
        teacher: The teacher.
        observed: What the student sees of an observation, by key.
    """
    answer = teacher(blank(teacher.observations), None, np.ones(1, bool))
    layer = {}
    if plan.teacher_layer:
        layer = {LAYER: answer.layer(plan.teacher_layer, "the teacher")}
    objective = objective_of(plan)
    target = replace(answer, features=layer)
    objective.check(target, teacher.head)
    if layer:
        student = new_student(plan, teacher, observed, blank(observed), seed=0)
        shown = {key: torch.from_numpy(array) for key, array in blank(observed).items()}
        BoundObjective(objective, teacher.head, student(shown), target, None)


def idle_settings(config: DistillConfig, plan: Plan, teacher: Teacher) -> list[str]:
    """A line for each setting that was asked for and does nothing in this run.

    Args:
        config: The settings.
        plan: The plan.
        teacher: The teacher.
    """
    changed = changed_settings(config)
    may_grow = plan.attempts > 1 and not (config.search_size or config.realtime)
    several_teachers = len(config.teacher) > 1
    compares_layers = "layer" in needs(plan.loss)
    layers = "no loss compares layers, as hint, relation and intuition do"
    teachers = "there is one teacher"
    is_network = plan.student != "tree"
    steps = "a tree is grown, not fitted in steps"
    effects = [
        ("temperature", temperature_matters(plan, teacher.head), "this loss and action head are the same at any"),
        ("choose_by", config.temperature == "auto", "the temperature is not chosen (--temperature auto)"),
        ("leaves", not is_network, "only a tree has leaves (--student tree)"),
        ("activation", is_network, "a tree has none"),
        ("hidden", is_network, "a tree has no layers"),
        ("grow", may_grow, "there is one final fit, or a strategy that has one size or tries all"),
        ("round_steps", is_network, steps),
        ("final_steps", is_network, steps),
        ("batch_size", is_network, steps),
        ("learning_rate", is_network, steps),
        ("combine", several_teachers, teachers),
        ("teacher_gate", several_teachers, teachers),
        ("onnx_output", any(source.endswith(".onnx") for source in config.teacher), "no teacher is an ONNX file"),
        ("teacher_layer", compares_layers, layers),
        ("student_layer", compares_layers, layers),
    ]
    lines = []
    for name, has_effect, why in effects:
        if name in changed and not has_effect:
            lines.append(f"note: --{name.replace('_', '-')} has no effect here: {why}")
    return lines


def blank(observations: Mapping[str, ObservationSpec]) -> dict[str, Array]:
    """An observation of zeros, `[1, *O]` by key."""
    return {key: np.zeros((1, *spec.shape), spec.dtype) for key, spec in observations.items()}
