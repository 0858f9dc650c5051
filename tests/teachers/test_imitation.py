"""Policies of imitation: a state dict with its settings, a whole module, and a trainer with the student inside."""

import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from saved_policies import BY_FILE, greedy
from small_agents import BOX, CHOICE, VECTOR, VECTORS, trained

from kd_agent import KDError, load_teacher
from kd_agent.teachers._checkpoint import read_checkpoint


@pytest.mark.parametrize(
    "case", ["ppo discrete", "sac", "td3", "dqn", "ppo box, silu, unequal nets", "ppo gsde, squashed"]
)
def test_what_stable_baselines3_saves_of_a_policy_is_the_policy(case: str, tmp_path: Path) -> None:
    model, env, _ = trained(case)
    model.policy.save(str(tmp_path / "policy.pt"))
    teacher = load_teacher(str(tmp_path / "policy.pt"), env=(env.observation_space, env.action_space))
    observations = np.stack([env.observation_space.sample() for _ in range(50)])
    expected, _ = model.policy.predict(observations, deterministic=True)
    np.testing.assert_allclose(greedy(teacher, observations), expected, atol=1e-5)
    assert teacher.origin.algo == "imitation"


def test_a_running_norm_is_a_step_of_its_own() -> None:
    saved = BY_FILE["imitation/bc_normal.pt"]
    teacher = load_teacher(str(saved.path), env=saved.env)
    [step] = [op for op in teacher.to_graph().ops if op.kind == "normalise"]
    tensors = read_checkpoint(str(saved.path)).tensors("features_extractor.normalize.")
    np.testing.assert_array_equal(step.tensors["mean"], tensors["running_mean"])
    np.testing.assert_allclose(step.tensors["scale"], (tensors["running_var"] + 1e-5) ** -0.5, rtol=1e-5)


def test_a_trainer_holds_the_policy_that_is_saved_beside_it() -> None:
    one, other = (BY_FILE[f"imitation/dagger_{name}.pt"] for name in ("policy", "trainer"))
    rows = [load_teacher(str(saved.path), env=saved.env)(VECTORS).params for saved in (one, other)]
    assert torch.equal(*rows)


def test_an_extractor_or_an_activation_of_ones_own_is_refused(tmp_path: Path) -> None:
    saved = BY_FILE["imitation/bc_saved.pt"]
    for name, mine in ((b"activation\nTanh", b"activation\nMine"), (b"FlattenExtractor", b"FlattenExtract0r")):
        with zipfile.ZipFile(saved.path) as old, zipfile.ZipFile(tmp_path / "a.pt", "w") as new:
            for info in old.infolist():
                new.writestr(info.filename, old.read(info).replace(name, mine))
        with pytest.raises(KDError, match="is not understood") as caught:
            load_teacher(str(tmp_path / "a.pt"), env=saved.env)
        assert "--trust-teacher" not in str(caught.value)


def test_a_state_without_its_settings_is_no_policy(tmp_path: Path) -> None:
    model, _, _ = trained("ppo discrete")
    torch.save(model.policy.state_dict(), tmp_path / "policy.pt")
    with pytest.raises(KDError, match="those of no policy"):
        load_teacher(str(tmp_path / "policy.pt"), env=(VECTOR, CHOICE))


def test_a_policy_of_another_space_is_refused(tmp_path: Path) -> None:
    model, _, _ = trained("ppo discrete")
    model.policy.save(str(tmp_path / "policy.pt"))
    with pytest.raises(KDError) as caught:
        load_teacher(str(tmp_path / "policy.pt"), env=(VECTOR, BOX))
    assert "\n" not in str(caught.value)
