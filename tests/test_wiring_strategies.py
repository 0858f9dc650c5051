"""The search for a size, the student that follows a training, and what a run ends with."""

from pathlib import Path

from recorder import GIVEN, Recorder, fingerprint, recorded

from kd_agent import load_policy


def test_a_search_judges_the_last_fit_of_the_smallest_size_that_holds(tmp_path: Path) -> None:
    """Linear and one unit earn nothing; two units (22 parameters) and three are as good as the teacher."""
    recorder = Recorder(by_policy=lambda policy: 100.0 if policy.num_parameters >= 22 else 0.0)
    recorded(tmp_path / "run", recorder, search_size=True, hidden=[3], attempts=2, loss="kl", teacher_layer=None,
             student_layer=None)  # fmt: skip
    assert recorder.result["search"]["chosen"] == [2]
    policy = load_policy(tmp_path / "run" / "student.safetensors")
    chosen = [fit for fit in recorder.fits if fit.after == fingerprint(policy.graph)]
    assert [fit.told["steps"] for fit in chosen] == [GIVEN["final_steps"]]
    assert policy.graph.provenance["config"]["hidden"] == [2]
    assert {play.who for play in recorder.verdicts()} == {chosen[0].after}
