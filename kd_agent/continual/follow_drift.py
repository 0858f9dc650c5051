"""Continual distillation: a finished student goes on acting while its world drifts, and is taught when it falls behind.

The teacher labels what the student visits, and a monitor watches agreement and return, episode by episode. Once it
notices a change, each episode is followed by a lesson, until the student agrees with its teacher as it used to.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

from kd_agent.continual.change_detection import Cusum, Monitor
from kd_agent.continual.student import ContinualStudent, Episode, kept_states, play_episodes
from kd_agent.distillation.checks import Use
from kd_agent.distillation.problem import Problem
from kd_agent.environments import Recipe, recipe_of_student
from kd_agent.environments.own_wrappers import TypedWrappers
from kd_agent.environments.vector import make_env, spaces_of
from kd_agent.errors import KDError
from kd_agent.evaluation import scores, verdict_episodes, verdict_figures, verdict_looks
from kd_agent.networks import Teacher, check_fits
from kd_agent.policies import Array, Policy, PolicyGraph
from kd_agent.policies import file as graph_file
from kd_agent.rollouts import Reservoir
from kd_agent.runs import CONFIG_FILE, STUDENT_FILE, Run
from kd_agent.settings import DistillConfig, FollowDriftConfig, shared_settings, to_yaml

DRIFT_FILE = "drift.json"
_USE = Use(resumes=False, masks=False)
RECENT = 5
"""Episodes, each played after one more lesson, by whose mean agreement a student has recovered."""


@dataclass
class Change:
    """A change that was noticed.

    Attributes:
        noticed: Environment steps until then.
        by: What gave the alarm: "agreement", "return" or both.
        since: Environment steps until the figures began to fall, Page's estimate.
        recovered: Environment steps until the student had recovered; None: not yet.
        lessons: How many it has taken.
    """

    noticed: int
    by: list[str]
    since: int
    recovered: int | None = None
    lessons: int = 0


class Following:
    """A student under watch.

    Args:
        student: The student.
        monitor: Who notices.

    Attributes:
        steps: Environment steps so far.
        changes: What was noticed, in order.
    """

    def __init__(self, student: ContinualStudent, monitor: Monitor) -> None:
        self.student = student
        self.monitor = monitor
        self.steps = 0
        self.changes: list[Change] = []
        self._suspect: list[Episode] = []
        self._recent: list[float] = []

    @property
    def learning(self) -> bool:
        """Whether the student is being taught at present."""
        return bool(self.changes) and self.changes[-1].recovered is None

    def take(self, episode: Episode) -> str | None:
        """Take an episode into account; what there is to say of it, if anything."""
        self.steps += episode.steps
        if self.learning:
            return self._teach(episode)
        return self._watch(episode)

    def _watch(self, episode: Episode) -> str | None:
        alarms = self.monitor.notice(episode.agreement, episode.score)
        self._suspect.append(episode)
        if alarms:
            # Page's estimate: the change began when the sums last were 0, and from then on episodes are suspect. They
            # are of the new world, and the first that is taught.
            since = self.steps - sum(suspect.steps for suspect in self._suspect)
            self.changes.append(Change(self.steps, alarms, since))
            self._recent = []
            self._lesson([suspect.observations for suspect in self._suspect])
            return f"change noticed at step {self.steps:,} by {' and '.join(alarms)}, under way since {since:,}"
        if self.monitor.calm:
            self.student.remember([suspect.observations for suspect in self._suspect])
            self._suspect = []
        return None

    def _teach(self, episode: Episode) -> str | None:
        self._recent.append(episode.agreement)
        # Each of the recent episodes was played by a student of one more lesson: the mean lags, and errs towards more.
        if len(self._recent) < RECENT or not self.monitor.recovered(self._recent[-RECENT:]):
            self._lesson([episode.observations])
            return None
        self.changes[-1].recovered = self.steps
        self.student.remember([episode.observations])
        self.monitor.begin_anew()
        return f"recovered at step {self.steps:,} after {self.changes[-1].lessons} lessons"

    def _lesson(self, observations: Sequence[Mapping[str, Array]]) -> None:
        self._suspect = []
        self.student.learn(observations)
        self.changes[-1].lessons += 1


def follow_drift(config: FollowDriftConfig) -> dict[str, Any]:
    """Let a saved student act, watch it, and teach it whenever it falls behind.

    Returns:
        The content of `drift.json`; the continued student lies beside it.

    Raises:
        KDError: An input is wrong, or student or teacher cannot be followed.
    """
    graph = graph_file.read(config.student, config.task)
    problem = Problem.of(as_distillation(config), use=_USE)
    assert problem.teacher, "the settings require one"
    # The student must fit both worlds: the one it was made for tells how it used to do.
    old = TypedWrappers(config.wrapper).around(recipe_of_student(graph, config.student))
    for spaces in (problem.spaces, spaces_of(old)):
        check_fits(graph, spaces, config.student)
    check_pair(config, graph, problem.teacher)
    with problem.begin() as run:
        following = prepare(config, run, graph, old)
        timeline = watch(config, run, following)
        graph_file.write(following.student.graph, run.folder.path / STUDENT_FILE)
        result = {
            "format": 1,
            "student": config.student,
            "teacher": vars(run.teacher.origin),
            "env": run.recipe.env_id,
            "env_steps": following.steps,
            "gradient_steps": following.student.lessons * config.lesson_steps,
            "changes": [asdict(change) for change in following.changes],
            "verdict": _verdicts(config, run, old, before=Policy(graph), after=following.student.policy),
            "timeline": timeline,
        }
        run.folder.write_json(DRIFT_FILE, result)
        # The last file: it says that the folder holds a run, and one that was stopped is begun anew.
        run.folder.write_text(CONFIG_FILE, to_yaml(config))
        return run.folder.read_json(DRIFT_FILE)


def as_distillation(config: FollowDriftConfig) -> DistillConfig:
    """The settings that a drift shares with a distillation, as one: its world, its teacher."""
    return shared_settings(config, teacher=(config.teacher,), student=None)


def check_pair(config: FollowDriftConfig, graph: PolicyGraph, teacher: Teacher) -> None:
    """Refuse a student that cannot be taught on, or not by this teacher.

    Args:
        config: The settings, for the names of both.
        graph: The student.
        teacher: The teacher.

    Raises:
        KDError: The message says why.
    """
    for name, recurrent in ((config.student, bool(graph.states)), (config.teacher, teacher.recurrent)):
        if recurrent:
            raise KDError(f"{name}: has a memory; following takes policies without one")
    if graph.head.expects_masks:
        raise KDError(f"{config.student}: plays with action masks; following takes policies without")
    if graph.sampled:
        raise KDError(f"{config.student}: is played by samples; following takes policies that are played greedily")
    kinds = {op.kind for op in graph.ops}
    if "tree" in kinds:
        raise KDError(f"{config.student}: a tree cannot be taught step by step; distil a network (--student mlp)")
    if teacher.head.num_params != graph.head.num_params or teacher.head.spec.kind != graph.head.kind:
        raise KDError(f"{config.teacher}: acts by {teacher.head.spec.kind}, the student by {graph.head.kind}")


def prepare(config: FollowDriftConfig, run: Run, graph: PolicyGraph, old: Recipe) -> Following:
    """The student with its memory of the old world, and a monitor that knows how it did there.

    Args:
        config: The settings.
        run: The run.
        graph: The student as it was saved.
        old: The world that it was made for.
    """
    env = make_env(old, 1)
    before = Policy(graph)
    reference: list[Episode] = []
    with run.reporter.stage("playing in the old world", config.reference_episodes, "episodes") as advance:
        played = play_episodes(env, run.teacher, lambda: before, run.seed("old world"))
        for episode in islice(played, config.reference_episodes):
            reference.append(episode)
            advance(len(reference), agreement=episode.agreement)
    env.close()
    reservoir = Reservoir(config.reservoir, run.seed("reservoir"))
    # Where the student's run folder is gone, what it has just visited stands for the states that it was fitted to.
    remembered = kept_states(Path(config.student), graph) or [dict(episode.observations) for episode in reference]
    for states in remembered:
        reservoir.add(states)
    student = ContinualStudent(
        graph,
        run.teacher,
        reservoir,
        steps=config.lesson_steps,
        batch_size=config.batch_size,
        learning_rate=config.learning_rate,
        seed=config.seed,
    )
    agreements = Cusum([episode.agreement for episode in reference])
    returns = Cusum([episode.score for episode in reference])
    return Following(student, Monitor(agreements, returns))


def watch(config: FollowDriftConfig, run: Run, following: Following) -> list[dict[str, Any]]:
    """Follow the student for as long as the settings say; a row for each episode.

    Args:
        config: The settings.
        run: The run, in the world that drifts.
        following: The student under watch.
    """
    timeline: list[dict[str, Any]] = []
    env = make_env(run.recipe, 1)
    episodes = play_episodes(env, run.teacher, lambda: following.student.policy, run.seed("drift"))
    with run.reporter.stage("following", config.env_steps, "steps") as advance:
        while following.steps < config.env_steps:
            episode = next(episodes)
            learning = following.learning
            news = following.take(episode)
            if news:
                run.reporter.say(news)
            timeline.append(
                {
                    "env_steps": following.steps,
                    "agreement": episode.agreement,
                    "return": episode.score,
                    "learning": learning,
                }
            )
            run.events.add_scalar("drift/agreement", episode.agreement, following.steps)
            run.events.add_scalar("drift/return", episode.score, following.steps)
            advance(following.steps, agreement=episode.agreement, mean_return=episode.score)
    env.close()
    return timeline


def _verdicts(config: FollowDriftConfig, run: Run, old: Recipe, *, before: Policy, after: Policy) -> dict[str, Any]:
    """The student as it was and as it is against the teacher, in the old world and where asked for in the new one."""
    worlds = {"old": old}
    if config.new_kwargs:
        worlds["new"] = replace(run.recipe, env_kwargs={**run.recipe.env_kwargs, **config.new_kwargs})
    found: dict[str, Any] = {}
    for name, world in worlds.items():
        run.reporter.say(f"the {name} world: {world.env_id} {dict(world.env_kwargs)}")
        found[name] = _verdict(replace(run, recipe=world), before, after)
    return found


def _verdict(run: Run, before: Policy, after: Policy) -> dict[str, Any]:
    """The student as it is on as many episodes as its verdict needs, and the others on the same ones."""
    world = run.recipe
    comparison = verdict_episodes(run)
    after_returns, after_verdict = comparison.play_until_decided(after, "the student as it is", verdict_looks(run))
    before_returns = comparison.episodes.play(before, "the student as it was", len(after_returns))
    verdicts = {"before": comparison.verdict(before_returns, error=after_verdict.error), "after": after_verdict}
    players = {
        "teacher": comparison.teacher_returns(len(after_returns)),
        "before": before_returns,
        "after": after_returns,
        "random": comparison.random_returns,
    }
    shown = {player: scores(returns) for player, returns in players.items()}
    run.reporter.say(
        f"{after_verdict.decision}, mean {shown['after']['mean']:.1f}, before {shown['before']['mean']:.1f}, "
        f"teacher {shown['teacher']['mean']:.1f}"
    )
    result: dict[str, Any] = {"env": world.env_id, "env_kwargs": dict(world.env_kwargs), **shown}
    for player, verdict in verdicts.items():
        for key, value in verdict_figures(verdict).items():
            result[f"{player}_{key}"] = value
    return result
