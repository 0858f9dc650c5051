"""Other libraries' policies as teachers: they act as the libraries themselves say they do."""

import os
import re
import shutil
import warnings
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
import torch
from saved_policies import BY_FILE, SAVED, Saved, greedy

from kd_agent import KDError, load_teacher
from kd_agent.networks.base import Teacher
from kd_agent.policies.policy import Policy

IDS = [saved.file for saved in SAVED]


def load(saved: Saved, **said: object) -> Teacher:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return load_teacher(str(saved.path), env=saved.env, **{**saved.said, **said})


@pytest.mark.parametrize("saved", SAVED, ids=IDS)
def test_greedy_actions_are_the_librarys_own_on_1000_observations(saved: Saved) -> None:
    answers = saved.answers()
    found = greedy(load(saved), answers["observations"])
    own = answers["actions"].reshape(found.shape)
    assert len(found) == 1000
    if isinstance(saved.actions, gym.spaces.Box):
        own = np.clip(own, saved.actions.low, saved.actions.high)
        np.testing.assert_allclose(found, own, atol=1e-5)
        assert np.ptp(own, axis=0).min() > 0.05
    else:
        np.testing.assert_array_equal(found, own)
        assert len(np.unique(own)) > 1


@pytest.mark.parametrize("saved", SAVED, ids=IDS)
def test_what_the_file_does_not_say_is_said_aloud_with_its_flag(saved: Saved) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        load_teacher(str(saved.path), env=saved.env, **saved.said)
    lines = [str(warning.message) for warning in caught]
    if not saved.assumed:
        assert lines == []
        return
    [line] = lines
    assert "\n" not in line
    assert str(saved.path) in line
    said = re.findall(r"(activation \w+|squash \w+) \(--teacher-(?:activation|squash)\)", line)
    assert " ".join(said) == saved.assumed


@pytest.mark.parametrize("saved", SAVED, ids=IDS)
def test_another_shape_is_one_line_that_names_both(saved: Saved) -> None:
    wider = gym.spaces.Box(-np.inf, np.inf, (saved.observed + 3,), np.float32)
    with pytest.raises(KDError) as caught:
        load_teacher(str(saved.path), env=(wider, saved.actions), **saved.said)
    message = str(caught.value)
    assert "\n" not in message
    assert saved.path.name in message
    assert f"({saved.observed},)" in message
    assert f"({saved.observed + 3},)" in message
    other = gym.spaces.Box(-1, 1, (5,), np.float32) if saved.actions == BY_FILE["skrl/agent_dqn.pt"].actions else None
    with pytest.raises(KDError):
        load_teacher(str(saved.path), env=(saved.env[0], other or gym.spaces.Discrete(7)), **saved.said)


@pytest.mark.parametrize(
    "file", ["rsl_rl/model_mlp.pt", "flax/choice.msgpack", "torchscript/elu.pt", "imitation/bc_saved.pt"]
)
def test_a_file_that_names_no_environment_asks_for_one(file: str) -> None:
    with pytest.raises(KDError, match=r"name the environment \(--env\)"):
        load_teacher(str(BY_FILE[file].path))


@pytest.mark.parametrize(
    "file",
    [
        "rsl_rl/model_mlp.pt",
        "skrl/agent_shared.pt",
        "skrl/agent_td3.pt",
        "skrl/agent_dqn.pt",
        "skrl/agent_discrete.pt",
        "rl_games/pendulum.pth",
        "rl_games/cartpole.pth",
        "cleanrl/ppo.cleanrl_model",
        "cleanrl/dqn.cleanrl_model",
        "cleanrl/td3.cleanrl_model",
        "cleanrl/sac.cleanrl_model",
        "flax/actor_critic.safetensors",
    ],
)
def test_means_are_no_logits_and_logits_no_means(file: str) -> None:
    saved = BY_FILE[file]
    chooses = isinstance(saved.actions, gym.spaces.Discrete)
    # As many numbers, of the other kind.
    other: gym.Space = (
        gym.spaces.Box(-1, 1, (2,)) if chooses else gym.spaces.MultiBinary(int(np.prod(saved.actions.shape)))
    )
    said = "its actions are choices" if chooses else "its actions are numbers of a Box"
    with pytest.raises(KDError, match=said):
        load_teacher(str(saved.path), env=(saved.env[0], other))


def test_the_activation_and_the_squash_that_are_said_are_those_of_the_network() -> None:
    saved = BY_FILE["rsl_rl/model_mlp.pt"]
    box = gym.spaces.Box(np.float32([-1, -2]), np.float32([1, 3]))
    observations = saved.answers()["observations"]
    raw = greedy(load(saved), observations)

    def act(**said: str) -> np.ndarray:
        teacher = load_teacher(str(saved.path), env=(saved.env[0], box), **said)
        return greedy(teacher, observations)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        half, centre = np.float32([1, 2.5]), np.float32([0, 0.5])
        np.testing.assert_allclose(act(teacher_squash="none"), np.clip(raw, box.low, box.high), atol=1e-5)
        np.testing.assert_allclose(act(teacher_squash="clip"), np.clip(raw, -1, 1) * half + centre, atol=1e-5)
        np.testing.assert_allclose(act(teacher_squash="tanh"), np.tanh(raw) * half + centre, atol=1e-5)
        other = load(saved, teacher_activation="relu")
    assert np.abs(greedy(other, observations) - raw).max() > 0.05
    kinds = {op.attributes["function"] for op in other.to_graph().ops if op.kind == "activation"}
    assert kinds == {"relu"}


def test_other_assumptions_are_another_teacher() -> None:
    saved = BY_FILE["rsl_rl/model_mlp.pt"]
    hashes = {
        load(saved, **said).origin.sha256 for said in ({}, {"teacher_activation": "relu"}, {"teacher_squash": "none"})
    }
    assert len(hashes) == 3


def test_a_squash_that_there_is_not_is_named() -> None:
    with pytest.raises(KDError, match="unknown teacher_squash 'tan'; did you mean 'tanh'"):
        load(BY_FILE["rsl_rl/model_mlp.pt"], teacher_squash="tan")


@pytest.mark.parametrize("suffix", [".pt", ".msgpack", ".safetensors", ".pkl", ".npz", ".zip"])
def test_a_pipe_is_not_waited_for(suffix: str, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / f"pipe{suffix}")
    with pytest.raises(KDError):
        load_teacher(str(tmp_path / f"pipe{suffix}"))


def test_a_torch_file_of_another_name_is_told_its_suffixes(tmp_path: Path) -> None:
    shutil.copyfile(BY_FILE["rl_games/pendulum.pth"].path, tmp_path / "last.ckpt")
    with pytest.raises(KDError, match=r"files of torch.save are read as \.pt, \.pth or \.cleanrl_model"):
        load_teacher(str(tmp_path / "last.ckpt"))


def test_a_setting_that_would_do_nothing_is_refused(tmp_path: Path) -> None:
    for file in ("torchscript/elu.pt", "imitation/bc_module.pt"):
        saved = BY_FILE[file]
        for flag in ({"teacher_activation": "tanh"}, {"teacher_squash": "tanh"}):
            with pytest.raises(KDError, match="says by itself what --teacher-"):
                load_teacher(str(saved.path), env=saved.env, **flag)
    saved = BY_FILE["skrl/agent_dqn.pt"]
    with pytest.raises(KDError, match="--teacher-squash is of continuous actions"):
        load_teacher(str(saved.path), env=saved.env, teacher_squash="tanh")
    saved = BY_FILE["rsl_rl/model_mlp.pt"]
    with pytest.raises(KDError, match="scaled to a bounded Box"):
        load_teacher(str(saved.path), env=saved.env, teacher_squash="clip")
    np.savez(tmp_path / "s.npz", mean=np.zeros(4), var=np.ones(4), clip=10.0, epsilon=1e-8)
    with pytest.raises(KDError, match="carries its statistics inside"):
        load_teacher(str(saved.path), env=saved.env, statistics=str(tmp_path / "s.npz"))


@pytest.mark.parametrize("saved", SAVED, ids=IDS)
def test_its_program_is_one_that_exports_can_write(saved: Saved) -> None:
    teacher = load(saved)
    policy = Policy(teacher.to_graph())
    observations = saved.answers()["observations"][:10]
    expected = teacher({"obs": observations}).params.numpy()
    np.testing.assert_allclose(policy.params(observations), expected, atol=1e-5)


def test_a_network_of_layers_and_a_normaliser_is_read_as_such_for_students_of_its_shape() -> None:
    for file in ("rsl_rl/model_mlp.pt", "skrl/agent_shared.pt", "rl_games/pendulum.pth", "torchscript/rsl_rl.pt"):
        layers = load(BY_FILE[file]).layers
        assert layers is not None, file
        assert layers.hidden == (8, 6)
        assert layers.activation == "elu"
        assert list(layers.normalizers) == ["obs"]


def test_log_standard_deviations_are_the_librarys_own() -> None:
    for file in ("cleanrl/sac.cleanrl_model", "flax/brax_ppo.msgpack", "flax/brax_sac.pkl"):
        saved = BY_FILE[file]
        answers = saved.answers()
        params = load(saved)({"obs": answers["observations"]}).params
        # The operation adds a millionth to the variance.
        added = 0 if file.startswith("cleanrl") else 1e-6
        variance = np.exp(2 * answers["log_std"].astype(np.float64)) + added
        np.testing.assert_allclose(params[:, 1:].numpy(), np.log(variance) / 2, atol=1e-4)
        assert np.ptp(answers["log_std"]) > 0.1
    rsl = torch.load(BY_FILE["rsl_rl/model_mlp.pt"].path, weights_only=True)["actor_state_dict"]
    row = load(BY_FILE["rsl_rl/model_mlp.pt"])({"obs": np.zeros((1, 4), np.float32)}).params[0]
    torch.testing.assert_close(row[2:], rsl["distribution.std_param"].log())
