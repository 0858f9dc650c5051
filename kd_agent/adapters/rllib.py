"""A student as an RLlib module (new API stack): to act in RLlib, as a frozen agent among others, or to learn on.

    spec = module_spec("student.safetensors")
    config = PPOConfig().environment("LunarLander-v3").rl_module(rl_module_spec=spec)

RLlib maps actions from [-1, 1] to a Box by default; a student gives them in the environment's units:
`config.environment(..., normalize_actions=False, clip_actions=True)`. One that is played by samples is drawn from in
evaluations too, whatever `explore` is there.
"""

import os
from typing import Any

import torch
from ray.rllib.core.columns import Columns
from ray.rllib.core.rl_module.apis.value_function_api import ValueFunctionAPI
from ray.rllib.core.rl_module.rl_module import RLModuleSpec
from ray.rllib.core.rl_module.torch.torch_rl_module import TorchRLModule
from torch import Tensor, nn

from kd_agent.errors import KDError
from kd_agent.loading import load_policy
from kd_agent.networks import check_fits
from kd_agent.policies import OBSERVATION

_CRITIC_UNITS = 64
"""Width of the new critic, as in the export to Stable-Baselines3."""


def module_spec(student: str | os.PathLike[str], **settings: Any) -> RLModuleSpec:
    """The specification that RLlib's configurations take.

    Args:
        student: The path of a saved student; each of RLlib's workers reads it.
        settings: RLModuleSpec's own.
    """
    return RLModuleSpec(module_class=StudentModule, model_config={"student": os.fspath(student)}, **settings)


class StudentModule(TorchRLModule, ValueFunctionAPI):
    """A student's network with RLlib's row of distribution parameters, and a new critic for who trains it.

    Raises:
        KDError: The student does not fit the spaces, has a memory, or acts in a way that RLlib has no row for.
    """

    def setup(self) -> None:
        """Read the student named in `model_config` and check it."""
        policy = load_policy(self.model_config["student"])
        graph = policy.graph
        head = graph.head
        # RLlib's row of logits or of means and log standard deviations is ours; its other distributions have none.
        if graph.states or head.kind not in ("categorical", "diag_gaussian") or any(head.start) or head.expects_masks:
            raise KDError("RLlib takes students without a memory or masks, with actions of Discrete (from 0 on) or Box")
        check_fits(graph, (self.observation_space, self.action_space), str(self.model_config["student"]))
        self.network = policy.to_torch()
        features = sum(spec.features for spec in graph.observations.values())
        self.critic = nn.Sequential(nn.Linear(features, _CRITIC_UNITS), nn.Tanh(), nn.Linear(_CRITIC_UNITS, 1))

    def _forward(self, batch: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        return {Columns.ACTION_DIST_INPUTS: self.network(batch[Columns.OBS])}

    def _forward_inference(self, batch: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        answer: dict[str, Any] = super()._forward_inference(batch, **kwargs)
        if self.network.graph.sampled:
            # Where nobody explores, RLlib acts by the distribution's mode, unless an action is there already.
            rows = answer[Columns.ACTION_DIST_INPUTS]
            answer[Columns.ACTIONS] = self.get_inference_action_dist_cls().from_logits(rows).sample()
        return answer

    def compute_values(self, batch: dict[str, Any], embeddings: Any = None) -> Tensor:
        """What the critic expects, `[B]`.

        Args:
            batch: RLlib's columns, observations `[B, *O]` (by key) among them.
            embeddings: Not used: actor and critic share nothing.
        """
        observations = batch[Columns.OBS]
        if not isinstance(observations, dict):
            observations = {OBSERVATION: observations}
        parts: list[Tensor] = []
        for key in self.network.graph.observations:
            parts.append(observations[key].to(torch.float32).flatten(1))
        values: Tensor = self.critic(torch.cat(parts, dim=-1))[:, 0]
        return values
