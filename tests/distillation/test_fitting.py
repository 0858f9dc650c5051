"""One fit: a student as the plan describes it, fitted under the plan's settings, and read again from a checkpoint."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from prepared_runs import begun
from recorder import SEAMS, TEACHER, a_teacher, fingerprint
from samples import labelled

from kd_agent import KDError
from kd_agent.distillation.fitting import build_student, fit, load_student, new_student, objective_of
from kd_agent.networks.distributions import Softening
from kd_agent.policies import ObservationSpec
from kd_agent.rollouts import Rollout
from kd_agent.runs import Run
from kd_agent.students.tree import Tree

MIXED = {"word": ObservationSpec((), "int64", (3,)), "speed": ObservationSpec((2,), "float32")}


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Run]:
    with begun(tmp_path / "run", batch_size=13, learning_rate=0.017, l2=0.02) as found:
        yield found


@pytest.fixture
def rollout() -> Rollout:
    states = np.random.default_rng(0).normal(3.0, 2.0, size=(200, 4)).astype(np.float32)
    return labelled(TEACHER, {"obs": states})


def test_a_fit_moves_the_student_and_is_booked(run: Run, rollout: Rollout) -> None:
    student = build_student(run, rollout, 0)
    before = fingerprint(student.graph())
    losses = [fit(run, student, [rollout], name="fit", steps=steps, seed=1) for steps in (20, 80)]
    assert losses[1] < losses[0]
    assert fingerprint(student.graph()) != before
    assert run.costs.of("gradient_steps") == 100


def test_the_plan_reaches_the_learner(run: Run, rollout: Rollout, monkeypatch: pytest.MonkeyPatch) -> None:
    told: dict[str, Any] = {}
    monkeypatch.setattr(SEAMS["fit"], lambda *args, **more: told.update(more) or 0.5)
    fit(run.planned(batch_size=7), build_student(run, rollout, 0), [rollout], name="fit", steps=5, seed=9)
    del told["on_step"]
    assert told == {"steps": 5, "batch_size": 7, "learning_rate": 0.017, "l2": 0.02, "seed": 9}


def test_the_objective_is_the_plans(run: Run) -> None:
    plan = replace(
        run.plan, loss={"kl": 0.5, "hint": 2.0}, temperature=3.0, convention="rusu", student_layer="hidden.0"
    )
    found = objective_of(plan)
    assert found.weights == {"kl": 0.5, "hint": 2.0}
    assert (found.softening, found.student_layer) == (Softening(3.0, "rusu"), "hidden.0")


def test_a_student_is_normalised_by_the_states_that_it_is_given(run: Run, rollout: Rollout) -> None:
    [normalise] = [op for op in build_student(run, rollout, 0).graph().ops if op.kind == "normalise"]
    states = rollout.obs["obs"][0]
    np.testing.assert_allclose(normalise.tensors["mean"], states.mean(0), rtol=1e-5)
    np.testing.assert_allclose(normalise.tensors["scale"], 1 / states.std(0), rtol=1e-4)


def test_categories_are_not_normalised(run: Run) -> None:
    states = {"word": np.array([0, 1, 2]), "speed": np.float32([[1, 2], [3, 4], [5, 6]])}
    student = new_student(run.plan, TEACHER, MIXED, states, seed=0)
    normalised = [op.inputs for op in student.graph().ops if op.kind == "normalise"]
    assert normalised == [("speed",)]


def test_each_kind_takes_what_it_knows(run: Run) -> None:
    states = {"obs": np.zeros((2, 4), np.float32)}
    observed = {"obs": ObservationSpec((4,), "float32")}
    tree = new_student(replace(run.plan, student="tree", leaves=7), TEACHER, observed, states, seed=0)
    assert isinstance(tree, Tree)
    assert tree.leaves == 7
    network = new_student(replace(run.plan, hidden=(3, 2), dropout=0.25), TEACHER, observed, states, seed=0)
    dropout = [module.p for module in network.modules() if isinstance(module, torch.nn.Dropout)]
    widths = [layer.out_features for layer in network.layers if isinstance(layer, torch.nn.Linear)]
    assert (widths, dropout) == ([3, 2, 4], [0.25, 0.25])


def test_each_attempt_has_other_weights_and_the_same_ones_again(run: Run, rollout: Rollout) -> None:
    names = [fingerprint(build_student(run, rollout, attempt).graph()) for attempt in (0, 0, 1)]
    assert names[0] == names[1] != names[2]


def test_a_student_comes_back_from_its_arrays_and_the_first_round(run: Run, rollout: Rollout) -> None:
    student = build_student(run, rollout, 0)
    fit(run, student, [rollout], name="fit", steps=5, seed=1)
    again = load_student(run, rollout, 0, student.arrays())
    states = {"obs": rollout.obs["obs"][0]}
    np.testing.assert_array_equal(again.policy().params(states), student.policy().params(states))


@pytest.mark.parametrize("change", [{"hidden": (9,)}, {"student": "gru"}], ids=str)
def test_arrays_of_another_student_are_refused(change: dict[str, Any], run: Run, rollout: Rollout) -> None:
    arrays = build_student(run.planned(**change), rollout, 0).arrays()
    with pytest.raises(KDError, match="its checkpoint is of another student"):
        load_student(run, rollout, 0, arrays)


def test_a_student_has_its_teachers_head(tmp_path: Path, rollout: Rollout) -> None:
    teacher = a_teacher(kind="diag_gaussian")
    with begun(tmp_path / "box", teacher, env="kd_envs/ProbeBox-v0") as run:
        assert build_student(run, rollout, 0).head.spec == teacher.head.spec
