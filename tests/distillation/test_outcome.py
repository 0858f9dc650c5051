"""What a distillation comes to: a file that plays by itself, judged as it was saved."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from prepared_runs import begun
from recorder import TEACHER, Recorder
from samples import labelled

from kd_agent import load_policy
from kd_agent.distillation import outcome
from kd_agent.distillation.fitting import build_student, fit
from kd_agent.distillation.outcome import Fitted, judge_student
from kd_agent.runs import provenance


@pytest.fixture
def rollout() -> Any:
    return labelled(TEACHER, {"obs": np.random.default_rng(0).uniform(-1, 1, (300, 4)).astype(np.float32)})


def test_a_student_is_saved_with_where_it_comes_from_and_judged(
    tmp_path: Path, rollout: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorder = Recorder(verdict=lambda seed: 100.0)
    recorder.install(monkeypatch)
    with begun(tmp_path / "run", episodes=90, max_episodes=90) as run:
        student = build_student(run, rollout, 0)
        result = judge_student(run, student)
        policy = load_policy(tmp_path / "run" / "student.safetensors")
        assert policy.graph.provenance == json.loads(json.dumps(provenance(run)))
        states = rollout.obs["obs"][0]
        np.testing.assert_array_equal(policy.params(states), student.policy().params(states))
        assert result["student"]["parameters"] == policy.num_parameters
        assert result["verdict"]["decision"] == "non-inferior"
        assert "cost" not in result
        assert run.costs.seconds["evaluate_s"] > 0
        assert run.costs.of("verdict_steps") > 0
        assert not (tmp_path / "run" / "rules.txt").exists()


def test_a_trees_rules_lie_beside_it(tmp_path: Path, rollout: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outcome, "judge", lambda run, path: {"file": path.name})
    with begun(tmp_path / "run", student="tree", leaves=4) as run:
        tree = build_student(run, rollout, 0)
        fit(run, tree, [rollout], name="fit", steps=0, seed=0)
        assert judge_student(run, tree) == {"file": "student.safetensors"}
    text = (tmp_path / "run" / "rules.txt").read_text()
    assert "if x[" in text
    assert text.count("else:") == 3


def test_a_student_that_is_only_fitted_has_no_verdict_yet_and_no_figures(tmp_path: Path, rollout: Any) -> None:
    with begun(tmp_path / "run") as run:
        fitted = Fitted(run, build_student(run, rollout, 0))
    assert fitted.verdict is None
    assert fitted.figures == {}
