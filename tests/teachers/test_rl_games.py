"""Checkpoints of rl_games, of its versions and networks."""

import warnings
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from saved_policies import BY_FILE, greedy

from kd_agent import KDError, load_teacher

PENDULUM = BY_FILE["rl_games/pendulum.pth"]
OBSERVATIONS = PENDULUM.answers()["observations"]


@pytest.fixture(autouse=True)
def quiet() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def state_of(file: str) -> dict[str, Any]:
    return {"model": dict(torch.load(BY_FILE[file].path, weights_only=True)["model"])}


def load(state: dict[str, Any], folder: Path, **said: Any) -> Any:
    torch.save(state, folder / "a.pth")
    return load_teacher(str(folder / "a.pth"), **{"env": PENDULUM.env, **said})


def test_names_that_compiling_changed_are_the_same_network(tmp_path: Path) -> None:
    state = state_of("rl_games/pendulum.pth")
    expected = greedy(load(state, tmp_path), OBSERVATIONS)
    state["model"] = {f"_orig_mod.{name}": tensor for name, tensor in state["model"].items()}
    np.testing.assert_array_equal(greedy(load(state, tmp_path), OBSERVATIONS), expected)


def test_the_running_mean_once_lay_beside_the_model(tmp_path: Path) -> None:
    state = state_of("rl_games/pendulum.pth")
    expected = greedy(load(state, tmp_path), OBSERVATIONS)
    beside = {}
    for name in list(state["model"]):
        if name.startswith("running_mean_std."):
            beside[name.removeprefix("running_mean_std.")] = state["model"].pop(name)
    assert np.abs(greedy(load(state, tmp_path), OBSERVATIONS) - expected).max() > 0.05
    np.testing.assert_array_equal(greedy(load({**state, "running_mean_std": beside}, tmp_path), OBSERVATIONS), expected)


def test_actions_are_clipped_first_and_scaled_to_the_box_then(tmp_path: Path) -> None:
    state = state_of("rl_games/pendulum.pth")
    lopsided = gym.spaces.Box(-1, 3, (1,), np.float32)
    env = (PENDULUM.env[0], lopsided)
    raw = greedy(load(state, tmp_path, env=env, teacher_squash="none"), OBSERVATIONS)
    wide = (PENDULUM.env[0], gym.spaces.Box(-np.inf, np.inf, (1,), np.float32))
    raw = greedy(load(state, tmp_path, env=wide, teacher_squash="none"), OBSERVATIONS)
    found = greedy(load(state, tmp_path, env=env), OBSERVATIONS)
    np.testing.assert_allclose(found, np.clip(raw, -1, 1) * 2 + 1, atol=1e-5)
    row = load(state, tmp_path, env=env)({"obs": OBSERVATIONS[:1]}).params[0]
    own = state["model"]["a2c_network.sigma"]
    torch.testing.assert_close(row[1:], own + np.log(2).astype(np.float32))


def test_a_standard_deviation_of_its_own_layer(tmp_path: Path) -> None:
    state = state_of("rl_games/pendulum.pth")
    del state["model"]["a2c_network.sigma"]
    weight, bias = torch.randn(1, 6), torch.randn(1)
    state["model"] |= {"a2c_network.sigma.weight": weight, "a2c_network.sigma.bias": bias}
    teacher = load(state, tmp_path)
    output = teacher({"obs": OBSERVATIONS[:5]})
    latent = output.features["actor_mlp.2.active"]
    expected = torch.nn.functional.linear(latent, weight, bias) + np.log(2).astype(np.float32)
    torch.testing.assert_close(output.params[:, 1:], expected)


def test_several_choices_have_a_layer_each(tmp_path: Path) -> None:
    state = state_of("rl_games/cartpole.pth")
    model = state["model"]
    weight, bias = model.pop("a2c_network.logits.weight"), model.pop("a2c_network.logits.bias")
    for part in range(2):
        model |= {f"a2c_network.logits.{part}.weight": weight, f"a2c_network.logits.{part}.bias": bias}
    saved = BY_FILE["rl_games/cartpole.pth"]
    env = (saved.env[0], gym.spaces.MultiDiscrete([2, 2]))
    teacher = load(state, tmp_path, env=env, teacher_activation="relu")
    answers = saved.answers()
    found = greedy(teacher, answers["observations"])
    np.testing.assert_array_equal(found, np.stack([answers["actions"]] * 2, axis=-1))


def test_where_a_memory_is_cannot_always_be_told(tmp_path: Path) -> None:
    state = state_of("rl_games/gru.pth")
    model = state["model"]
    model["a2c_network.actor_mlp.0.weight"] = torch.zeros(8, 6)
    with pytest.raises(KDError, match="whether its memory comes before its layers cannot be told"):
        load(state, tmp_path)
    model["a2c_network.layer_norm.weight"] = torch.ones(6)
    model["a2c_network.actor_mlp.0.weight"] = torch.zeros(8, 3)
    with pytest.raises(KDError, match=r"layer_norm\.weight.* is not understood as one of rl_games"):
        load(state, tmp_path)


def test_a_checkpoint_without_an_actor_is_refused(tmp_path: Path) -> None:
    with pytest.raises(KDError, match="without an actor"):
        load({"model": {"a2c_network.value.weight": torch.zeros(1, 3)}}, tmp_path)
