"""Several teachers: their rule and their selection decide what is learnt."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from recorder import GIVEN, SEAMS, Recorder, Stopped, fingerprint, original
from samples import HEADS, PROBES, make_student

from kd_agent import distill, load_policy

SELECTION = 5_000


def two_teachers(folder: Path) -> list[str]:
    """Files of two teachers that differ."""
    saved = [make_student(HEADS["categorical"], hidden=(6,), seed=seed) for seed in (1, 2)]
    return [str(s.save(folder / f"{n}.safetensors", {"env": PROBES["Discrete"]})) for n, s in enumerate(saved)]


def taught_by_two(folder: Path, recorder: Recorder, **more: Any) -> Recorder:
    alone = {"loss": "kl", "teacher_layer": None, "student_layer": None, "attempts": 1}
    with pytest.MonkeyPatch.context() as patch:
        recorder.install(patch)
        recorder.result = distill({**GIVEN, **alone, "teacher": two_teachers(folder), "out": str(folder / "r"), **more})
    return recorder


def test_the_rule_that_was_asked_for_combines_the_teachers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    weights: list[list[float]] = []
    product = original("product")

    def spied(outputs: Any, given: torch.Tensor, head: Any) -> Any:
        weights.append(given.tolist())
        return product(outputs, given, head)

    monkeypatch.setattr(SEAMS["product"], spied)
    taught_by_two(tmp_path, Recorder(), combine="product", teacher_gate=False)
    assert weights
    assert all(given == [0.5, 0.5] for given in weights)


def test_a_teacher_that_the_gate_finds_inferior_labels_nothing(tmp_path: Path) -> None:
    fingerprints = [fingerprint(load_policy(path).graph) for path in two_teachers(tmp_path)]
    recorder = taught_by_two(tmp_path, Recorder(teachers={fingerprints[1]: 10.0}))
    assert [one["weight"] for one in recorder.result["teachers"]] == [1.0, 0.0]
    first = make_student(HEADS["categorical"], hidden=(6,), seed=1)
    for r in recorder.rounds:
        states = r.rollout.obs["obs"].reshape(-1, 4)
        labels = first.policy().params({"obs": states})
        got = np.exp(r.rollout.params.reshape(-1, 4))
        expected = np.exp(labels)
        np.testing.assert_allclose(got / got.sum(-1, keepdims=True), expected / expected.sum(-1, keepdims=True), 1e-4)


def test_teachers_are_not_selected_where_that_was_not_asked_for(tmp_path: Path) -> None:
    fingerprints = [fingerprint(load_policy(path).graph) for path in two_teachers(tmp_path)]
    recorder = taught_by_two(tmp_path, Recorder(teachers={fingerprints[1]: 10.0}), teacher_gate=False)
    assert [one["weight"] for one in recorder.result["teachers"]] == [0.5, 0.5]
    assert recorder.on_seeds(SELECTION) == []
    assert recorder.result["cost"]["selection_steps"] == 0


def test_a_selection_has_seeds_of_its_own_and_is_booked_as_what_it_is(tmp_path: Path) -> None:
    """Two teachers, the random policy, and both together: 48 episodes of 10 steps each."""
    recorder = taught_by_two(tmp_path, Recorder())
    played = recorder.on_seeds(SELECTION)
    assert [play.seeds for play in played] == [list(range(SELECTION, SELECTION + 48))] * 4
    assert recorder.result["cost"]["selection_steps"] == 10 * 48 * 4


def test_a_stopped_run_goes_on_with_the_teachers_that_it_has_selected(tmp_path: Path) -> None:
    fingerprints = [fingerprint(load_policy(path).graph) for path in two_teachers(tmp_path)]
    with pytest.raises(Stopped):
        taught_by_two(tmp_path, Recorder(teachers={fingerprints[1]: 10.0}, stop_at_round=0))
    again = taught_by_two(tmp_path, Recorder(), resume=True)
    assert again.on_seeds(SELECTION) == []
    assert [one["weight"] for one in again.result["teachers"]] == [1.0, 0.0]
    # The two teachers and the random policy; those who are selected are one, who plays no more alone.
    assert again.result["cost"]["selection_steps"] == 10 * 48 * 3
