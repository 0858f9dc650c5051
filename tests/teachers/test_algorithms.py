"""Every algorithm and space: the graph read from a zip acts as the model that wrote it."""

from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from sb3_contrib import RecurrentPPO
from small_agents import BOX, CASES, VECTOR, as_model_wants, load, observations, trained
from stable_baselines3.common.distributions import Distribution

from kd_agent.environments.spaces import as_mapping
from kd_agent.errors import KDError
from kd_agent.policies.file import to_bytes
from kd_agent.teachers import load_teacher
from kd_agent.teachers._agent import teacher_of
from kd_agent.teachers._archive import Archive
from kd_agent.teachers._layers import DETERMINISTIC_LOG_STD
from kd_agent.teachers._request import Request

ALGORITHMS = {"qr-dqn": "QR-DQN", "maskable": "MaskablePPO", "recurrent": "RecurrentPPO", "crossq": "CrossQ"}


@pytest.mark.parametrize("case", CASES)
def test_the_graph_acts_as_the_model_does(case: str) -> None:
    model, env, teacher = load(case)
    batch = observations(env)
    wanted, _ = model.predict(as_model_wants(model, batch), deterministic=True)
    actions, _ = teacher.predict(batch, deterministic=True)
    assert actions.dtype == env.action_space.dtype
    if isinstance(env.action_space, spaces.Box):
        np.testing.assert_allclose(actions, wanted, atol=1e-5, rtol=1e-5)
    else:
        assert np.mean(actions == wanted) > 0.98  # ties to the last bit may fall either way
    acting = teacher(as_mapping(batch)).params.numpy()[:, : teacher.head.spec.num_acting]
    assert np.ptp(acting, axis=0).min() > 1e-2, "the test would not see a mistake"


def distribution(model: Any, batch: Any) -> Distribution:
    policy = model.policy
    policy.set_training_mode(False)
    tensors, _ = policy.obs_to_tensor(as_model_wants(model, batch))
    if hasattr(policy, "actor"):
        mean, log_std, rest = policy.actor.get_action_dist_params(tensors)
        return policy.actor.action_dist.proba_distribution(mean, log_std, *rest.values())
    if isinstance(model, RecurrentPPO):
        count = len(next(iter(tensors.values()))) if isinstance(tensors, dict) else len(tensors)
        layers, _, size = policy.lstm_hidden_state_shape
        zeros = torch.zeros(layers, count, size)
        return policy.get_distribution(tensors, (zeros, zeros), torch.ones(count))[0]
    return policy.get_distribution(tensors)


WITH_DENSITY = [c for c in CASES if not c.startswith(("dqn", "qr-dqn", "td3", "ddpg", "ars"))]


@pytest.mark.parametrize("case", WITH_DENSITY)
@torch.no_grad()
def test_the_row_is_the_distribution_of_the_model(case: str) -> None:
    model, env, teacher = load(case)
    batch = observations(env, 20)
    params = teacher(as_mapping(batch)).params
    theirs = distribution(model, batch)
    ours = teacher.head.distribution(params)
    if isinstance(env.action_space, spaces.Box):
        mean, log_std = params.chunk(2, dim=-1)
        torch.testing.assert_close(mean, theirs.distribution.mean, atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(log_std.exp(), theirs.distribution.stddev, atol=1e-5, rtol=1e-4)
    elif isinstance(env.action_space, spaces.Discrete):
        torch.testing.assert_close(ours.probs, theirs.distribution.probs, atol=1e-5, rtol=1e-4)
    else:
        actions = theirs.sample()
        torch.testing.assert_close(ours.log_prob(actions), theirs.log_prob(actions), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("case", ["dqn", "qr-dqn", "dqn image"])
@torch.no_grad()
def test_the_row_of_a_value_based_teacher_is_its_action_values(case: str) -> None:
    model, env, teacher = load(case)
    batch = observations(env, 20)
    tensors, _ = model.policy.obs_to_tensor(batch)
    values = model.policy.quantile_net(tensors).mean(1) if case == "qr-dqn" else model.policy.q_net(tensors)
    torch.testing.assert_close(teacher(as_mapping(batch)).params, values, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("case", ["td3", "ddpg", "ars linear", "ars mlp"])
def test_a_teacher_without_a_density_gets_the_stated_one(case: str) -> None:
    _, env, teacher = load(case)
    _, log_std = teacher(as_mapping(observations(env, 3))).params.chunk(2, dim=-1)
    assert torch.all(log_std == np.float32(DETERMINISTIC_LOG_STD))


@pytest.mark.parametrize("case", CASES)
def test_the_algorithm_is_recognised(case: str) -> None:
    _, _, teacher = load(case)
    first = case.split(",", maxsplit=1)[0].split(maxsplit=1)[0]
    assert teacher.origin.algo == ALGORITHMS.get(first, first.upper())


@pytest.mark.parametrize(
    "case", ["ppo box, silu, unequal nets", "ppo image, two extractors", "ppo dict", "maskable ppo"]
)
@torch.no_grad()
def test_the_value_is_the_critics(case: str) -> None:
    model, env, teacher = load(case)
    batch = observations(env, 20)
    tensors, _ = model.policy.obs_to_tensor(as_model_wants(model, batch))
    value = teacher(as_mapping(batch)).value
    assert value is not None
    torch.testing.assert_close(value, model.policy.predict_values(tensors)[:, 0], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("case", ["ppo image, channels last, gelu", "ppo dict", "dqn image", "sac dict"])
def test_a_teacher_loads_without_its_environment(case: str) -> None:
    model, env, path = trained(case)
    alone = load_teacher(str(path))
    batch = observations(env, 10)
    wanted = as_model_wants(model, batch) if isinstance(batch, dict) else np.moveaxis(batch, 3, 1)
    first, _ = alone.predict(wanted, deterministic=True)
    second, _ = load_teacher(str(path), env=(env.observation_space, env.action_space)).predict(
        batch, deterministic=True
    )
    np.testing.assert_allclose(first, second, atol=1e-6)


def test_a_dict_may_have_another_order_and_more_keys_than_the_teachers() -> None:
    _, env, teacher = load("ppo dict")
    wider = spaces.Dict([("zzz", VECTOR), *reversed(list(env.observation_space.items())), ("aaa", VECTOR)])
    _, _, path = trained("ppo dict")
    other = load_teacher(str(path), env=(wider, env.action_space))
    batch = as_mapping(observations(env, 10))
    more = {"zzz": np.zeros((10, 4), np.float32), **batch}
    torch.testing.assert_close(other(more).params, teacher(batch).params, atol=0, rtol=0)
    lacking = spaces.Dict({key: part for key, part in env.observation_space.items() if key != "arm"})
    with pytest.raises(KDError, match="have the key 'arm', but the environment has bits, dice, image, word"):
        load_teacher(str(path), env=(lacking, env.action_space))
    changed = spaces.Dict({**env.observation_space.spaces, "arm": spaces.Box(-1, 1, (5,))})
    with pytest.raises(KDError, match="observations 'arm' are"):
        load_teacher(str(path), env=(changed, env.action_space))


def test_only_what_acts_is_counted() -> None:
    _, _, sac = load("sac")
    assert sac.origin.num_parameters == (4 * 8 + 8) + (8 * 6 + 6) + (6 * 2 + 2)
    _, _, ars = load("ars linear")
    assert ars.origin.num_parameters == 4 * 2
    _, _, lstm = load("recurrent ppo")
    assert lstm.origin.num_parameters == 4 * 8 * (4 + 8 + 1) + (8 * 64 + 64) + (64 * 64 + 64) + (64 * 4 + 4)


def test_a_teacher_is_the_same_before_and_after_a_query() -> None:
    _, env, teacher = load("crossq")
    before = to_bytes(teacher.graph)
    batch = as_mapping(observations(env, 10))
    first = teacher(batch).params
    torch.testing.assert_close(teacher(batch).params, first, atol=0, rtol=0)
    assert to_bytes(teacher.graph) == before


OLD: dict[str, dict[str, tuple[int, ...]]] = {
    "shared layers": {
        "mlp_extractor.shared_net.0": (6, 4), "mlp_extractor.policy_net.0": (5, 6), "mlp_extractor.value_net.0": (3, 6),
        "action_net": (2, 5), "value_net": (1, 3),
    },
    "gsde features of their own": {
        "mlp_extractor.policy_net.0": (5, 4), "mlp_extractor.value_net.0": (3, 4), "sde_features_extractor.0": (7, 4),
        "action_net": (2, 5), "value_net": (1, 3),
    },
}  # fmt: skip


@pytest.mark.parametrize("case", OLD)
def test_networks_that_only_old_versions_made_are_read(case: str) -> None:
    rng = np.random.default_rng(0)
    layers = {name: (rng.normal(size=shape), rng.normal(size=shape[0])) for name, shape in OLD[case].items()}
    tensors = {
        f"{name}.{part}": np.float32(x)
        for name, pair in layers.items()
        for part, x in zip(("weight", "bias"), pair, strict=True)
    }
    sde = case.startswith("gsde")
    tensors["log_std"] = np.float32(rng.normal(size=(7, 2) if sde else 2))
    kind = {
        "__module__": "stable_baselines3.common.policies",
        "__init__": "<function ActorCriticPolicy.__init__ at 0x1>",
    }
    archive = Archive("old.zip", "", {"policy_class": kind, "use_sde": sde, "n_steps": 5}, tensors)
    teacher = teacher_of(archive, Request((VECTOR, BOX)))
    x = rng.normal(size=(9, 4)).astype(np.float32)

    def layer(name: str, inputs: Any) -> Any:
        return inputs @ layers[name][0].T + layers[name][1]

    shared = x if sde else np.tanh(layer("mlp_extractor.shared_net.0", x))
    mean = layer("action_net", np.tanh(layer("mlp_extractor.policy_net.0", shared)))
    log_std = (
        np.broadcast_to(tensors["log_std"], (9, 2))
        if not sde
        else 0.5 * np.log(np.tanh(layer("sde_features_extractor.0", x)) ** 2 @ np.exp(tensors["log_std"]) ** 2 + 1e-6)
    )
    output = teacher({"obs": x})
    np.testing.assert_allclose(output.params, np.concatenate([mean, log_std], -1), rtol=1e-4, atol=1e-5)
    value = layer("value_net", np.tanh(layer("mlp_extractor.value_net.0", shared)))
    assert output.value is not None
    np.testing.assert_allclose(output.value, value[:, 0], rtol=1e-4, atol=1e-5)
    assert teacher.origin.algo == "A2C"
