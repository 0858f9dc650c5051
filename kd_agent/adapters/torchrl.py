"""A student as a module of TorchRL: `module` acts as its file says, `actor` has a distribution to train.

env = GymEnv("LunarLander-v3", categorical_action_encoding=True)
rollout = env.rollout(1000, module(load_policy("student.safetensors")))
"""

from collections.abc import Sequence
from typing import Any

import torch
from tensordict.nn import InteractionType, TensorDictModule
from torch import Tensor, nn
from torchrl.modules import IndependentNormal, ProbabilisticActor

from kd_agent.errors import KDError
from kd_agent.policies import OBSERVATION, Policy, PolicyGraph
from kd_agent.policies.torch_policy import TorchPolicy


class Acting(nn.Module):
    """Observations `[*B, *O]`, one of each key, to head parameters `[*B, P]` and actions `[*B, *A]`."""

    def __init__(self, graph: PolicyGraph) -> None:
        super().__init__()
        self.network = TorchPolicy(graph)

    def forward(self, *observations: Tensor) -> tuple[Tensor, Tensor]:
        """Of any number of leading dimensions."""
        batch: dict[str, Tensor] = {}
        leading: torch.Size = torch.Size()
        for tensor, (key, spec) in zip(observations, self.network.graph.observations.items(), strict=True):
            # TorchRL's batches are `[environments, time]` or deeper, and none at all where one state is asked about.
            leading = tensor.shape[: tensor.ndim - len(spec.shape)]
            batch[key] = tensor.reshape((-1, *spec.shape))
        params = self.network(batch)
        actions = self.network.choose(params)
        return params.reshape((*leading, params.shape[-1])), actions.reshape((*leading, *actions.shape[1:]))


class Distributed(Acting):
    """The arguments of a distribution: logits `[*B, n]`, or means and standard deviations `[*B, A]`."""

    def forward(self, *observations: Tensor) -> Any:
        """Of any number of leading dimensions."""
        params, _ = super().forward(*observations)
        if not self.network.graph.head.is_gaussian:
            return params
        mean, log_std = params.chunk(2, dim=-1)
        return mean, log_std.exp()


def module(policy: Policy, in_keys: Sequence[str] = ()) -> TensorDictModule:
    """The student as a module that writes "params" and the "action", greedy or, of a sampled student, drawn.

    Args:
        policy: A student without a memory.
        in_keys: Where its observations are found; default: "observation", or the keys of a Dict observation.

    Raises:
        KDError: It has a memory.
    """
    return TensorDictModule(Acting(_plain(policy)), in_keys=_keys(policy, in_keys), out_keys=["params", "action"])


def actor(policy: Policy, in_keys: Sequence[str] = ()) -> ProbabilisticActor:
    """The student as TorchRL's losses want it: by itself as its file says, else as `set_exploration_type` does.

    Args:
        policy: A student without a memory, with Discrete or Box actions.
        in_keys: As for `module`.

    Raises:
        KDError: It has a memory or another head.
    """
    graph = _plain(policy)
    kind = graph.head.kind
    if kind not in ("categorical", "diag_gaussian"):
        raise KDError(f"TorchRL's actor takes a categorical or diagonal Gaussian head, not {kind}")
    # The keys are the names of the distribution's own arguments.
    keys = ["loc", "scale"]
    distribution: type[Any] = IndependentNormal
    if kind == "categorical":
        keys = ["logits"]
        distribution = torch.distributions.Categorical
    return ProbabilisticActor(
        TensorDictModule(Distributed(graph), in_keys=_keys(policy, in_keys), out_keys=keys),
        in_keys=keys,
        distribution_class=distribution,
        default_interaction_type=InteractionType.RANDOM if graph.sampled else InteractionType.DETERMINISTIC,
        return_log_prob=True,
    )


def _plain(policy: Policy) -> PolicyGraph:
    if policy.recurrent:
        raise KDError("a student with a memory is not a module of TorchRL; use to_torch() and its step()")
    if policy.expects_masks:
        raise KDError(
            "a student that plays with action masks is not a module of TorchRL; use to_torch(), which takes them"
        )
    return policy.graph


def _keys(policy: Policy, in_keys: Sequence[str]) -> list[str]:
    if in_keys:
        return list(in_keys)
    own = list(policy.graph.observations)
    if own == [OBSERVATION]:
        return ["observation"]  # TorchRL's word for an observation that is not a Dict
    return own
