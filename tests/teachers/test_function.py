"""A Python function or a torch module as a teacher."""

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from samples import SPACES
from small_agents import VECTOR, VECTORS

from kd_agent import load_teacher
from kd_agent.errors import KDError
from kd_agent.teachers._density import STATED_LOGIT, STATED_STD

ACTIONS = {
    "Discrete": lambda x: x.argmax(-1),
    "MultiDiscrete": lambda x: np.stack([x[:, :3].argmax(-1), x.argmax(-1)], -1),
    "MultiBinary": lambda x: (x[:, :3] > 0).astype(np.int8),
    "Box": lambda x: np.clip(2 * x[:, :2], [-1, -2], [1, 3]),
}


@pytest.mark.parametrize("name", ACTIONS)
def test_a_function_that_acts_gets_the_stated_density(name: str) -> None:
    teacher = load_teacher(ACTIONS[name], env=(VECTOR, SPACES[name]))
    params = teacher(VECTORS).params
    assert params.shape == (6, teacher.head.num_params)
    np.testing.assert_allclose(
        teacher.predict(VECTORS["obs"], deterministic=True)[0], ACTIONS[name](VECTORS["obs"]), atol=1e-6
    )
    if name == "Box":
        np.testing.assert_allclose(params[0, 2:].exp(), [STATED_STD * 1, STATED_STD * 2.5], rtol=1e-6)
    else:
        assert params.max() - params.min() == STATED_LOGIT


@pytest.mark.parametrize("name", ACTIONS)
def test_a_function_that_answers_rows_keeps_them(name: str) -> None:
    size = load_teacher(ACTIONS[name], env=(VECTOR, SPACES[name])).head.num_params
    rows = np.random.default_rng(1).normal(size=(6, size))
    teacher = load_teacher(lambda x: rows, env=(VECTOR, SPACES[name]))
    np.testing.assert_allclose(teacher(VECTORS).params, rows, rtol=1e-6)


def test_a_function_that_answers_something_else_is_named() -> None:
    def strange(x: Any) -> Any:
        return np.zeros((len(x), 7))

    teacher = load_teacher(strange, env=(VECTOR, SPACES["Discrete"]))
    with pytest.raises(KDError, match=r"strange: answered with shape \(6, 7\)"):
        teacher(VECTORS)
    with pytest.raises(KDError, match="give the environment's spaces"):
        load_teacher(strange)


def test_a_torch_module_is_queried_in_eval_mode_and_never_changed() -> None:
    module = torch.nn.Sequential(
        torch.nn.Linear(4, 8), torch.nn.BatchNorm1d(8), torch.nn.Dropout(0.5), torch.nn.Linear(8, 4)
    )
    before = {key: value.clone() for key, value in module.state_dict().items()}
    teacher = load_teacher(module, env=(VECTOR, SPACES["Discrete"]))
    first = teacher(VECTORS).params
    assert not first.requires_grad
    torch.testing.assert_close(teacher(VECTORS).params, first, atol=0, rtol=0)
    assert module.training
    assert all(torch.equal(before[key], value) for key, value in module.state_dict().items())
    assert teacher.origin.num_parameters == sum(p.numel() for p in module.parameters())
    other = load_teacher(torch.nn.Linear(4, 4), env=(VECTOR, SPACES["Discrete"]))
    assert other.origin.sha256 != teacher.origin.sha256


def test_a_function_sees_a_dict_as_a_mapping() -> None:
    space = gym.spaces.Dict({"a": VECTOR, "b": gym.spaces.Discrete(3)})
    teacher = load_teacher(lambda obs: obs["b"], env=(space, gym.spaces.Discrete(3)))
    assert teacher({"a": VECTORS["obs"], "b": np.array([0, 1, 2, 0, 1, 2])}).params.argmax(-1).tolist() == [0, 1, 2] * 2


def test_a_function_may_write_into_what_it_is_called_with() -> None:
    def careless(observations: Any) -> Any:
        observations *= 2
        return observations

    batch = {"obs": VECTORS["obs"].copy()}
    teacher = load_teacher(careless, env=(VECTOR, SPACES["Discrete"]))
    np.testing.assert_array_equal(teacher(batch).params, 2 * VECTORS["obs"])
    np.testing.assert_array_equal(batch["obs"], VECTORS["obs"])


def test_a_module_that_is_trained_on_leaves_its_teacher_as_it_was() -> None:
    module = torch.nn.Linear(4, 4)
    teacher = load_teacher(module, env=(VECTOR, SPACES["Discrete"]))
    first = teacher(VECTORS).params
    with torch.no_grad():
        module.weight.zero_()
    assert torch.equal(teacher(VECTORS).params, first)
    assert load_teacher(module, env=(VECTOR, SPACES["Discrete"])).origin.sha256 != teacher.origin.sha256


def test_a_module_sees_tensors_and_a_function_may_answer_with_one_that_has_a_gradient() -> None:
    class Difference(torch.nn.Module):
        def forward(self, observations: dict[str, torch.Tensor]) -> torch.Tensor:
            return observations["a"] - observations["b"]

    space = gym.spaces.Dict({"a": VECTOR, "b": VECTOR})
    batch = {"a": VECTORS["obs"], "b": 3 * VECTORS["obs"][::-1]}
    teacher = load_teacher(Difference(), env=(space, SPACES["Discrete"]))
    np.testing.assert_allclose(teacher(batch).params, batch["a"] - batch["b"])
    scale = torch.tensor(2.0, requires_grad=True)
    teacher = load_teacher(lambda x: scale * torch.from_numpy(x), env=(VECTOR, SPACES["Discrete"]))
    params = teacher(VECTORS).params
    assert not params.requires_grad
    np.testing.assert_array_equal(params, 2 * VECTORS["obs"])


def test_a_callable_object_is_called_by_the_name_of_its_class() -> None:
    class Policy:
        def __call__(self, observations: Any) -> Any:
            return np.zeros((len(observations), 4))

    origin = load_teacher(Policy(), env=(VECTOR, SPACES["Discrete"])).origin
    assert origin.source.endswith("Policy")
    assert (origin.algo, origin.num_parameters) == ("function", None)


class Foreign:
    """An agent of another library, with Stable-Baselines3's signature."""

    def __init__(self, memory: Any = None) -> None:
        self.memory = memory

    def predict(self, observations: Any, deterministic: bool = False) -> Any:
        actions = observations.argmax(-1) if deterministic else np.zeros(len(observations), np.int64)
        return actions, self.memory


def test_the_predict_of_another_library_is_asked_for_greedy_actions() -> None:
    teacher = load_teacher(Foreign().predict, env=(VECTOR, SPACES["Discrete"]))
    wanted = VECTORS["obs"].argmax(-1)
    np.testing.assert_array_equal(teacher.predict(VECTORS["obs"], deterministic=True)[0], wanted)
    with pytest.raises(KDError, match=r"predict: carries a state"):
        load_teacher(Foreign(memory=(1, 2)).predict, env=(VECTOR, SPACES["Discrete"]))(VECTORS)


def test_lists_of_several_lengths_are_one_line() -> None:
    with pytest.raises(KDError, match="answered with a list that is no array"):
        load_teacher(lambda x: [[1], [1, 2]], env=(VECTOR, SPACES["Discrete"]))(VECTORS)
