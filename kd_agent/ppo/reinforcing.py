"""PPO that goes on from a student that is good already.

Such a student collapses under a usual PPO for reasons that are known, and each is met here. The critic knows
nothing yet: it is warmed up while the actor stays as it is. The steps are too large: the rate falls to 0, and an update
ends at a KL. The exploration begins too wide: its standard deviation is bounded. Nothing remembers the
teacher: there is a KL to it, which fades.

Letters: `B` batch, `P` head parameters.
"""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from kd_agent.networks import ActionHead
from kd_agent.policies import OBSERVATION, Array, Normalizer, PolicyGraph
from kd_agent.ppo.guided_policy import Fade
from kd_agent.ppo.guided_training import Guided, GuidedTraining, Purposes
from kd_agent.ppo.training import fitted_to
from kd_agent.runs import PPO_SELECTION_STEPS, PPO_STEPS, Run
from kd_agent.settings import TrainingConfig

_UPDATES = 20
"""Updates of PPO at least, between which the weight of the teacher changes."""
_EVALUATIONS = 5
"""Of the student in training."""
# Chosen by measurement: docs/then_ppo.md has what other values come to.
_WEIGHT = 0.1
"""Of the KL to the teacher, at first."""
_WARMUP = 0.1
"""Share of the steps in which the critic alone learns."""
_FADED = 0.6
"""Share of the steps after which the teacher counts no more."""
_TARGET_KL = 0.03
"""KL to the policy that acted, in nats, at which an update ends (SB3's PPO ends it at one and a half of it)."""
_NARROWEST, _WIDEST = 0.05, 0.3
"""Bounds of the first standard deviation of an action, as a share of half its range; before a squash that is 1."""


def reinforce(run: Run, distilled: PolicyGraph, steps: int) -> Guided:
    """Train a distilled student on by PPO.

    Args:
        run: The run that it was distilled in.
        distilled: Its program; it sees one array of numbers, and has no memory.
        steps: Environment steps; they are rounded up to whole updates.

    Returns:
        The best of the evaluations, by its mean return.
    """
    training = gentle(run.config.training, steps)
    begun = exploring(distilled)
    total = training.total_steps
    guided = GuidedTraining(
        run,
        replace(run.config, training=training, seed=run.seed("reinforcement") % 2**31),
        Fade("linear", _WEIGHT, over=round((_FADED - _WARMUP) * total)),
        warmup=round(_WARMUP * total),
        holds=True,
        guide=guide_of(run, begun),
        target_kl=_TARGET_KL,
        score="mean",
        stage="reinforcing",
        purposes=Purposes(PPO_STEPS, PPO_SELECTION_STEPS),
    )
    return guided.train(begun, normalizer_of(begun))


def gentle(training: TrainingConfig, steps: int) -> TrainingConfig:
    """PPO's settings for going on from a student that is good already.

    Args:
        training: Those for the environment, which are for a training from nothing: only its discounts are taken.
        steps: The budget in environment steps.
    """
    settings = TrainingConfig(
        gamma=training.gamma,
        gae_lambda=training.gae_lambda,
        hidden=(64, 64),
        n_envs=16,
        n_steps=256,
        batch_size=128,
        n_epochs=8,
        clip_range=0.2,
        learning_rate=3e-4,
        linear_decay=True,
        eval_every=max(steps // _EVALUATIONS, 1),
    )
    return fitted_to(settings, steps, _UPDATES)


def exploring(graph: PolicyGraph) -> PolicyGraph:
    """A student with the standard deviations that PPO begins with: its own within bounds.

    Args:
        graph: The student's program.
    """
    head = graph.head
    if not head.is_gaussian:
        return graph
    half_range: Array = np.ones(len(head.low))
    if head.kind == "diag_gaussian":
        half_range = (np.asarray(head.high) - np.asarray(head.low)) / 2
    # A Gaussian's program ends by appending them to the means.
    *ops, append = graph.ops
    log_std = np.clip(append.tensors["value"], np.log(_NARROWEST * half_range), np.log(_WIDEST * half_range))
    return replace(graph, ops=(*ops, replace(append, tensors={"value": log_std.astype(np.float32)})))


def guide_of(run: Run, begun: PolicyGraph) -> Callable[[Tensor], Tensor]:
    """From the teacher's rows `[B, P]` to those that the student is held against.

    Of a Gaussian the means are the teacher's and the standard deviations those that the student begins with: so the KL
    counts in units of the student's exploration, whatever the teacher's is, or was stated to be. Of anything else
    they are the rows that the student was fitted to.

    Args:
        run: The run.
        begun: The student that PPO begins with.
    """
    head = ActionHead(begun.head)
    if head.spec.is_gaussian:
        log_std = torch.from_numpy(begun.ops[-1].tensors["value"])

        def _with_own_std(rows: Tensor) -> Tensor:
            mean, _ = rows.chunk(2, dim=-1)
            return torch.cat([mean, log_std.expand(len(mean), -1)], dim=-1)

        return _with_own_std
    temperature = run.plan.temperature if run.plan.convention == "rusu" else 1.0
    return lambda rows: head.soften(rows, temperature)


def normalizer_of(graph: PolicyGraph) -> Normalizer:
    """The statistics that a student's program normalises its observations by.

    Args:
        graph: The program.
    """
    [step] = [op for op in graph.ops if op.kind == "normalise" and op.inputs == (OBSERVATION,)]
    return Normalizer.of_op(step)
