"""Beyond the teacher: a small student trained by PPO, which a teacher guides at first and less and less."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import gymnasium as gym

from kd_agent import plugins
from kd_agent.distillation.checks import Use
from kd_agent.distillation.outcome import Result, write_result
from kd_agent.distillation.problem import Problem
from kd_agent.environments import observation_specs
from kd_agent.environments.vector import make_env
from kd_agent.errors import KDError
from kd_agent.evaluation import Episodes, iqm, judge
from kd_agent.networks import Teacher, check_fits, head_for
from kd_agent.policies import OBSERVATION, Normalizer, PolicyGraph
from kd_agent.policies import file as graph_file
from kd_agent.ppo.guided_policy import Fade
from kd_agent.ppo.guided_training import GuidedTraining
from kd_agent.ppo.training import fitted_to
from kd_agent.rollouts import collect
from kd_agent.runs import CONFIG_FILE, STUDENT_FILE, TEACHER_FILE, Run, provenance
from kd_agent.settings import DistillConfig, KickstartConfig, resolve, shared_settings, to_yaml

_USE = Use(resumes=False, masks=False)
_SCORE_SEED = 15_000
"""Of the episodes that tell an adaptive fade what teacher and random policy are worth."""
_SCORE_EPISODES = 32
_FIRST_STEPS = 512
"""Of each environment, by whose states the student is normalised."""
_UPDATES = 64
"""Updates that a student has at least: the weight of the guidance changes between two of them."""


def kickstart(config: KickstartConfig | Mapping[str, Any], teacher: Teacher | None = None) -> Result:
    """Train a small student by PPO under a teacher that fades, and judge it against the teacher.

    Args:
        config: Settings, or a mapping of those that differ from the defaults.
        teacher: A teacher made by `load_teacher`; default: the one that the settings name, or one that is trained.

    Returns:
        The content of `result.json`, as a distillation's, with `kickstart` beside it; `kickstart.overtook` says
        whether the student is shown to be better than its teacher.

    Raises:
        KDError: An input is wrong; nothing has been written then.
    """
    if not isinstance(config, KickstartConfig):
        config = resolve(KickstartConfig, config)
    problem = Problem.of(as_distillation(config), teacher, _USE)
    check(problem.teacher, problem.spaces)
    begun = load_init(config, problem.spaces)
    with problem.begin() as run:
        check(run.teacher, problem.spaces)
        student, figures = Kickstart(config, run).train(begun)
        path = run.folder.path / STUDENT_FILE
        graph_file.write(replace(student, provenance=provenance(run)), path)
        with run.costs.timed("evaluate_s"):
            result = judge(run, path)
        result["kickstart"] = {**figures, "overtook": result["verdict"]["difference_ci"][0] > 0}
        run.folder.write_json(TEACHER_FILE, vars(run.teacher.origin))
        written = write_result(run, result)
        # The last file: it says that the folder holds a run, and one that was stopped is begun anew.
        run.folder.write_text(CONFIG_FILE, to_yaml(config))
        return written


class Kickstart:
    """One training: a first look at the teacher's states, then guided PPO.

    Args:
        config: The settings.
        run: The run.
    """

    def __init__(self, config: KickstartConfig, run: Run) -> None:
        # A student that is to go beyond its teacher is not stopped where that one would be.
        training = replace(config.training, target_return=None)
        self._config = replace(config, training=fitted_to(training, config.total_steps, _UPDATES))
        self._run = run

    def train(self, begun: PolicyGraph | None) -> tuple[PolicyGraph, dict[str, Any]]:
        """Train a new student, or go on from one begun elsewhere.

        Args:
            begun: The one to go on from; None: a new one.

        Returns:
            The student's program, and figures of the guidance.
        """
        config = self._config
        normalizer = self._first_look()
        training = GuidedTraining(
            self._run,
            config,
            self._fade(),
            warmup=round(config.critic_warmup * config.total_steps),
            proximal=config.method == "ppd",
        )
        guided = training.train(begun or self._new_student(normalizer), normalizer)
        figures = {
            "method": config.method,
            "fade": config.fade,
            "weight": config.weight,
            "last_weight": guided.weight,
        }
        return guided.program, figures

    def _first_look(self) -> Normalizer:
        """Statistics of the states that the teacher visits."""
        run = self._run
        env = make_env(run.recipe, self._config.training.n_envs)
        seed = run.seed("first look")
        rollout = collect(env, run.teacher, None, steps=_FIRST_STEPS, beta=1.0, seed=seed)
        env.close()
        run.costs.add("collect_steps", rollout.driver.size)
        states = rollout.obs[OBSERVATION]
        return Normalizer.of(states.reshape(-1, *states.shape[2:]))

    def _fade(self) -> Fade:
        """How the guidance falls; an adaptive one is told what teacher and random policy are worth."""
        config = self._config
        over = round((config.fade_fraction - config.critic_warmup) * config.total_steps)
        if config.fade != "adaptive":
            return Fade(config.fade, config.weight, over)
        episodes = Episodes.of(self._run, first_seed=_SCORE_SEED, stage="scoring", purpose="collect_steps")
        teacher = float(iqm(episodes.play(self._run.teacher, "the teacher", _SCORE_EPISODES)))
        random = float(iqm(episodes.play(None, "the random policy", _SCORE_EPISODES)))
        return Fade(config.fade, config.weight, over, teacher, random)

    def _new_student(self, normalizer: Normalizer) -> PolicyGraph:
        teacher, plan = self._run.teacher, self._run.plan
        student = plugins.load("students", "mlp").build(
            dict(teacher.observations),
            teacher.head,
            {OBSERVATION: normalizer},
            hidden=plan.hidden,
            activation=plan.activation,
            seed=self._run.seed("weights"),
        )
        graph: PolicyGraph = student.graph()
        return graph


def as_distillation(config: KickstartConfig) -> DistillConfig:
    """The settings that a kickstart shares with a distillation, as one."""
    # Several teachers guide as they are: PPO's own evaluations choose the best student, not the best teacher.
    return shared_settings(config, student="mlp", teacher_gate=False)


def load_init(config: KickstartConfig, spaces: tuple[gym.Space[Any], gym.Space[Any]]) -> PolicyGraph | None:
    """The student to go on from, where the settings name one.

    Args:
        config: The settings.
        spaces: Observation and action space.

    Raises:
        KDError: It has a memory or is a tree, is played by samples, or does not fit the environment.
    """
    if config.init is None:
        return None
    graph = graph_file.read(config.init)
    unfit = {op.kind for op in graph.ops} & {"lstm", "gru", "tree"}
    if graph.states or unfit:
        raise KDError(f"{config.init}: PPO trains mlp students, not one with {', '.join(sorted(unfit))}")
    if graph.sampled:
        raise KDError(f"{config.init}: is played by samples; kickstarting chooses and judges by greedy actions")
    check_fits(graph, spaces, config.init)
    if graph.head.kind != head_for(spaces[1]).kind:
        raise KDError(f"{config.init}: acts by {graph.head.kind}, PPO's students by {head_for(spaces[1]).kind}")
    return graph


def check(teacher: Teacher | None, spaces: tuple[gym.Space[Any], gym.Space[Any]]) -> None:
    """Refuse what PPO cannot be trained on or guided by.

    Args:
        teacher: The teacher; None where it is still to be trained.
        spaces: Observation and action space.

    Raises:
        KDError: The environment does not give one array of numbers, the teacher has a memory, or its actions are
            distributed otherwise than PPO's.
    """
    if not isinstance(spaces[0], gym.spaces.Box) or len(spaces[0].shape) == 3:
        raise KDError(f"kickstarting trains mlp students that see a Box of numbers, not {spaces[0]}")
    if teacher is None:
        return
    if teacher.recurrent:
        raise KDError(f"{teacher.origin.source}: a teacher with a memory cannot guide PPO; distil it, or name another")
    wanted = head_for(spaces[1]).spec
    has = teacher.head.spec
    if list(teacher.observations) != [OBSERVATION] or teacher.observations != observation_specs(spaces[0]):
        raise KDError(f"{teacher.origin.source}: sees {dict(teacher.observations)}, the student sees {spaces[0]}")
    if (wanted.kind, wanted.nvec, wanted.shape) != (has.kind, has.nvec, has.shape):
        raise KDError(
            f"{teacher.origin.source}: acts by {has.kind} {has.nvec or has.shape}, PPO's student by "
            f"{wanted.kind} {wanted.nvec or wanted.shape}; a KL needs the same"
        )
