"""Parameters of Brax and Flax: which of the layers act, and behind what."""

import warnings
from itertools import pairwise
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from safetensors.numpy import save_file
from saved_policies import BY_FILE, greedy

from kd_agent import KDError, load_policy, load_teacher
from kd_agent.policies import file as graph_file
from kd_agent.teachers._flax_file import read_tree

VECTOR = gym.spaces.Box(-np.inf, np.inf, (3,), np.float32)
FORCES = gym.spaces.Box(-np.inf, np.inf, (2,), np.float32)
RNG = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def quiet() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def layers(*sizes: int, first: int = 0, module: str = "params.") -> dict[str, np.ndarray]:
    """Dense layers of these sizes."""
    arrays = {}
    for number, (taken, given) in enumerate(pairwise(sizes), first):
        arrays[f"{module}Dense_{number}.kernel"] = RNG.normal(size=(taken, given)).astype(np.float32)
        arrays[f"{module}Dense_{number}.bias"] = RNG.normal(size=given).astype(np.float32)
    return arrays


def load(arrays: dict[str, np.ndarray], folder: Path, **said: Any) -> Any:
    save_file(arrays, folder / "a.safetensors")
    return load_teacher(str(folder / "a.safetensors"), env=(VECTOR, FORCES), **said)


def test_layers_act_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    arrays = layers(3, *[4] * 11, 2)
    x = RNG.normal(size=(5, 3)).astype(np.float32)
    expected = x
    for number in range(12):
        expected = expected @ arrays[f"params.Dense_{number}.kernel"] + arrays[f"params.Dense_{number}.bias"]
        expected = np.maximum(expected, 0) if number < 11 else expected
    found = greedy(load(arrays, tmp_path), x)
    np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_an_actor_of_a_module_of_its_own_is_the_one_that_acts(tmp_path: Path) -> None:
    actor, critic = layers(3, 4, 2, module="params.actor."), layers(3, 4, 1, module="params.critic.")
    x = RNG.normal(size=(5, 3)).astype(np.float32)
    alone = {name.replace("actor.", ""): array for name, array in actor.items()}
    np.testing.assert_array_equal(greedy(load({**actor, **critic}, tmp_path), x), greedy(load(alone, tmp_path), x))
    other = {name.replace("actor", "one"): array for name, array in actor.items()}
    with pytest.raises(KDError, match="which of its modules acts is not clear"):
        load({**other, **critic}, tmp_path)


@pytest.mark.parametrize("name", ["params.LayerNorm_0.scale", "params.Dense_0.other", "params.std"])
def test_a_network_of_another_make_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(KDError, match="is not understood as one of Flax"):
        load({**layers(3, 4, 2), name: np.ones(4, np.float32)}, tmp_path)


def test_what_comes_after_the_actor_is_a_critic_or_refused(tmp_path: Path) -> None:
    actor = layers(3, 4, 2)
    x = RNG.normal(size=(5, 3)).astype(np.float32)
    alone = greedy(load(actor, tmp_path, teacher_activation="tanh"), x)
    both = load({**actor, **layers(3, 4, 1, first=2)}, tmp_path)
    np.testing.assert_array_equal(greedy(both, x), alone)
    with pytest.raises(KDError, match=r"Dense_2\.bias.* is not understood"):
        load({**actor, **layers(3, 4, 2, first=2)}, tmp_path)


def test_parameters_without_layers_are_refused(tmp_path: Path) -> None:
    kernel = {"params.Conv_0.kernel": np.ones((3, 3), np.float32)}
    with pytest.raises(KDError, match="which of its modules acts is not clear"):
        load(kernel, tmp_path)


def test_the_statistics_of_brax_are_its_normaliser(tmp_path: Path) -> None:
    saved = BY_FILE["flax/brax_ppo.msgpack"]
    [step] = [op for op in load_teacher(str(saved.path), env=saved.env).to_graph().ops if op.kind == "normalise"]
    arrays = brax()
    np.testing.assert_array_equal(step.tensors["mean"], arrays["0.mean"])
    np.testing.assert_allclose(step.tensors["scale"], 1 / arrays["0.std"], rtol=1e-6)
    save_file({**arrays, "0.std": np.zeros(3, np.float32)}, tmp_path / "a.safetensors")
    with pytest.raises(KDError, match="not above 0"):
        load_teacher(str(tmp_path / "a.safetensors"), env=saved.env)


def brax() -> dict[str, np.ndarray]:
    return read_tree(str(BY_FILE["flax/brax_ppo.safetensors"].path))[0]


def test_a_value_of_brax_is_left_out(tmp_path: Path) -> None:
    saved = BY_FILE["flax/brax_ppo.safetensors"]
    value = {
        f"2.params.hidden_0.{part}": np.ones((3, 1) if part == "kernel" else 1, np.float32)
        for part in ("kernel", "bias")
    }
    save_file({**brax(), **value}, tmp_path / "a.safetensors")
    teacher = load_teacher(str(tmp_path / "a.safetensors"), env=saved.env)
    answers = saved.answers()
    np.testing.assert_allclose(greedy(teacher, answers["observations"]), answers["actions"], atol=1e-5)


def test_a_student_of_ours_is_still_a_student(tmp_path: Path) -> None:
    saved = BY_FILE["flax/choice.msgpack"]
    graph = load_teacher(str(saved.path), env=saved.env).to_graph()
    path = graph_file.write(graph, tmp_path / "student.safetensors")
    assert load_teacher(str(path), env=saved.env).origin.algo == "student"
    answers = saved.answers()
    np.testing.assert_array_equal(
        load_policy(path).predict(answers["observations"], deterministic=True)[0], answers["actions"]
    )


def test_another_distribution_of_brax_is_named(tmp_path: Path) -> None:
    nested = {name.replace("params.hidden", "params.MLP_0.hidden"): array for name, array in brax().items()}
    nested |= layers(6, 2, module="1.params.")
    with pytest.raises(KDError, match="this one is of its distribution 'normal'"):
        load(nested, tmp_path)
