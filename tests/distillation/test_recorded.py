"""Recorded data in the place of a teacher: fitted without an environment, judged with one, and never more than that."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from recordings import arrays, minari_dataset, minari_folder, of_chance, saved
from samples import PROBES, TINY, Agent, flags, settings

from kd_agent import KDError, distill, load_policy, load_teacher
from kd_agent.commands import cli
from kd_agent.distillation import recorded
from kd_agent.distillation.outcome import UnplayedResult
from kd_agent.runs import RunFolder

__all__ = ["minari_folder"]
PROBE = PROBES["Discrete"]
FIT = {"final_steps": 400, "attempts": 1, "hidden": [16], "quiet": True}
PLAY = {"env": PROBE, "episodes": 20, "max_episodes": 60, "exam_episodes": 4}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Good data of the Discrete probe."""
    return saved(tmp_path_factory.mktemp("data") / "data.npz", arrays(episodes=24))


@pytest.fixture(scope="module")
def unplayed(data: str, tmp_path_factory: pytest.TempPathFactory) -> UnplayedResult:
    """A run without an environment."""
    result = distill({**FIT, "teacher": data, "out": str(tmp_path_factory.mktemp("runs") / "unplayed"), "attempts": 2})
    assert isinstance(result, UnplayedResult)
    return result


@pytest.fixture(scope="module")
def judged(data: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A run with an environment."""
    out = tmp_path_factory.mktemp("runs") / "judged"
    return distill({**FIT, **PLAY, "final_steps": 2_000, "teacher": data, "out": str(out), "margin": 0.2})


def test_without_an_environment_the_verdict_is_open_and_says_why(unplayed: UnplayedResult) -> None:
    assert unplayed["verdict"] == {
        "non_inferior": False,
        "decision": "undecided",
        "episodes": 0,
        "reasons": ["never played: no environment"],
    }
    student, teacher = unplayed["student"], unplayed["teacher"]
    assert teacher["recorded"] == {"episodes": 24, "whole_episodes": 24, "states": 1200, "labels": "actions"}
    assert (student["agreement_episodes"], student["agreement_states"]) == (5, 250)
    assert student["agreement"] > 0.7
    assert student["kl"] < student["kl_uniform"]
    assert not unplayed.shown_to_be_good
    assert "returns" not in student
    assert unplayed["cost"]["all_env_steps"] == 0
    assert unplayed["cost"]["gradient_steps"] == 2 * FIT["final_steps"]
    assert json.loads((unplayed.path / "result.json").read_text()) == dict(unplayed)


def test_its_figures_and_its_page_say_what_is_not_known(unplayed: UnplayedResult) -> None:
    assert unplayed.figures()["verdict"] == "undecided: never played: no environment"
    assert "5 of 24 recorded episodes" in repr(unplayed)
    page = (unplayed.path / "report.html").read_text()
    assert "was never played, because no environment is" in page
    assert "5 episodes held out of the recording" in page


def test_the_student_acts_and_names_no_environment(unplayed: UnplayedResult) -> None:
    policy = unplayed.policy
    right = [policy.act(seen) == np.argmax(seen) for seen in arrays(seed=9)["observations"][:300]]
    assert np.mean(right) > 0.7
    assert not {"env", "recipe"} & set(policy.graph.provenance)


def test_the_attempt_with_the_least_divergence_from_what_is_held_out_is_kept(
    data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured = recorded.measure_held_out
    seen = []

    def _spied(teacher: Any, student: Any, seed: int) -> Any:
        seen.append((measured(teacher, student, seed).agreement.kl, student.graph))
        return measured(teacher, student, seed)

    monkeypatch.setattr(recorded, "measure_held_out", _spied)
    result = distill({**FIT, "teacher": data, "out": str(tmp_path / "run"), "attempts": 3})
    best = min(seen, key=lambda one: one[0])
    assert len({kl for kl, _ in seen}) == 3
    assert result["student"]["kl"] == pytest.approx(best[0])
    tensors = [op.tensors for op in result.policy.graph.ops if op.tensors]
    for own, kept in zip([op.tensors for op in best[1].ops if op.tensors], tensors, strict=True):
        assert all(np.array_equal(array, kept[name]) for name, array in own.items())


def test_what_is_held_out_is_not_fitted(data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fitted = {}

    def _spied(student: Any, rollouts: Any, *more: Any, **told: Any) -> float:
        fitted["rollouts"] = rollouts
        return 0.0

    monkeypatch.setattr("kd_agent.learners.gradient.fit", _spied)
    distill({**FIT, "teacher": data, "out": str(tmp_path / "run"), "seed": 5})
    [rollout] = fitted["rollouts"]
    teacher = load_teacher(data)
    held_out = recorded.held_out_states(teacher, 5)
    assert held_out.sum() == 250
    np.testing.assert_array_equal(rollout.obs["obs"][:, 0], teacher.recording.observations["obs"][~held_out])
    np.testing.assert_array_equal(rollout.params[:, 0], teacher.recording.params[~held_out])
    np.testing.assert_array_equal(rollout.episode_start[:, 0], teacher.recording.starts[~held_out])


def test_with_an_environment_the_student_plays_and_the_recording_does_not(judged: dict[str, Any]) -> None:
    assert judged["verdict"]["decision"] == "non-inferior"
    assert len(judged["teacher"]["returns"]) == 24
    assert len(judged["student"]["returns"]) == 60
    assert judged["teacher"]["better_than_random"]
    assert (judged["teacher"]["better_otherwise"], judged["teacher"]["mean_otherwise"]) == (None, None)
    assert judged["student"]["agreement_on"] == "episodes held out of the recording"
    # The student's 60 and the random policy's 40 episodes of 50 steps each, and nobody else's.
    assert judged["cost"]["verdict_steps"] == 100 * 50
    assert judged["cost"]["agreement_steps"] == judged["cost"]["collect_steps"] == 0
    page = (judged.path / "report.html").read_text()  # type: ignore[attr-defined]
    assert "against 24 recorded ones, which are not paired with them" in page
    assert "the same seeds" not in page


def test_random_data_never_pass(tmp_path: Path) -> None:
    for seed in range(3):
        source = saved(tmp_path / f"{seed}.npz", of_chance(seed=seed))
        result = distill({**FIT, **PLAY, "teacher": source, "out": str(tmp_path / f"run-{seed}"), "seed": seed})
        assert not result["verdict"]["non_inferior"]
        assert not result["teacher"]["better_than_random"]
        assert "not shown to be better than chance" in result["verdict"]["reasons"][0]


def test_few_recorded_episodes_leave_the_verdict_open(tmp_path: Path) -> None:
    source = saved(tmp_path / "few.npz", arrays(episodes=19))
    more = {**PLAY, "max_episodes": 100, "episodes": 90}
    result = distill({**FIT, **more, "teacher": source, "out": str(tmp_path / "run")})
    assert result["verdict"]["decision"] == "undecided"
    assert "19 recorded episodes decide nothing" in " ".join(result["verdict"]["reasons"])
    # No episode more than could matter.
    assert result["verdict"]["episodes"] == 60


def test_a_run_that_is_stopped_goes_on_to_the_same_student(
    data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = {**FIT, "teacher": data, "attempts": 3}
    whole = distill({**given, "out": str(tmp_path / "whole")})
    grade = recorded.HeldOutValidation.grade

    def _stopping(validation: Any, student: Any, number: int, rival: float | None = None) -> Any:
        if number == 2:
            raise KeyboardInterrupt
        return grade(validation, student, number, rival)

    with monkeypatch.context() as patch:
        patch.setattr(recorded.HeldOutValidation, "grade", _stopping)
        with pytest.raises(KeyboardInterrupt):
            distill({**given, "out": str(tmp_path / "part")})
    gone_on = distill({"out": str(tmp_path / "part"), "resume": True, "quiet": True})
    assert gone_on["student"]["sha256"] == whole["student"]["sha256"]
    assert gone_on["cost"]["gradient_steps"] == whole["cost"]["gradient_steps"]


def test_another_recording_is_not_gone_on_with(data: str, tmp_path: Path) -> None:
    copy = tmp_path / "data.npz"
    copy.write_bytes(Path(data).read_bytes())
    distill({**FIT, "teacher": str(copy), "out": str(tmp_path / "run")})
    saved(copy, arrays(seed=1))
    with pytest.raises(KDError, match="was begun with another teacher"):
        distill({"out": str(tmp_path / "run"), "resume": True, "quiet": True})


@pytest.mark.parametrize("kind", ["tree", "gru"])
def test_other_students_are_fitted_too(kind: str, data: str, tmp_path: Path) -> None:
    fit = {**FIT, "student": kind, "final_steps": 60, "hidden": None if kind == "tree" else [4]}
    result = distill({**fit, "teacher": data, "out": str(tmp_path / "run")})
    assert result["student"]["kl"] < result["student"]["kl_uniform"]


def test_a_minari_dataset_is_distilled_and_its_environment_named(
    minari_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = minari_dataset("kd/probe-v0", arrays(episodes=8), env=PROBE)
    result = distill({**FIT, "quiet": False, "progress": False, "teacher": source, "out": str(tmp_path / "run")})
    assert result["teacher"]["source"] == source
    said = " ".join(capsys.readouterr().err.split())
    assert f"was recorded in {PROBE}; --env {PROBE} lets the student play there" in said
    other = {
        **FIT,
        **PLAY,
        "env": PROBES["Discrete"],
        "teacher": minari_dataset("kd/other-v0", arrays(), env="CartPole-v1"),
    }
    distill({**other, "quiet": False, "progress": False, "out": str(tmp_path / "other")})
    said = " ".join(capsys.readouterr().err.split())
    assert f"was recorded in CartPole-v1, and the student plays in {PROBE}" in said


def test_what_collecting_would_need_is_said_to_do_nothing(
    data: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    idle = {"env_steps": 9, "rounds": 2, "n_envs": 2, "beta_fraction": 0.5, "exploration": 0.5, "round_steps": 7}
    alone = {"episodes": 9, "max_episodes": 9, "margin": 0.3, "exam_episodes": 9}
    given = {**FIT, "final_steps": 10, "teacher": data, "quiet": False, "progress": False}
    distill({**given, **idle, **alone, "out": str(tmp_path / "run")})
    said = capsys.readouterr().err
    for name in (*idle, *alone):
        assert said.count(f"note: --{name.replace('_', '-')} has no effect here") == 1


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "seeds": ({"seeds": 2}, "--seeds is for a teacher who plays"),
    "realtime": ({"realtime": True, "env": PROBE}, "leave --teacher out"),
    "control": ({"control": True, "env": PROBE}, "--control is held against as many steps of collecting"),
    "search_size": ({"search_size": True}, "--search-size measures sizes"),
    "label_budget": ({"label_budget": 60}, "--label-budget counts the answers"),
    "then_ppo": ({"then_ppo": 100}, "--then-ppo is guided by a teacher"),
    "temperature": ({"temperature": "auto"}, "--temperature auto measures on states that are collected"),
    "teacher_keys": ({"teacher_keys": ["obs"]}, "--teacher-keys is for a teacher who looks"),
    "wrapper": ({"wrapper": ["kd_envs.wrappers:ZeroContactForces"]}, "--wrapper is of an environment"),
    "render": ({"render": True}, "--render is of an environment"),
    "a critic": ({"loss": {"value": 1.0}}, "needs the teacher's critic"),
    "a layer": ({"loss": {"hint": 1.0}}, "needs a layer of the teacher"),
    "compression": ({"compression": 10, "hidden": None}, "its parameters cannot be counted"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_a_recording_cannot_give_is_one_line_and_nothing_is_written(name: str, data: str, tmp_path: Path) -> None:
    more, said = REFUSED[name]
    with pytest.raises(KDError) as caught:
        distill({**FIT, "teacher": data, "out": str(tmp_path / "run"), **more})
    assert said in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_an_environment_is_missed_by_everybody_else(agents: dict[str, Agent], data: str, tmp_path: Path) -> None:
    zipped = str(agents["Discrete"].path)
    for teacher in ([], [zipped], [data, zipped]):
        with pytest.raises(KDError, match=r"^env is missing \(--env\)$"):
            distill({"teacher": teacher, "out": str(tmp_path / "run")})


def test_without_returns_there_is_nothing_to_play_against(tmp_path: Path) -> None:
    plain = {name: arrays()[name] for name in ("observations", "actions")}
    with pytest.raises(KDError, match="tells the return of no whole episode"):
        distill({**FIT, **PLAY, "teacher": saved(tmp_path / "plain.npz", plain), "out": str(tmp_path / "run")})


def test_a_recording_that_was_loaded_before_is_one_too(data: str, tmp_path: Path) -> None:
    result = distill({**FIT, "teacher": data, "out": str(tmp_path / "run")}, teacher=load_teacher(data))
    assert result["verdict"]["reasons"] == ["never played: no environment"]


def test_every_other_command_refuses_it_in_one_line(
    agents: dict[str, Agent], data: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: Any
) -> None:
    monkeypatch.setattr(cli.signal, "signal", lambda *arguments: None)
    monkeypatch.setattr(cli.warnings, "showwarning", cli.warnings.showwarning)
    zipped = str(agents["Discrete"].path)
    student = str(distill(settings(agents["Discrete"], tmp_path / "run")).student_file)
    out = ["--out", str(tmp_path / "out")]
    small = [*flags({**TINY, "env": PROBE}), *out]
    commands = {
        "evaluate": ["evaluate", student, "--teacher", data, "--episodes", "2"],
        "explain": ["explain", student, "--teacher", data, *out],
        "export": ["export", data, "--out", str(tmp_path / "p.onnx")],
        "kickstart": ["kickstart", "--env", PROBE, "--teacher", data, *out],
        "compress": ["compress", "--teacher", data, *small],
        "compress alone": ["compress", "--teacher", data, *out],
        "search": ["search-settings", "--teacher", data, *small],
        "several": ["distill", "--teacher", data, zipped, *small],
        "tasks": ["distill-tasks", "--tasks", PROBE, PROBES["Box"], "--teacher", data, zipped, *out],
        "drift": ["follow-drift", student, "--teacher", data, "--env", PROBE, *out],
        "record": ["record", data, "--env", PROBE, "--out", str(tmp_path / "again.npz")],
    }
    for name, argv in commands.items():
        assert cli.run(argv[0], argv[1:]) == 2, name
        lines = [line for line in capsys.readouterr().err.splitlines() if "error:" in line]
        assert len(lines) == 1, name
        assert "recording" in lines[0], (name, lines)
        assert data in lines[0], (name, lines)
        assert not (tmp_path / "out").exists(), name


def test_the_folder_of_a_run_without_an_environment_is_named_by_the_recording(
    data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = distill({**FIT, "final_steps": 5, "teacher": data})
    assert result.path == Path("runs/data/1")
    assert RunFolder(result.path).read_yaml("config.yaml")["env"] == ""
    assert load_policy(result.student_file).env_id == ""


def test_a_dict_is_fitted_and_played_by_the_keys_that_the_student_sees(tmp_path: Path) -> None:
    data = arrays()
    seen = data.pop("observations")
    source = saved(tmp_path / "dict.npz", {**data, "observations/all": seen, "observations/half": seen[:, :2]})
    given = {**FIT, **PLAY, "env": "kd_envs/ProbeDict-v0", "student_keys": ["all"], "teacher": source}
    result = distill({**given, "out": str(tmp_path / "run")})
    assert list(result.policy.graph.observations) == ["all"]
    assert result["student"]["agreement"] > 0.7
