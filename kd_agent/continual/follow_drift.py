"""Continual distillation: a finished student goes on acting while its world drifts, and is taught when it falls behind.

The teacher labels what the student visits, and a monitor watches agreement and return, episode by episode. Once it
notices a change, each episode is followed by a lesson, until the student agrees with its teacher as it used to.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch.utils.tensorboard import SummaryWriter

from kd_agent.continual.change_detection import Cusum, Monitor
from kd_agent.continual.student import ContinualStudent, Episode, play
from kd_agent.environments import Recipe, recipe_of, recorded_recipe
from kd_agent.environments.vector import make_env, spaces_of
from kd_agent.errors import KDError
from kd_agent.evaluation import EVALUATION_SEED, Arena, Contest, doublings, scores
from kd_agent.networks import Teacher, check_fits
from kd_agent.policies import Array, Policy, PolicyGraph
from kd_agent.policies import file as graph_file
from kd_agent.rollouts import Reservoir, Rollout, flat
from kd_agent.runs import Reporter, RunFolder, next_folder, open_run
from kd_agent.settings import FollowDriftConfig, to_yaml
from kd_agent.teachers import load_teacher, recipe_for

STUDENT_FILE, RESULT_FILE = "student.safetensors", "drift.json"
RECENT = 5
"""Episodes, each played after one more lesson, by whose mean agreement a student has recovered."""


@dataclass(frozen=True)
class Inputs:
    """What is followed.

    Attributes:
        graph: The student as it was saved.
        teacher: Who labels.
        old: The world that the student was made for.
        world: The one that drifts.
    """

    graph: PolicyGraph
    teacher: Teacher
    old: Recipe
    world: Recipe


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
        self.student, self.monitor = student, monitor
        self.steps, self.changes = 0, list[Change]()
        self._suspect, self._recent = list[Episode](), list[float]()

    @property
    def learning(self) -> bool:
        """Whether the student is being taught at present."""
        return bool(self.changes) and self.changes[-1].recovered is None

    def take(self, episode: Episode) -> str | None:
        """Take an episode into account; what there is to say of it, if anything."""
        self.steps += episode.steps
        return self._teach(episode) if self.learning else self._watch(episode)

    def _watch(self, episode: Episode) -> str | None:
        alarms = self.monitor.notice(episode.agreement, episode.score)
        self._suspect.append(episode)
        if alarms:
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
    torch.set_num_threads(1)
    inputs = read_inputs(config)
    reporter = Reporter(quiet=config.quiet, progress=config.progress)
    with open_run(Path(config.out) if config.out else next_folder(inputs.world.env_id), resume=False) as folder:
        reporter.say(f"run folder: {folder.path}")
        following = prepare(config, inputs, reporter)
        timeline = watch(config, inputs, following, folder, reporter)
        graph_file.write(following.student.graph, folder.path / STUDENT_FILE)
        result = {
            "format": 1, "student": config.student, "teacher": vars(inputs.teacher.origin),
            "env": inputs.world.env_id, "env_steps": following.steps, "gradient_steps":
            following.student.lessons * config.lesson_steps, "changes": [asdict(c) for c in following.changes],
            "verdict": verdicts(config, inputs, following.student.policy, reporter), "timeline": timeline,
        }  # fmt: skip
        folder.write_json(RESULT_FILE, result)
        folder.write_text("config.yaml", to_yaml(config))  # the last file: a run that was stopped is begun anew
        return folder.read_json(RESULT_FILE)


def prepare(config: FollowDriftConfig, inputs: Inputs, reporter: Reporter) -> Following:
    """The student with its memory of the old world, and a monitor that knows how it did there."""
    env, before = make_env(inputs.old, 1), Policy(inputs.graph)
    reference: list[Episode] = []
    with reporter.stage("playing in the old world", config.reference_episodes, "episodes") as advance:
        for episode in islice(play(env, inputs.teacher, lambda: before, config.seed), config.reference_episodes):
            reference.append(episode)
            advance(len(reference), agreement=episode.agreement)
    env.close()
    reservoir = Reservoir(config.reservoir, config.seed)
    for states in kept_states(Path(config.student)) or [dict(episode.observations) for episode in reference]:
        reservoir.add(states)
    student = ContinualStudent(
        inputs.graph, inputs.teacher, reservoir, steps=config.lesson_steps, batch_size=config.batch_size,
        learning_rate=config.learning_rate, seed=config.seed,
    )  # fmt: skip
    monitor = Monitor(Cusum([e.agreement for e in reference]), Cusum([e.score for e in reference]))
    return Following(student, monitor)


def watch(
    config: FollowDriftConfig, inputs: Inputs, following: Following, folder: RunFolder, reporter: Reporter
) -> list[dict[str, Any]]:
    """Follow the student for as long as the settings say; a row for each episode."""
    timeline: list[dict[str, Any]] = []
    env = make_env(inputs.world, 1)
    episodes = play(env, inputs.teacher, lambda: following.student.policy, config.seed + 1)
    with SummaryWriter(str(folder.path)) as events, reporter.stage("following", config.env_steps, "steps") as advance:
        while following.steps < config.env_steps:
            episode, learning = next(episodes), following.learning
            reporter.say(news) if (news := following.take(episode)) else None
            timeline.append({"env_steps": following.steps, "agreement": episode.agreement, "return": episode.score,
                             "learning": learning})  # fmt: skip
            events.add_scalar("drift/agreement", episode.agreement, following.steps)
            events.add_scalar("drift/return", episode.score, following.steps)
            advance(following.steps, agreement=episode.agreement, mean_return=episode.score)
    env.close()
    return timeline


def verdicts(config: FollowDriftConfig, inputs: Inputs, student: Policy, reporter: Reporter) -> dict[str, Any]:
    """The student as it was and as it is against the teacher, in the old world and where asked for in the new one."""
    worlds = {"old": inputs.old}
    if config.new_kwargs:
        worlds["new"] = replace(inputs.world, env_kwargs={**inputs.world.env_kwargs, **config.new_kwargs})
    found: dict[str, Any] = {}
    for name, world in worlds.items():
        reporter.say(f"the {name} world: {world.env_id} {dict(world.env_kwargs)}")
        found[name] = verdict(config, inputs, student, world, reporter)
    return found


def verdict(
    config: FollowDriftConfig, inputs: Inputs, student: Policy, world: Recipe, reporter: Reporter
) -> dict[str, Any]:
    """The student as it is on as many episodes as its verdict needs, and the others on the same ones."""
    arena = Arena(world, first_seed=EVALUATION_SEED, reporter=reporter)
    contest = Contest(arena, inputs.teacher, margin=config.margin, episodes=config.episodes)
    looks = doublings(config.episodes, config.max_episodes)
    after, verdict_after = contest.settle(student, "the student as it is", looks)
    before = arena.play(Policy(inputs.graph), "the student as it was", len(after))
    found = {"before": contest.verdict(before, looks=len(looks)), "after": verdict_after}
    players = {"teacher": contest.teacher(len(after)), "before": before, "after": after, "random": contest.chance}
    shown = {player: scores(returns) for player, returns in players.items()}
    reporter.say(f"{verdict_after.decision}, IQM {shown['after']['iqm']:.1f}, before {shown['before']['iqm']:.1f}, "
                 f"teacher {shown['teacher']['iqm']:.1f}")  # fmt: skip
    return {
        "env": world.env_id,
        "env_kwargs": dict(world.env_kwargs),
        **shown,
        **{f"{player}_{key}": value for player in found for key, value in asdict(found[player]).items()},
    }


def kept_states(student: Path) -> list[dict[str, Array]]:
    """What a student's run folder keeps of the states that it was fitted to, `[S, *O]` by key; may be none."""
    folder = RunFolder(student.parent)
    names = sorted(path.stem for path in folder.path.glob("checkpoint/round-*.npz"))
    return [flat(Rollout.from_arrays(folder.load_arrays(name) or {})) for name in names]


def read_inputs(config: FollowDriftConfig) -> Inputs:
    """Student, teacher and worlds; KDError where they do not fit together."""
    graph = graph_file.read(config.student)
    old = recorded_recipe(graph) or recipe_of(str(graph.provenance.get("env")))
    world = recipe_for(config.teacher, config.env, config.env_kwargs)
    spaces = spaces_of(world)
    for place in (spaces, spaces_of(old)):
        check_fits(graph, place, config.student)
    teacher = load_teacher(config.teacher, env=spaces, statistics=config.statistics)
    for name, recurrent in ((config.student, bool(graph.states)), (config.teacher, teacher.recurrent)):
        if recurrent:
            raise KDError(f"{name}: has a memory; following takes policies without one")
    if any(op.kind == "tree" for op in graph.ops):
        raise KDError(f"{config.student}: a tree cannot be taught step by step; distil a network (--student mlp)")
    if teacher.head.num_params != graph.head.num_params or teacher.head.spec.kind != graph.head.kind:
        raise KDError(f"{config.teacher}: acts by {teacher.head.spec.kind}, the student by {graph.head.kind}")
    return Inputs(graph, teacher, old, world)
