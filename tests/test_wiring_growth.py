"""A student grows where no final fit holds, keeps all labels, and says what it did."""

from pathlib import Path
from typing import Any

import pytest
from recorder import GIVEN, ROUNDS, TEACHER, Recorder, Stopped, fingerprint, recorded

from kd_agent import KDError, load_policy
from kd_agent.students import count, features, growing_sizes

SIZES = [(2, 2), (5,), (6, 6)]
"""Of 28, 49 and 100 parameters; the teacher has 1,000."""
LARGEST = 100
GROWS: dict[str, Any] = {
    "hidden": [2, 2], "grow": True, "loss": "kl", "teacher_layer": None, "student_layer": None, "exam_episodes": 60,
    "episodes": 80, "max_episodes": 90,
}  # fmt: skip


def only_the_largest(policy: Any) -> float:
    """As good as the teacher with all parameters, worth nothing with fewer."""
    return 100.0 if policy.num_parameters >= LARGEST else 0.0


def test_sizes_double_up_to_a_tenth_of_the_teacher() -> None:
    assert growing_sizes(TEACHER, TEACHER.observations, (2, 2)) == SIZES


def test_a_size_that_is_far_off_is_given_up_after_one_fit_and_the_next_has_all_labels(tmp_path: Path) -> None:
    run = recorded(tmp_path / "run", Recorder(by_policy=only_the_largest), **GROWS)
    final = run.fits[ROUNDS - 1 :]
    assert [len(fit.rollouts) for fit in final] == [ROUNDS, ROUNDS, ROUNDS]
    rows = run.result["sizes"]
    assert [tuple(row["hidden"]) for row in rows] == SIZES
    assert [(row["parameters"], row["attempts"], row["holds"]) for row in rows] == [
        (28, 1, False),
        (49, 1, False),
        (LARGEST, 1, True),
    ]
    assert sum("it grows" in line for line in run.lines) == 2
    policy = load_policy(tmp_path / "run" / "student.safetensors")
    assert (policy.num_parameters, policy.graph.provenance["config"]["hidden"]) == (LARGEST, [6, 6])
    assert run.result["verdict"]["non_inferior"]


def test_where_nothing_holds_the_best_size_is_kept_and_the_largest_has_all_attempts(tmp_path: Path) -> None:
    """60 is within two margins of 20 from being lost, so that a second fit and a third are tried."""
    recorder = Recorder(by_policy=lambda policy: {28: 60.0, 49: 70.0}.get(policy.num_parameters, 50.0))
    run = recorded(tmp_path / "run", recorder, **GROWS)
    assert [row["attempts"] for row in run.result["sizes"]] == [3, 3, GIVEN["attempts"]]
    assert load_policy(tmp_path / "run" / "student.safetensors").num_parameters == 49


def test_a_student_with_a_memory_grows_by_its_own_count(tmp_path: Path) -> None:
    memory = {**GROWS, "student": "gru", "hidden": [1]}
    run = recorded(tmp_path / "run", Recorder(by_policy=lambda policy: 0.0), **memory)
    rows = run.result["sizes"]
    inputs, outputs = features(TEACHER.observations), TEACHER.head.spec.num_acting
    counted = [count(inputs, tuple(row["hidden"]), outputs, "gru") for row in rows]
    assert [row["parameters"] for row in rows] == counted
    assert len(rows) > 1


def test_a_size_that_holds_does_not_grow(tmp_path: Path) -> None:
    run = recorded(tmp_path / "run", Recorder(by_policy=lambda policy: 100.0), **GROWS)
    assert [tuple(row["hidden"]) for row in run.result["sizes"]] == SIZES[:1]


@pytest.mark.parametrize("more", [{"grow": None}, {"grow": False}, {"attempts": 1}])
def test_who_says_a_size_gets_it(tmp_path: Path, more: dict[str, Any]) -> None:
    run = recorded(tmp_path / "run", Recorder(by_policy=only_the_largest), **{**GROWS, **more})
    assert "sizes" not in run.result
    assert load_policy(tmp_path / "run" / "student.safetensors").num_parameters == 28


def test_by_default_a_student_may_grow_and_compression_says_another_size(tmp_path: Path) -> None:
    nobody = {**GROWS, "hidden": None, "grow": None}
    run = recorded(tmp_path / "default", Recorder(by_policy=lambda policy: 100.0), **nobody)
    assert "grow: true" in (tmp_path / "default" / "config.yaml").read_text()
    assert run.result["student"]["parameters"] == LARGEST
    run = recorded(tmp_path / "fixed", Recorder(by_policy=lambda policy: 0.0), **nobody, compression=20)
    assert (run.result["student"]["parameters"], "sizes" in run.result) == (49, False)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"compression": 20}, "--hidden and --compression both say the student's size"),
        ({"hidden": None, "compression": 500}, "--compression 500: a linear student has more than 2 parameters"),
        (
            {"hidden": None, "compression": 50, "student": "gru"},
            "--compression 50: a memory of one unit has more than 20 parameters",
        ),
        ({"student": "tree"}, "--grow counts the parameters of an mlp or a gru, not of a tree"),
    ],
)
def test_sizes_that_contradict_each_other_are_refused(tmp_path: Path, more: dict[str, Any], said: str) -> None:
    with pytest.raises(KDError, match=said):
        recorded(tmp_path / "run", **{**GROWS, **more})
    assert not (tmp_path / "run").exists()


def test_a_run_that_was_stopped_goes_on_with_the_size_that_it_was_at(tmp_path: Path) -> None:
    whole = recorded(tmp_path / "whole", Recorder(by_policy=only_the_largest), **GROWS)

    def stops(policy: Any) -> float:
        if policy.num_parameters == LARGEST:
            raise Stopped
        return 0.0

    with pytest.raises(Stopped):
        recorded(tmp_path / "run", Recorder(by_policy=stops), **GROWS)
    rest = recorded(tmp_path / "run", Recorder(by_policy=only_the_largest), **GROWS, resume=True)
    assert [fit.told["steps"] for fit in rest.fits] == [GIVEN["final_steps"]]
    assert rest.result["sizes"] == whole.result["sizes"]
    kept = load_policy(tmp_path / "run" / "student.safetensors")
    assert fingerprint(kept.graph) == whole.fits[-1].after
    for booked in ("collect_steps", "validation_steps", "gradient_steps"):
        assert rest.result["cost"][booked] == whole.result["cost"][booked], booked
