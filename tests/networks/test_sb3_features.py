"""A program's operations as a features extractor of Stable-Baselines3."""

import json

import gymnasium as gym
import numpy as np
import torch
from sample_graphs import linear

from kd_agent.networks.sb3_features import ProgramFeatures, describe
from kd_agent.policies.graph import Op
from kd_agent.policies.normalizer import Normalizer

SPACE = gym.spaces.Box(-1, 1, (4,), np.float32)


def operations() -> list[Op]:
    return [Normalizer(np.ones(4), np.full(4, 2.0), clip=3.0).op("obs", "unit"), linear("unit", "features", 3, 4)]


def filled(ops: list[Op]) -> ProgramFeatures:
    """An extractor that has been described as text, as a zip does."""
    plain = json.loads(json.dumps([describe(op) for op in ops]))
    extractor = ProgramFeatures(SPACE, plain, "features", 3)
    state = {}
    for index, op in enumerate(ops):
        state |= {f"ops.{index}.t_{role}": torch.tensor(tensor) for role, tensor in op.tensors.items()}
    extractor.load_state_dict(state)
    return extractor


def test_it_computes_what_the_operations_do() -> None:
    normaliser, layer = operations()
    extractor = filled([normaliser, layer])
    x = np.random.default_rng(0).normal(size=(7, 4)).astype(np.float32)
    unit = ((x - normaliser.tensors["mean"]) * normaliser.tensors["scale"]).clip(-3, 3)
    expected = unit @ layer.tensors["weight"].T + layer.tensors["bias"]
    assert extractor.features_dim == 3
    np.testing.assert_allclose(extractor(torch.from_numpy(x)).detach().numpy(), expected, atol=1e-6)


def test_layers_are_trained_and_a_normaliser_is_not() -> None:
    extractor = filled(operations())
    assert sorted(name for name, _ in extractor.named_parameters()) == ["ops.1.t_bias", "ops.1.t_weight"]
    assert sorted(name for name, _ in extractor.named_buffers()) == ["ops.0.t_mean", "ops.0.t_scale"]


def test_observations_by_key_are_registers() -> None:
    extractor = ProgramFeatures(SPACE, [describe(Op("concatenate", ("a", "b"), "features"))], "features", 3)
    a, b = torch.ones(2, 1), torch.zeros(2, 2)
    assert torch.equal(extractor({"a": a, "b": b}), torch.cat([a, b], dim=1))
