"""Operations from the tensors of somebody else's network."""

from typing import Any

import numpy as np
import pytest
import torch

from kd_agent import KDError
from kd_agent.policies import PARAMS, compile_ops
from kd_agent.teachers._activation import Function
from kd_agent.teachers._archive import Archive
from kd_agent.teachers._layers import Program, gsde_latent

TANH = Function("tanh")
RNG = np.random.default_rng(0)
BATCH = RNG.normal(size=(5, 4)).astype(np.float32)


def program(tensors: dict[str, Any] | None = None, **policy_kwargs: Any) -> Program:
    arrays = {name: np.asarray(tensor, np.float32) for name, tensor in (tensors or {}).items()}
    return Program(Archive("old.zip", "", {"policy_kwargs": policy_kwargs}, arrays), "obs")


def run(built: Program, register: str | None = None) -> np.ndarray:
    found: np.ndarray = compile_ops(built.ops)({"obs": BATCH})[register or built.last]
    return found


def test_a_layer_without_a_bias_adds_nothing() -> None:
    weight = RNG.normal(size=(3, 4))
    built = program({"net.weight": weight})
    built.linear("net", "out")
    np.testing.assert_allclose(run(built), BATCH @ weight.T, rtol=1e-5, atol=1e-6)
    assert not np.signbit(built.ops[0].tensors["bias"]).any()
    assert built.used == {"net.weight"}


def test_a_bias_of_another_size_is_refused() -> None:
    built = program({"net.weight": np.ones((3, 4)), "net.bias": np.ones(2)})
    with pytest.raises(KDError, match=r"old\.zip: net\.bias does not fit its weight"):
        built.linear("net", "out")


def test_a_missing_tensor_or_one_of_another_rank_is_named() -> None:
    built = program({"net.weight": np.ones(4)})
    for name in ("net.weight", "other.weight"):
        with pytest.raises(KDError, match=f"no usable '{name}'.*--trust-teacher"):
            built.tensor(name, 2)
    assert built.used == set()


def test_a_sequence_ends_with_its_activation_or_with_a_plain_output() -> None:
    layers = torch.nn.Sequential(torch.nn.Linear(4, 6), torch.nn.ELU(), torch.nn.Linear(6, 2))
    tensors = {f"net.{name}": tensor.numpy() for name, tensor in layers.state_dict().items()}
    wanted = layers(torch.from_numpy(BATCH)).detach()
    built = program(tensors)
    assert built.indices("net") == [0, 2]
    built.sequence("net", Function("elu"), PARAMS)
    np.testing.assert_allclose(run(built), wanted, rtol=1e-5, atol=1e-6)
    active = program(tensors)
    active.sequence("net", Function("elu"))
    np.testing.assert_allclose(run(active), torch.nn.functional.elu(wanted), rtol=1e-5, atol=1e-6)
    doubled = program(tensors)
    doubled.sequence("net", Function("elu"), PARAMS, lambda tensor: 2 * tensor)
    np.testing.assert_allclose(run(doubled), 2 * wanted, rtol=1e-5, atol=1e-6)


def test_indices_are_ordered_as_numbers_and_of_that_sequence_alone() -> None:
    tensors = {name: np.ones(1) for name in ("net.10.bias", "net.2.bias", "other.net.3.bias", "net.4", "net.x.bias")}
    assert program(tensors).indices("net") == [2, 10]


@pytest.mark.parametrize("bias", [True, False])
def test_an_lstm_is_torchs_with_or_without_biases(bias: bool) -> None:
    theirs = torch.nn.LSTM(4, 3, num_layers=2, bias=bias)
    tensors = {f"lstm.{name}": tensor.detach().numpy() for name, tensor in theirs.state_dict().items()}
    built = program(tensors)
    built.lstm("lstm")
    assert built.states == {"memory.0": (6,), "memory.1": (6,)}
    assert built.used == set(tensors)
    memory = {name: np.zeros((5, *size), np.float32) for name, size in built.states.items()}
    found = compile_ops(built.ops)({"obs": BATCH, **memory})[built.last]
    wanted, _ = theirs(torch.from_numpy(BATCH)[None])
    np.testing.assert_allclose(found, wanted[0].detach(), rtol=1e-5, atol=1e-6)


def test_gsde_reads_the_policys_latent_the_features_or_a_network_of_its_own() -> None:
    assert gsde_latent(program(), "", "features", "latent", TANH) == "latent"
    assert gsde_latent(program(sde_net_arch=[]), "", "features", "latent", TANH) == "features"
    own = {
        "actor.sde_features_extractor.0.weight": RNG.normal(size=(3, 4)),
        "actor.sde_features_extractor.0.bias": [0] * 3,
    }
    built = program(own)
    register = gsde_latent(built, "actor.", "obs", "latent", TANH)
    weight = built.archive.tensors["actor.sde_features_extractor.0.weight"]
    np.testing.assert_allclose(run(built, register), np.tanh(BATCH @ weight.T), rtol=1e-5, atol=1e-6)
