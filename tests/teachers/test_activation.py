"""Which activation a zip tells of."""

import functools
from typing import Any

import numpy as np
import pytest
import torch
from samples import SPACES
from small_agents import STEPS, VECTOR, VECTORS, Fake
from stable_baselines3 import PPO

from kd_agent import load_policy, load_teacher
from kd_agent.errors import KDError
from kd_agent.policies import file as graph_file
from kd_agent.policies.activations import SLOPED
from kd_agent.teachers._activation import FUNCTIONS, Function, activation
from kd_agent.teachers._archive import Archive


def told(text: Any) -> Function:
    return activation(Archive("t.zip", "", {"policy_kwargs": {"activation_fn": text}}, {}), "tanh")


@pytest.mark.parametrize("name", FUNCTIONS)
def test_an_activation_is_known_by_the_module_and_name_of_its_class(name: str) -> None:
    assert told(str(getattr(torch.nn, name))) == Function(FUNCTIONS[name])
    assert told(str(functools.partial(getattr(torch.nn, name)))) == Function(FUNCTIONS[name])


def test_an_activation_that_is_not_told_is_the_default() -> None:
    assert activation(Archive("t.zip", "", {}, {}), "relu") == Function("relu")


@pytest.mark.parametrize("arguments", [{"negative_slope": 0.2}, {"negative_slope": 1e-05, "inplace": True}])
def test_a_slope_is_read(arguments: dict[str, Any]) -> None:
    assert told(str(functools.partial(torch.nn.LeakyReLU, **arguments))) == Function(
        SLOPED, arguments["negative_slope"]
    )
    assert told(str(functools.partial(torch.nn.LeakyReLU, 0.3))) == Function(SLOPED, 0.3)


@pytest.mark.parametrize(
    "text",
    [
        "<class '__main__.ReLU'>",
        "<class 'mine.torch.nn.modules.activation.ReLU'>",
        "<class 'torch.nn.modules.activation.ReLU.Inner'>",
        "<class 'torch.nn.modules.activation.Softplusplus'>",
        "<function <lambda> at 0x7f>",
        "ReLU",
        "functools.partial(<class '__main__.LeakyReLU'>, negative_slope=0.2)",
        str(functools.partial(torch.nn.ELU, alpha=0.5)),
        str(functools.partial(torch.nn.GELU, approximate="tanh")),
        str(functools.partial(torch.nn.LeakyReLU, negative_slope=torch.tensor(0.1))),
        3,
    ],
)
def test_what_is_not_torchs_or_has_other_arguments_is_refused_by_its_text(text: Any) -> None:
    with pytest.raises(KDError, match=r"t\.zip: the activation .* is not understood \(--trust-teacher") as caught:
        told(text)
    assert "\n" not in str(caught.value)


NEW = ["Mish", "SELU", "Softsign", "ReLU6", "Hardtanh", "Identity", "slope"]


@pytest.mark.parametrize("name", NEW)
def test_an_agent_of_any_activation_acts_as_in_its_own_library_and_as_a_file(name: str, tmp_path: Any) -> None:
    function = functools.partial(torch.nn.LeakyReLU, 0.2) if name == "slope" else getattr(torch.nn, name)
    settings = {"net_arch": [8, 8], "activation_fn": function}
    model = PPO("MlpPolicy", Fake(VECTOR, SPACES["Discrete"]), seed=0, policy_kwargs=settings, device="cpu", **STEPS)
    with torch.no_grad():
        for parameter in model.policy.parameters():
            parameter.mul_(3)
    model.save(tmp_path / "a.zip")
    teacher = load_teacher(str(tmp_path / "a.zip"))
    observations = 3 * VECTORS["obs"]
    tensors, _ = model.policy.obs_to_tensor(observations)
    wanted = model.policy.get_distribution(tensors).distribution.logits.detach().numpy()
    params = teacher({"obs": observations}).params
    np.testing.assert_allclose(params.log_softmax(-1), wanted, atol=1e-5)
    policy = load_policy(graph_file.write(teacher.graph, tmp_path / "t.safetensors"))
    np.testing.assert_allclose(policy.params(observations), params, atol=1e-6)
    assert [policy.act(one) for one in observations] == wanted.argmax(-1).tolist()
