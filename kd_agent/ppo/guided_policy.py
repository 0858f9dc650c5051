"""PPO under a teacher's guidance: Stable-Baselines3's PPO minimises its own loss plus a weighted KL to the teacher.

    loss = policy loss + vf_coef value loss - ent_coef entropy + weight E[factor KL(teacher || student)]

Kickstarting (Schmitt et al. 2018, arXiv:1803.03835, section 3) has the factor 1; its cross-entropy differs from the
KL by the teacher's entropy alone, which has no gradient. Proximal policy distillation (Spigler 2024,
arXiv:2407.15134) has `max(ratio, 1 - clip_range)`, PPO's ratio of new to old probability of the action taken, so
that states whose actions have become likelier count more.

SB3 subtracts `ent_coef` times the entropy that a policy reports. `GuidedPolicy` reports the whole bonus, entropy
less weighted KL, and is trained under `ent_coef = 1`: PPO's own `train` stays as it is. What the KL needs beside
the observations comes with them out of `GuidedBuffer`: the teacher labels a whole rollout at once.

Letters: `T` steps, `N` environments, `B` batch, `P` head parameters, `F` numbers of an observation.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from stable_baselines3.common.buffers import RolloutBuffer
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.type_aliases import RolloutBufferSamples
from torch import Tensor, nn

from kd_agent.environments import as_mapping
from kd_agent.errors import KDError
from kd_agent.networks import ActionHead, Teacher
from kd_agent.policies import OBSERVATION, Normalizer, PolicyGraph
from kd_agent.policies.torch_policy import TorchOp, TorchPolicy


@dataclass
class Guidance:
    """How much the teacher counts; changes while the training lasts.

    Attributes:
        weight: Of the KL.
        proximal: Whether PPO's ratio weighs the states (proximal policy distillation).
        clip_range: PPO's.
        ent_coef: Of the entropy bonus.
        warming: Whether the critic warms up: the actor follows the KL alone.
        holds: Whether the actor stays as it is then.
        kl: Mean KL to the teacher in the last minibatch, in nats.
    """

    weight: float
    proximal: bool = False
    clip_range: float = 0.2
    ent_coef: float = 0.0
    warming: bool = False
    holds: bool = False
    kl: float = float("nan")

    def bonus(self, kl: Tensor, log_prob: Tensor, old_log_prob: Tensor, entropy: Tensor) -> Tensor:
        """What PPO adds to its objective for each state `[B]`.

        Args:
            kl: From teacher to student, `[B]` in nats.
            log_prob: Of the actions taken, under the present policy, `[B]`.
            old_log_prob: The same under the policy that took them, `[B]`.
            entropy: Of the present policy, `[B]`.
        """
        self.kl = float(kl.detach().mean())
        if self.proximal:
            kl = (log_prob - old_log_prob).exp().clamp_min(1 - self.clip_range) * kl
        if self.warming and self.holds:
            return torch.zeros_like(kl)
        if self.warming:
            return -self.weight * kl
        return self.ent_coef * entropy - self.weight * kl


class Labelled(NamedTuple):
    """Observations `[B, *O]` with the teacher's rows `[B, P]` and the log-probabilities `[B]` of the actions taken."""

    observations: Tensor
    teacher: Tensor
    old_log_prob: Tensor


def as_it_is(rows: Tensor) -> Tensor:
    """The teacher's own rows."""
    return rows


class GuidedBuffer(RolloutBuffer):
    """A rollout that the teacher labels when it is complete; its minibatches' observations are `Labelled`.

    Args:
        arguments: As SB3's.
        teacher: Who labels.
        guide: From the teacher's rows `[B, P]` to those that the student is held against.
        settings: As SB3's.
    """

    def __init__(
        self, *arguments: Any, teacher: Teacher, guide: Callable[[Tensor], Tensor] = as_it_is, **settings: Any
    ) -> None:
        super().__init__(*arguments, **settings)
        self._teacher = teacher
        self._guide = guide
        self._rows = torch.empty(0)

    def compute_returns_and_advantage(self, last_values: Tensor, dones: Any) -> None:
        """As SB3's, and label all states `[N * T]`, in the order in which they are drawn.

        Args:
            last_values: As SB3's.
            dones: As SB3's.
        """
        # SB3 calls this when the rollout is complete, and once: the teacher answers one large batch.
        super().compute_returns_and_advantage(last_values, dones)
        # The buffer keeps them in the space's dtype, MuJoCo's float64; a teacher is shown what it is shown elsewhere.
        rows = self._teacher(as_mapping(self.swap_and_flatten(self.observations))).params
        if not torch.isfinite(rows).all():
            raise KDError("the teacher answered NaN or infinity")
        self._rows = self._guide(rows).to(self.device)

    def _get_samples(self, batch_inds: Any, env: Any = None) -> RolloutBufferSamples:
        # SB3 hands the observations on as they are: whatever is asked of them comes along there.
        drawn = super()._get_samples(batch_inds, env)
        labelled: Any = Labelled(drawn.observations, self._rows[batch_inds], drawn.old_log_prob)
        return drawn._replace(observations=labelled)


class Actor(nn.Module):
    """A student's program as SB3's last layer of the actor: from flat observations to acting parameters.

    Attributes:
        policy: The program, to be trained.
    """

    def __init__(self, graph: PolicyGraph) -> None:
        super().__init__()
        self.policy = TorchPolicy(graph)
        self._shape = graph.observations[OBSERVATION].shape
        self._acting = graph.head.num_acting

    def row(self, flat: Tensor) -> Tensor:
        """Head parameters `[B, P]` of observations `[B, F]`."""
        row: Tensor = self.policy(flat.reshape(len(flat), *self._shape))
        return row

    def log_std(self) -> nn.Parameter:
        """The log standard deviations `[A]` of a Gaussian head."""
        # A Gaussian's program ends by appending them to the means; nothing else is appended.
        [append] = [op for op in self.policy.ops if isinstance(op, TorchOp) and op.op.kind == "append"]
        found = append.tensor("value")
        assert isinstance(found, nn.Parameter)
        return found

    def forward(self, flat: Tensor) -> Tensor:
        """The acting columns `[B, P']`; log standard deviations are PPO's own to read."""
        return self.row(flat)[:, : self._acting]


class Standardise(nn.Module):
    """Frozen normalisation in front of the critic."""

    def __init__(self, normalizer: Normalizer) -> None:
        super().__init__()
        self._clip = normalizer.clip
        self.register_buffer("mean", torch.tensor(normalizer.mean, dtype=torch.float32).flatten())
        self.register_buffer("scale", torch.tensor(normalizer.scale).flatten())

    def forward(self, flat: Tensor) -> Tensor:
        """`[B, F]`, normalised."""
        centred = (flat - self.get_buffer("mean")) * self.get_buffer("scale")
        return centred.clamp(-self._clip, self._clip)


class GuidedPolicy(ActorCriticPolicy):
    """An SB3 policy whose actor is a student's program and whose entropy term knows the teacher.

    Args:
        arguments: As SB3's.
        graph: The student's program; it sees one array of numbers, and has no memory.
        normalizer: Frozen statistics for the critic, which is a network of its own.
        critic: The critic's hidden layers.
        guidance: How much the teacher counts.
        settings: As SB3's.
    """

    def __init__(
        self,
        *arguments: Any,
        graph: PolicyGraph,
        normalizer: Normalizer,
        critic: tuple[int, ...],
        guidance: Guidance,
        **settings: Any,
    ) -> None:
        # Before SB3's own, which calls `_build`.
        self._graph = graph
        self._normalizer = normalizer
        self.guidance = guidance
        self._head = ActionHead(graph.head)
        # No hidden layers of SB3's in front of the student: `Actor` takes the observations themselves.
        settings["net_arch"] = {"pi": [], "vf": list(critic)}
        super().__init__(*arguments, **settings)

    def _build(self, lr_schedule: Any) -> None:
        super()._build(lr_schedule)
        self.action_net = Actor(self._graph)
        self.mlp_extractor.value_net.insert(0, Standardise(self._normalizer))
        if self._graph.head.is_gaussian:
            self.log_std = self.actor.log_std()
        # Anew: SB3's knows the parameters of the layer that has just been replaced.
        settings: dict[str, Any] = {"lr": lr_schedule(1), **self.optimizer_kwargs}
        self.optimizer = self.optimizer_class(self.parameters(), **settings)

    @property
    def actor(self) -> Actor:
        """The student."""
        assert isinstance(self.action_net, Actor)
        return self.action_net

    def evaluate_actions(self, obs: Any, actions: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Values `[B, 1]`, log-probabilities `[B]` of `actions`, and the whole bonus `[B]`.

        Args:
            obs: `Labelled` observations.
            actions: The actions taken.
        """
        labelled: Labelled = obs
        values, log_prob, entropy = super().evaluate_actions(labelled.observations, actions)
        assert entropy is not None, "only gSDE has no entropy"
        if self.guidance.warming:
            # The policy loss sends no gradient through it then; the KL does, through the rows.
            log_prob = log_prob.detach()
        row = self.actor.row(labelled.observations.to(torch.float32).flatten(1))
        kl = self._head.kl(labelled.teacher, row)
        return values, log_prob, self.guidance.bonus(kl, log_prob, labelled.old_log_prob, entropy)

    def program(self) -> PolicyGraph:
        """The student as it stands."""
        return self.actor.policy.program()


@dataclass(frozen=True)
class Fade:
    """How the weight of the teacher falls.

    Attributes:
        kind: "linear" reaches 0 at `over` steps, "exponential" 1 % of the first weight there; "adaptive" is
            the part of the way from the random policy to the teacher that the student still lags behind.
        weight: The first weight.
        over: Environment steps, after the warm-up.
        teacher: The teacher's mean return.
        random: The random policy's.
    """

    kind: str
    weight: float
    over: int
    teacher: float = 0.0
    random: float = 0.0

    def at(self, steps: int, score: float) -> float:
        """The weight of the moment.

        Args:
            steps: Environment steps after the warm-up; negative during it.
            score: The student's mean return; NaN: not known.
        """
        passed = max(steps, 0) / max(self.over, 1)
        if self.kind == "linear":
            return self.weight * max(0.0, 1 - passed)
        if self.kind == "exponential":
            return float(self.weight * 0.01**passed)
        behind = (self.teacher - score) / max(self.teacher - self.random, 1e-8)
        if not np.isfinite(behind):
            # Before the first episode has ended.
            return self.weight
        return self.weight * float(np.clip(behind, 0, 1))
