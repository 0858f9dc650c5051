"""Beyond the teacher: a small student trained by PPO, which a teacher guides at first and less and less."""

from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.vec_env import VecNormalize

from kd_agent import plugins
from kd_agent.environments import Recipe, observation_specs
from kd_agent.environments.vector import make_env, spaces_of
from kd_agent.errors import KDError
from kd_agent.evaluation import iqm, judge
from kd_agent.networks import Teacher, check_fits, head_for
from kd_agent.policies import OBSERVATION, Normalizer, Policy, PolicyGraph
from kd_agent.policies import file as graph_file
from kd_agent.ppo.guided_policy import Fade, Guidance, GuidedBuffer, GuidedPolicy
from kd_agent.ppo.teacher import Keeper, fitted_to, make_ppo, trained_teacher, training_env
from kd_agent.rollouts import collect, evaluate
from kd_agent.runs import Reporter, RunFolder, next_folder, open_run
from kd_agent.runs.record import provenance, timed
from kd_agent.settings import DistillConfig, KickstartConfig, resolve, to_yaml
from kd_agent.students import default_hidden
from kd_agent.teachers import load_named, load_teacher, named_recipe

STUDENT_FILE = "student.safetensors"
_SCORE_SEED = 15_000
_SCORE_EPISODES = 32
_FIRST_STEPS = 512
_UPDATES = 64


def kickstart(config: KickstartConfig | Mapping[str, Any], teacher: Teacher | None = None) -> dict[str, Any]:
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
    shared = as_distillation(config)
    recipe = named_recipe(shared)
    spaces = spaces_of(recipe)
    given = teacher or load_named(shared, spaces)
    begun = load_init(config, spaces)
    check(given, spaces)
    reporter, seconds = Reporter(quiet=config.quiet, progress=config.progress), dict[str, float]()
    with open_run(Path(config.out) if config.out else next_folder(recipe.env_id), resume=False) as folder:
        reporter.say(f"run folder: {folder.path}")
        with timed(seconds, "teacher_s"):
            teacher = given or load_teacher(str(trained_teacher(config, reporter)), env=spaces)
        with timed(seconds, "distill_s"):
            student, figures, cost = Kickstart(config, recipe, teacher, folder, reporter).run(begun)
        graph_file.write(replace(student, provenance=provenance(shared, recipe, teacher)), folder.path / STUDENT_FILE)
        folder.write_json("teacher.json", vars(teacher.origin))
        folder.write_text("config.yaml", to_yaml(config))
        with timed(seconds, "evaluate_s"):
            result = judge(shared, recipe, teacher, folder.path / STUDENT_FILE, reporter)
        result["cost"] = {**cost, **seconds}
        result["kickstart"] = {**figures, "overtook": result["verdict"]["difference_ci"][0] > 0}
        plugins.load("report", "html").write(folder, result)
        folder.write_json("result.json", result)
    return result


class Kickstart:
    """One training: a first look at the teacher's states, then guided PPO."""

    def __init__(
        self, config: KickstartConfig, recipe: Recipe, teacher: Teacher, folder: RunFolder, reporter: Reporter
    ) -> None:
        self._config, self._recipe, self._teacher = config, recipe, teacher
        self._folder, self._reporter = folder, reporter
        self._steps = 0

    def run(self, begun: PolicyGraph | None) -> tuple[PolicyGraph, dict[str, Any], dict[str, int]]:
        """Train a new student, or go on from one begun elsewhere.

        Returns:
            The student's program, figures of the guidance, and what it cost.
        """
        training = replace(self._config.training, target_return=None)
        config = replace(self._config, training=fitted_to(training, self._config.total_steps, _UPDATES))
        normalizer, fade = self._first_look(), self._fade()
        guidance = Guidance(fade.weight, config.method == "ppd", config.training.clip_range, config.training.ent_coef)
        bare = replace(config, training=replace(config.training, normalize=False))
        env = VecNormalize(training_env(bare, self._recipe), norm_obs=False, gamma=config.training.gamma)
        model = make_ppo(
            config, env, self._folder.path, policy=GuidedPolicy, use_sde=False, ent_coef=1.0,
            rollout_buffer_class=GuidedBuffer, rollout_buffer_kwargs={"teacher": self._teacher},
            policy_kwargs={"graph": begun or self._new(normalizer), "normalizer": normalizer, "guidance": guidance,
                           "critic": config.training.hidden},
        )  # fmt: skip
        assert isinstance(model.policy, GuidedPolicy)
        best = Best(model.policy)
        fading = Fading(guidance, fade, round(config.critic_warmup * config.total_steps))
        with self._reporter.stage("kickstarting", config.training.total_steps, "steps") as advance:
            keeper = Keeper(config.training, self._recipe, advance, player=best.player, keep=best.keep)
            model.learn(config.training.total_steps, callback=[fading, keeper], tb_log_name="ppo")
            keeper.check()
        env.close()
        figures = {"method": config.method, "fade": config.fade, "weight": fade.weight, "last_weight": guidance.weight}
        cost = {
            "env_steps": self._steps + model.num_timesteps,
            "gradient_steps": gradient_steps(model),
            "exam_steps": keeper.steps,
        }
        return best.program, figures, cost

    def _first_look(self) -> Normalizer:
        """Statistics of the states that the teacher visits."""
        env = make_env(self._recipe, self._config.training.n_envs)
        rollout = collect(env, self._teacher, None, steps=_FIRST_STEPS, beta=1.0, seed=(self._config.seed,))
        env.close()
        self._steps += rollout.driver.size
        states = rollout.obs[OBSERVATION]
        return Normalizer.of(states.reshape(-1, *states.shape[2:]))

    def _fade(self) -> Fade:
        """How the guidance falls; an adaptive one is told what teacher and chance are worth."""
        config = self._config
        over = round((config.fade_fraction - config.critic_warmup) * config.total_steps)
        if config.fade != "adaptive":
            return Fade(config.fade, config.weight, over)
        return Fade(config.fade, config.weight, over, self._score(self._teacher), self._score(None))

    def _score(self, player: Any) -> float:
        seeds = range(_SCORE_SEED, _SCORE_SEED + _SCORE_EPISODES)
        played = evaluate(player, self._recipe, seeds=seeds)
        self._steps += int(played.lengths.sum())
        return float(iqm(played.returns))

    def _new(self, normalizer: Normalizer) -> PolicyGraph:
        config, specs = self._config, dict(self._teacher.observations)
        hidden = default_hidden(self._teacher, specs) if config.hidden is None else config.hidden
        student = plugins.load("students", "mlp").build(
            specs, self._teacher.head, {OBSERVATION: normalizer}, hidden=hidden, activation=config.activation,
            seed=config.seed,
        )  # fmt: skip
        graph: PolicyGraph = student.graph()
        return graph


class Best:
    """The student of a policy in training, as it was when it was kept."""

    def __init__(self, policy: GuidedPolicy) -> None:
        self._policy, self.program = policy, policy.program()

    def player(self) -> Policy:
        """The student as it is now."""
        return Policy(self._policy.program())

    def keep(self) -> None:
        """Keep it."""
        self.program = self._policy.program()


class Fading(BaseCallback):
    """Lets the guidance fade, and ends the critic's warm-up."""

    def __init__(self, guidance: Guidance, fade: Fade, warmup: int) -> None:
        super().__init__()
        self._guidance, self._fade, self._warmup = guidance, fade, warmup

    def _on_step(self) -> bool:
        return True

    def _on_rollout_end(self) -> None:
        guidance = self._guidance
        guidance.warming = self.num_timesteps <= self._warmup
        guidance.weight = self._fade.at(self.num_timesteps - self._warmup, self._score())
        self.logger.record("kickstart/weight", guidance.weight)
        self.logger.record("kickstart/warming", float(guidance.warming))
        if np.isfinite(guidance.kl):
            self.logger.record("kickstart/kl", guidance.kl)

    def _score(self) -> float:
        recent = [episode["r"] for episode in self.model.ep_info_buffer or ()]
        return float(np.mean(recent)) if recent else float("nan")


def gradient_steps(model: Any) -> int:
    """How many minibatches a PPO was trained on."""
    batches = -(-model.n_steps * model.n_envs // model.batch_size)
    return int(model._n_updates * batches)


def as_distillation(config: KickstartConfig) -> DistillConfig:
    """The settings that a kickstart shares with a distillation, as one."""
    known = {f.name for f in fields(KickstartConfig)}
    return DistillConfig(**{f.name: getattr(config, f.name) for f in fields(DistillConfig) if f.name in known})


def load_init(config: KickstartConfig, spaces: tuple[gym.Space[Any], gym.Space[Any]]) -> PolicyGraph | None:
    """The student to go on from, where the settings name one.

    Raises:
        KDError: It has a memory or is a tree, or does not fit the environment.
    """
    if config.init is None:
        return None
    graph = graph_file.read(config.init)
    unfit = {op.kind for op in graph.ops} & {"lstm", "gru", "tree"}
    if graph.states or unfit:
        raise KDError(f"{config.init}: PPO trains mlp students, not one with {', '.join(sorted(unfit))}")
    check_fits(graph, spaces, config.init)
    if graph.head.kind != head_for(spaces[1]).kind:
        raise KDError(f"{config.init}: acts by {graph.head.kind}, PPO's students by {head_for(spaces[1]).kind}")
    return graph


def check(teacher: Teacher | None, spaces: tuple[gym.Space[Any], gym.Space[Any]]) -> None:
    """Refuse what PPO cannot be trained on or guided by.

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
    wanted, has = head_for(spaces[1]).spec, teacher.head.spec
    if list(teacher.observations) != [OBSERVATION] or teacher.observations != observation_specs(spaces[0]):
        raise KDError(f"{teacher.origin.source}: sees {dict(teacher.observations)}, the student sees {spaces[0]}")
    if (wanted.kind, wanted.nvec, wanted.shape) != (has.kind, has.nvec, has.shape):
        raise KDError(f"{teacher.origin.source}: acts by {has.kind} {has.nvec or has.shape}, PPO's student by "
                      f"{wanted.kind} {wanted.nvec or wanted.shape}; a KL needs the same")  # fmt: skip
