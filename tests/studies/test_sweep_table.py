"""What a sweep found: its lines, its table and its picture."""

from pathlib import Path

from kd_agent.studies.sweep_table import draw, sentence, summary, write


def test_small_teachers_count_if_the_student_is_no_larger() -> None:
    row = {"loaded": True, "non_inferior": True, "teacher_parameters": 8, "student_parameters": 8, "compression": 1.0}
    assert "1 of 1 non-inferior" in summary([row])
    assert "0 of 1 non-inferior" in summary([{**row, "student_parameters": 10}])
    assert "0 of 1 non-inferior" in summary(
        [{**row, "teacher_parameters": 4000, "student_parameters": 800, "compression": 5}]
    )


def test_a_sweep_says_how_likely_it_is_that_one_of_its_verdicts_is_wrong() -> None:
    row = {"loaded": True, "non_inferior": True, "teacher_parameters": 8, "student_parameters": 8, "compression": 1.0}
    said = "that one or more of the 3 are wrong has a probability of 8% at most"
    assert said in summary([row, row, row, {**row, "non_inferior": False}])
    assert "of the 99 are wrong has a probability of 100% at most" in summary([row] * 99)


def test_a_teacher_of_unknown_size_is_a_row_without_it(tmp_path: Path) -> None:
    row = {
        "name": "f.onnx", "algo": "ONNX", "env": "E-v0", "loaded": True, "error": None, "seconds": 3.0,
        "teacher_parameters": None, "student_parameters": 100, "compression": None, "teacher_mean": 9.0,
        "student_mean": 8.9, "teacher_lower_tail": 7.0, "student_lower_tail": 6.5, "episodes": 90,
        "random_mean": 0.0, "difference": -0.1, "difference_ci": [-0.2, 0.1],
        "decision": "non-inferior", "non_inferior": True,
    }  # fmt: skip
    assert "size unknown" in sentence(row)
    write(tmp_path, [row])
    assert (
        "| f.onnx | ONNX | E-v0 |  | 100 | non-inferior |  | 9.0 (7.0) | 8.9 (6.5) | 90 | 3 |"
        in (tmp_path / "sweep.md").read_text()
    )
    assert "1 of 1 loaded; 0 of 1 non-inferior" in summary([row])
    draw(tmp_path / "sweep.png", [row])
    assert (tmp_path / "sweep.png").stat().st_size > 0
