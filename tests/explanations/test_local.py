"""What matters in one state: what the policy reads there, and nothing else."""

from collections.abc import Mapping

import numpy as np
import torch
from known_policies import graph_of
from samples import HEADS

from kd_agent.explanations.features import features_of
from kd_agent.explanations.local import local_effects
from kd_agent.policies.graph import ObservationSpec
from kd_agent.policies.policy import Policy

HEAD = HEADS["categorical"]
REFERENCES = np.random.default_rng(0).normal(size=(64, 4)).astype(np.float32)


def test_a_feature_that_is_not_read_has_no_effect_and_one_that_decides_has_most() -> None:
    weights = [np.zeros(4), np.float32([0, 3, 0, 0.5]), np.zeros(4), np.zeros(4)]
    policy = Policy(graph_of(weights, HEAD.spec))
    features = features_of(policy.graph.observations)
    here = {"obs": np.float32([[1, 1, 1, 1]])}
    found = local_effects(policy.params_batch, HEAD, features, here, {"obs": REFERENCES})
    assert [effect.name for effect in found] == ["x[0]", "x[1]", "x[2]", "x[3]"]
    assert found[0].kl == found[2].kl == found[0].changed == 0
    assert found[1].kl > found[3].kl > 0
    # Action 1 is chosen while 3 x + 0.5 > 0.
    assert found[1].changed == (REFERENCES[:, 1] < -0.5 / 3).mean()
    logits = 3 * REFERENCES[:, 1] + 0.5
    rows = torch.zeros(64, 4)
    rows[:, 1] = torch.from_numpy(logits)
    own = torch.tensor([[0, 3.5, 0, 0]]).repeat(64, 1)
    np.testing.assert_allclose(found[1].kl, float(HEAD.kl(own, rows).mean()), rtol=1e-5)


def test_what_hardly_matters_has_no_effect_below_nothing() -> None:
    weights = [np.float32([1e-4, 2e-4, -1e-4, 3e-4]) * k for k in range(4)]
    policy = Policy(graph_of(weights, HEAD.spec))
    features = features_of(policy.graph.observations)
    found = local_effects(policy.params_batch, HEAD, features, {"obs": np.float32([[1, 1, 1, 1]])}, {"obs": REFERENCES})
    assert min(effect.kl for effect in found) >= 0


def test_the_state_itself_is_left_as_it_is_and_a_patch_is_covered_with_the_median() -> None:
    specs = {"obs": ObservationSpec((16, 16, 3), "uint8")}
    features = features_of(specs)
    states = np.random.default_rng(1).integers(0, 256, (9, 16, 16, 3)).astype(np.uint8)
    here = {"obs": states[:1].copy()}
    asked = []

    def ask(observations: Mapping[str, np.ndarray]) -> np.ndarray:
        asked.append(observations["obs"])
        bright = observations["obs"][:, :2, :2].mean((1, 2, 3)) / 255
        return np.stack([bright, 0 * bright, 0 * bright, 0 * bright], axis=1).astype(np.float32)

    found = local_effects(ask, HEAD, features, here, {"obs": states})
    assert [effect.name for effect in found if effect.kl] == ["obs patch 0, 0"]
    np.testing.assert_array_equal(here["obs"], states[:1])
    covered = asked[1][0, :2, :2]
    np.testing.assert_array_equal(covered, np.median(states[:, :2, :2], axis=0).astype(np.uint8))
