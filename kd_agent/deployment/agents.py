"""An agent to be exported, whatever names it: its program, who plays it here, and the environment that it plays in."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

import kd_agent
from kd_agent import plugins
from kd_agent.environments import Recipe, recipe_of, recipe_of_student
from kd_agent.environments.own_wrappers import TypedWrappers
from kd_agent.environments.teacher_view import view_of_teacher
from kd_agent.environments.vector import spaces_of
from kd_agent.errors import KDError
from kd_agent.loading import load_policy
from kd_agent.networks import Teacher, check_fits
from kd_agent.policies import Policy, PolicyGraph
from kd_agent.rollouts import Predicts
from kd_agent.settings import ExportConfig
from kd_agent.teachers import NotUnderstoodError, asked_by, load_teacher, recipe_for, viewing


@dataclass(frozen=True)
class Agent:
    """What is exported.

    Attributes:
        graph: Its program; the provenance says where it plays.
        player: Who acts as it does here: the policy, or the teacher that the program was read from.
        recipe: The environment that it plays in; None where that is not known, or not to be had here.
        reason: Why it is not, for a message.
    """

    graph: PolicyGraph
    player: Predicts
    recipe: Recipe | None = None
    reason: str = ""


@dataclass(frozen=True)
class Reading:
    """How an agent is read, beside its source; the names and meanings are those of the command's settings.

    Attributes:
        env: Gymnasium id of its environment, `module:Id` too; None: the one that the source names.
        env_kwargs: The environment's keyword arguments.
        wrapper: Wrappers around it.
        task: Which task's policy, where the source holds several.
        statistics: A teacher's VecNormalize statistics; None: looked for beside it.
        allow_missing_statistics: Accept a teacher whose statistics are lost.
        onnx_output: Name of the output of an ONNX file that answers; None: the one that fits.
        teacher_activation: Activation of a teacher whose file holds weights alone; None: its library's.
        teacher_squash: How such a teacher bounds continuous actions; None: likewise.
    """

    env: str | None = None
    env_kwargs: Mapping[str, Any] = field(default_factory=dict)
    wrapper: Sequence[str] = ()
    task: str | None = None
    statistics: str | None = None
    allow_missing_statistics: bool = False
    onnx_output: str | None = None
    teacher_activation: str | None = None
    teacher_squash: str | None = None

    @property
    def names_environment(self) -> bool:
        """Whether anything is told of the environment: what is typed is meant, and not passed over where it fails."""
        return bool(self.env or self.env_kwargs or self.wrapper)

    @staticmethod
    def of(config: ExportConfig) -> "Reading":
        """As a command's settings have it."""
        return Reading(**{part.name: getattr(config, part.name) for part in fields(Reading)})

    def teacher(self, source: Any, env: Any = None) -> Teacher:
        """The teacher that a source is.

        Args:
            source: The source.
            env: The spaces that it must fit; None: its own.
        """
        try:
            return load_teacher(
                source,
                env=env,
                **asked_by(self),
            )
        except NotUnderstoodError as error:
            # To trust it would not help: what is run is not read.
            raise KDError(f"{error.reason}, so that there is no program of it to write") from None


def read_agent(source: Any, how: Reading) -> Agent:
    """The agent that a source names.

    Args:
        source: A policy, its graph, a teacher, or anything that `load_teacher` takes.
        how: How it is read.

    Raises:
        KDError: It cannot be read as a program, or does not fit the environment that is typed.
    """
    if isinstance(source, os.PathLike):
        source = os.fspath(source)
    # Parameters of Flax have the same ending.
    if plugins.load("teachers", "student").accepts(source):
        return _student(load_policy(source, task=how.task), source, how)
    if isinstance(source, PolicyGraph | Policy):
        policy = source if isinstance(source, Policy) else Policy(source)
        return _student(policy, "the policy", how)
    if how.task:
        raise KDError(f"task {how.task!r}: only a saved student holds several tasks")
    if isinstance(source, Teacher):
        return _loaded(source, how)
    return _teacher(source, how)


def _student(policy: Policy, where: str, how: Reading) -> Agent:
    """A policy of ours; it is exported also where its environment is not to be had."""
    if how.statistics:
        raise KDError(f"{where}: carries its statistics inside; --statistics is for a teacher's")
    if how.teacher_activation or how.teacher_squash:
        raise KDError(
            f"{where}: says its network itself; --teacher-activation and --teacher-squash are for a teacher's"
        )
    graph = policy.graph
    try:
        found = recipe_of_student(graph, where, how.env, how.env_kwargs)
        recipe = TypedWrappers(tuple(how.wrapper)).around(found)
        check_fits(graph, spaces_of(recipe), where)
    except KDError as error:
        if how.names_environment:
            raise
        return Agent(graph, policy, reason=str(error))
    if how.names_environment:
        graph = _placed(graph, recipe)
    return Agent(graph, policy, recipe)


def _loaded(teacher: Teacher, how: Reading) -> Agent:
    """A teacher that was loaded before; only its caller knows where it plays."""
    graph = _stamped(teacher.to_graph(), teacher)
    if not how.env:
        return Agent(graph, teacher, reason="a loaded teacher does not say what its environment is; name it (env=...)")
    recipe = TypedWrappers(tuple(how.wrapper)).around(recipe_of(how.env, how.env_kwargs))
    check_fits(graph, spaces_of(recipe), teacher.origin.source)
    return Agent(_placed(graph, recipe), teacher, recipe)


def _teacher(source: Any, how: Reading) -> Agent:
    """Anybody else's; it is exported also where its environment is not to be had, if it tells its spaces itself."""
    try:
        recipe = _recipe(source, how)
        shown, actions = spaces_of(recipe)
    except KDError as error:
        if how.names_environment:
            raise
        teacher = how.teacher(source)
        return Agent(_stamped(teacher.to_graph(), teacher), teacher, reason=str(error))
    view, names = view_of_teacher(shown)
    teacher = viewing(how.teacher(source, (view, actions)), names)
    return Agent(_placed(_stamped(teacher.to_graph(), teacher), recipe), teacher, recipe)


def _recipe(source: Any, how: Reading) -> Recipe:
    """The environment that is typed, or that the source names."""
    if not (how.env or isinstance(source, str)):
        raise KDError("an agent in this process does not say what its environment is; name it (env=...)")
    return recipe_for(source, how.env or "", how.env_kwargs, TypedWrappers(tuple(how.wrapper)))


def _stamped(graph: PolicyGraph, teacher: Teacher) -> PolicyGraph:
    """A teacher's program, which says where it comes from, in the words of a student's provenance."""
    origin = {
        "kd_agent": kd_agent.__version__,
        "teacher_sha256": teacher.origin.sha256,
        "teacher_algo": teacher.origin.algo,
    }
    # A student that is loaded as a teacher says more of itself.
    return replace(graph, provenance={**origin, **graph.provenance})


def _placed(graph: PolicyGraph, recipe: Recipe) -> PolicyGraph:
    """A program that names its environment."""
    place = {"env": recipe.env_id, "recipe": recipe.to_json()}
    return replace(graph, provenance={**graph.provenance, **place})
