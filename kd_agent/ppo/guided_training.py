"""One training by PPO under guidance: from a student's program to the best that it becomes."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.vec_env import VecNormalize
from torch import Tensor

from kd_agent.policies import HeadSpec, Normalizer, Policy, PolicyGraph
from kd_agent.ppo.before_squash import BeforeSquash
from kd_agent.ppo.guided_policy import Fade, Guidance, GuidedBuffer, GuidedPolicy, as_it_is
from kd_agent.ppo.training import Keeper, Score, make_ppo, recent_returns, training_env
from kd_agent.runs import Run
from kd_agent.settings import RunConfig


@dataclass(frozen=True)
class Purposes:
    """As what the environment steps of a training are booked.

    Attributes:
        training: Those of PPO itself.
        evaluations: Those of the evaluations that choose the best.
    """

    training: str = "collect_steps"
    evaluations: str = "validation_steps"


@dataclass(frozen=True)
class Guided:
    """What a training came to.

    Attributes:
        program: The student that was the best of all evaluations.
        evaluations: Environment steps and score of each.
        weight: Of the guidance, as it ended.
    """

    program: PolicyGraph
    evaluations: list[tuple[int, float]]
    weight: float

    @property
    def steps(self) -> int:
        """Environment steps of PPO: the last evaluation is at its end."""
        return self.evaluations[-1][0]


@dataclass(frozen=True)
class GuidedTraining:
    """A training, complete but for where it begins.

    Attributes:
        run: Its teacher guides, in its environment; it shows the training and pays for it.
        config: Seed, device and PPO's settings.
        fade: How the weight of the teacher falls.
        warmup: Environment steps in which the critic learns while the actor follows the teacher alone.
        proximal: Whether PPO's ratio weighs the states (proximal policy distillation).
        holds: Whether the actor stays as it is during the warm-up.
        guide: From the teacher's rows `[B, P]` to those that the student is held against.
        target_kl: KL to the policy that acted, in nats, at which an update ends; None: it goes on.
        score: What the best of all evaluations is best by.
        stage: What the reporter calls it.
        purposes: As what its steps are booked.
    """

    run: Run
    config: RunConfig
    fade: Fade
    warmup: int
    proximal: bool = False
    holds: bool = False
    guide: Callable[[Tensor], Tensor] = as_it_is
    target_kl: float | None = None
    score: Score = "iqm"
    stage: str = "kickstarting"
    purposes: Purposes = Purposes()

    def train(self, begun: PolicyGraph, normalizer: Normalizer) -> Guided:
        """Train a student.

        Args:
            begun: Its program; it sees one array of numbers, and has no memory.
            normalizer: Frozen statistics for the critic.
        """
        run, training = self.run, self.config.training
        guidance = Guidance(
            self.fade.weight,
            self.proximal,
            clip_range=training.clip_range,
            ent_coef=training.ent_coef,
            holds=self.holds,
        )
        env = self._env(begun.head)
        model = self._model(env, begun, normalizer, guidance)
        assert isinstance(model.policy, GuidedPolicy)
        best = Best(model.policy)
        fading = Fading(guidance, self.fade, self.warmup)
        evaluations: list[tuple[int, float]] = []
        with run.reporter.stage(self.stage, training.total_steps, "steps") as advance:
            keeper = Keeper(
                training,
                run.recipe,
                advance,
                player=best.player,
                keep=best.keep,
                watch=lambda score: evaluations.append((model.num_timesteps, score)),
                score=self.score,
            )
            model.learn(training.total_steps, callback=[fading, keeper], tb_log_name="ppo")
            keeper.check()
        env.close()
        run.costs.add(self.purposes.training, model.num_timesteps)
        run.costs.add(self.purposes.evaluations, keeper.steps)
        run.costs.add("gradient_steps", gradient_steps(model))
        return Guided(best.program, evaluations, guidance.weight)

    def _env(self, head: HeadSpec) -> VecNormalize:
        """Where it is trained."""
        training = self.config.training
        # Observations are normalised within the student, and within the critic; rewards here.
        bare = replace(self.config, training=replace(training, normalize=False))
        env = training_env(bare, self.run.recipe)
        if head.kind == "squashed_gaussian":
            env = BeforeSquash(env, head)
        return VecNormalize(env, norm_obs=False, gamma=training.gamma)

    def _model(self, env: VecNormalize, begun: PolicyGraph, normalizer: Normalizer, guidance: Guidance) -> PPO:
        return make_ppo(
            self.config,
            env,
            self.run.folder.path,
            policy=GuidedPolicy,
            # State-dependent noise has no entropy of closed form.
            use_sde=False,
            # The bonus is weighed by the guidance.
            ent_coef=1.0,
            rollout_buffer_class=GuidedBuffer,
            rollout_buffer_kwargs={"teacher": self.run.teacher, "guide": self.guide},
            target_kl=self.target_kl,
            policy_kwargs={
                "graph": begun,
                "normalizer": normalizer,
                "guidance": guidance,
                "critic": self.config.training.hidden,
            },
        )


class Best:
    """The student of a policy in training, as it was when it was kept."""

    def __init__(self, policy: GuidedPolicy) -> None:
        self._policy = policy
        self.program = policy.program()

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
        self._guidance = guidance
        self._fade = fade
        self._warmup = warmup

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
        recent = recent_returns(self.model)
        if not recent:
            return float("nan")
        return float(np.mean(recent))


def gradient_steps(model: Any) -> int:
    """How many minibatches a PPO was trained on."""
    batches = -(-model.n_steps * model.n_envs // model.batch_size)
    return int(model._n_updates * batches)
