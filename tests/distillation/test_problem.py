"""What is asked is checked as a whole before anything is written or trained, whichever command asks."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fixed_teachers import good
from prepared_runs import begun, problem
from recorder import SEAMS, TEACHER, Recorder, a_teacher, layers
from samples import HEADS, PROBES, TINY, make_student

from kd_agent import KDError, distill, distill_tasks
from kd_agent.continual.follow_drift import follow_drift
from kd_agent.distillation.checks import (
    Use,
    blank,
    changed_settings,
    check_losses,
    check_settings,
    idle_settings,
)
from kd_agent.distillation.problem import Problem
from kd_agent.kickstarting.kickstart import kickstart
from kd_agent.networks import Teacher
from kd_agent.policies import ObservationSpec
from kd_agent.runs import Plan
from kd_agent.settings import DistillConfig, FollowDriftConfig, SearchConfig, resolve
from kd_agent.studies.compression import compress
from kd_agent.studies.settings_search import search_settings
from kd_agent.teachers._ensemble import EnsembleTeacher

BASE = {"env": PROBES["Discrete"], "out": "run", "quiet": True}
NUMBERS = {"obs": ObservationSpec((4,), "float32")}


def run_compress(settings: dict[str, Any]) -> Any:
    return compress(resolve(DistillConfig, settings))


def run_search(settings: dict[str, Any]) -> Any:
    return search_settings(resolve(SearchConfig, settings))


def run_tasks(settings: dict[str, Any]) -> Any:
    shared = {name: value for name, value in settings.items() if name != "env"}
    return distill_tasks({"tasks": [PROBES["Discrete"], PROBES["Box"]], **shared})


def run_drift(settings: dict[str, Any]) -> Any:
    return follow_drift(resolve(FollowDriftConfig, settings))


COMMANDS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "distill": distill,
    "compress": run_compress,
    "search": run_search,
    "tasks": run_tasks,
    "kickstart": kickstart,
    "drift": run_drift,
}

REFUSED: list[tuple[str, dict[str, Any], str]] = [
    # What is wrong with the settings by themselves.
    ("distill", {"loss": "lk"}, "unknown loss 'lk'; did you mean 'kl'"),
    ("distill", {"student": "mpl"}, "did you mean 'mlp'"),
    ("distill", {"device": "abacus"}, "device 'abacus' is not to be had"),
    ("distill", {"temperature": "auto", "n_envs": 1}, "n_envs of 2 or more"),
    # What does not go with the environment.
    ("distill", {"env": "CartPoel-v1"}, "did you mean 'CartPole-v"),
    ("distill", {"student_keys": ["half"]}, "--student-keys 'half'; choose from: none"),
    ("distill", {"env": "kd_envs/ProbeDict-v0", "student_keys": ["hall"]}, "did you mean"),
    # What no teacher that is still to be trained would change.
    ("distill", {"student": "tree", "loss": "js"}, "not by the loss js"),
    ("distill", {"student": "tree", "dropout": 0.1}, "dropout is for networks"),
    ("distill", {"control": True, "student": "gru"}, "--control trains mlp students, not gru"),
    ("distill", {"control": True, "student": "tree"}, "--control trains mlp students, not tree"),
    ("distill", {"control": True, "env": "CliffWalking-v1"}, "a whole Box of numbers"),
    ("distill", {"teacher_keys": ["state"]}, "teacher_keys"),
    ("distill", {"teacher_env": "Acrobot-v1"}, "does not fit"),
    # What does not go with how the student is to come about.
    ("distill", {"search_size": True, "student": "tree"}, "its size is --leaves"),
    ("distill", {"realtime": True, "student": "tree"}, "a tree is not fitted by"),
    ("distill", {"realtime": True, "search_size": True}, "--realtime and --search-size do not go together"),
    # What a command cannot honour, in its own words.
    ("compress", {"realtime": True}, "compressing starts from a finished teacher: leave out --realtime"),
    ("compress", {"control": True}, "compressing has no control in its table: leave out --control"),
    ("compress", {"search_size": True}, "leave out --search-size"),
    ("compress", {"then_ppo": 100}, "leave out --then-ppo"),
    ("compress", {"label_budget": 100}, "leave out --label-budget"),
    ("compress", {"temperature": "auto"}, "leave out --temperature auto"),
    ("compress", {"render": True}, "compressing does not render"),
    ("compress", {"resume": True}, "compressing does not resume"),
    ("compress", {"student": "tree"}, "a tree has neither layers to prune"),
    ("compress", {"hidden": 0}, "gives no size to prune to"),
    ("compress", {"loss": "lk"}, "did you mean 'kl'"),
    ("search", {"realtime": True}, "leave out --realtime"),
    ("search", {"label_budget": 100}, "leave out --label-budget"),
    ("search", {"control": True}, "leave out --control"),
    ("search", {"search_size": True}, "leave out --search-size"),
    ("search", {"then_ppo": 100}, "leave out --then-ppo"),
    ("search", {"render": True}, "leave out --render"),
    ("search", {"temperature": "auto"}, "leave out --temperature auto"),
    ("search", {"student": "tree"}, "its size is --leaves"),
    ("search", {"device": "abacus"}, "device 'abacus'"),
    ("tasks", {"hidden": [16]}, "1 layers leave none to share"),
    ("tasks", {"loss": "relation"}, "are for one task"),
    ("tasks", {"loss": "lk"}, "did you mean 'kl'"),
    ("tasks", {"device": "abacus"}, "device 'abacus'"),
    ("tasks", {"tasks": [PROBES["Discrete"], "CartPoel-v1"]}, "did you mean 'CartPole-v"),
    ("kickstart", {"env": "CliffWalking-v1"}, "a Box of numbers, not"),
    ("kickstart", {"init": "absent.safetensors"}, "absent.safetensors"),
    ("kickstart", {"device": "abacus"}, "device 'abacus'"),
    ("kickstart", {"teacher": "absent.zip"}, "absent.zip"),
    ("drift", {"student": "absent.safetensors", "teacher": "x.zip"}, "absent.safetensors"),
]


@pytest.fixture
def untouched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An empty folder, in which nothing may be written and nothing trained."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(SEAMS["learn"], lambda *args, **more: pytest.fail("a teacher was trained"))
    yield
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("untouched")
@pytest.mark.parametrize(("command", "settings", "words"), REFUSED, ids=lambda value: str(value)[:50])
def test_what_cannot_be_is_refused_before_anything_is_written_or_trained(
    command: str, settings: dict[str, Any], words: str
) -> None:
    with pytest.raises(KDError) as caught:
        COMMANDS[command]({**BASE, **settings})
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


WITH_A_TEACHER: list[tuple[str, dict[str, Any], str]] = [
    ("diag_gaussian", {"loss": {"ranking": 1.0}}, "what fits: mse"),
    ("categorical", {"loss": {"hint": 1.0}, "teacher_layer": "nonsense"}, "unknown layer of the teacher"),
    ("categorical", {"loss": {"hint": 1.0}, "student_layer": "hiden.0"}, "of the student 'hiden.0'; did you mean"),
    ("categorical", {"loss": {"relation": 1.0}, "hidden": 0}, "no layer whose features could be compared"),
    ("categorical", {"loss": {"value": 1.0}}, "critic"),
    ("categorical", {"student": "tree", "loss": "mse"}, "not by the loss mse"),
]


@pytest.mark.usefixtures("untouched")
@pytest.mark.parametrize(("kind", "settings", "words"), WITH_A_TEACHER, ids=lambda value: str(value)[:50])
def test_what_a_teacher_cannot_serve_is_refused_before_anything_is_written(
    kind: str, settings: dict[str, Any], words: str
) -> None:
    env = PROBES["Box"] if "gaussian" in kind else PROBES["Discrete"]
    with pytest.raises(KDError) as caught:
        distill({**BASE, "env": env, **settings}, teacher=a_teacher(kind=kind))
    assert words in str(caught.value)


@pytest.mark.usefixtures("untouched")
def test_a_control_of_a_student_that_would_have_a_memory_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody asked for one: the teacher's memory decides it."""
    teacher = a_teacher()
    monkeypatch.setattr(teacher, "recurrent", True)
    with pytest.raises(KDError, match="--control trains mlp students, not gru"):
        distill({**BASE, "control": True}, teacher=teacher)


def test_a_problem_that_is_well_posed_writes_nothing_until_it_begins(tmp_path: Path) -> None:
    found = problem(tmp_path / "run")
    assert not (tmp_path / "run").exists()
    assert found.teacher is TEACHER
    assert found.training is found.config
    assert dict(found.observed) == NUMBERS
    with found.begin() as run:
        assert run.teacher is TEACHER
        assert (tmp_path / "run" / "config.yaml").is_file()


def test_what_a_command_refuses_is_what_differs_from_the_default() -> None:
    use = Use(refuses={"render": "no pictures here"})
    config = resolve(DistillConfig, {"env": PROBES["Discrete"]})
    check_settings(config, use)
    with pytest.raises(KDError, match="no pictures here"):
        check_settings(replace(config, render=True), use)
    assert changed_settings(replace(config, render=True, margin=0.1)) == ["margin", "render"]


def test_a_command_that_does_not_resume_leaves_no_settings_to_go_on_with(tmp_path: Path) -> None:
    config = resolve(DistillConfig, {**TINY, "env": PROBES["Discrete"], "out": str(tmp_path / "run")})
    with Problem.of(config, TEACHER, Use(resumes=False)).begin():
        assert not (tmp_path / "run" / "config.yaml").exists()
        assert not (tmp_path / "run" / "teacher.json").exists()


def test_seconds_are_booked_as_the_teachers_and_the_distillations(tmp_path: Path) -> None:
    with begun(tmp_path / "run") as run:
        pass
    assert set(run.costs.seconds) == {"teacher_s", "distill_s"}


def test_a_loss_is_tried_on_a_blank_observation_of_each_key() -> None:
    observed = {"a": ObservationSpec((2, 3), "float32"), "b": ObservationSpec((), "int64", (4,))}
    found = blank(observed)
    assert {key: (x.shape, x.dtype) for key, x in found.items()} == {
        "a": ((1, 2, 3), np.dtype("float32")),
        "b": ((1,), np.dtype("int64")),
    }
    config = resolve(DistillConfig, {"env": "x", "loss": {"relation": 1.0}})
    check_losses(Plan.of(config, TEACHER, NUMBERS), TEACHER, NUMBERS)


# Settings that do nothing.


def lines(by: Teacher = TEACHER, **settings: Any) -> list[str]:
    config = resolve(DistillConfig, {"env": "Elsewhere-v0", **settings})
    return idle_settings(config, Plan.of(config, by, NUMBERS), by)


GAUSSIAN = a_teacher(kind="diag_gaussian")
ONE = "there is one teacher"
NO_OUTPUTS = "no teacher is an ONNX file or a LEAPP graph"
NO_LAYERS = "no loss compares layers, as hint, relation and intuition do"
SAME = "this loss and action head are the same at any"
STEPS = "a tree is grown, not fitted in steps"

IDLE: list[tuple[Teacher, dict[str, Any], str, str]] = [
    (GAUSSIAN, {"temperature": 2.0}, "temperature", SAME),
    (TEACHER, {"temperature": 2.0, "loss": "ce"}, "temperature", SAME),
    (TEACHER, {"choose_by": "agreement"}, "choose-by", "the temperature is not chosen (--temperature auto)"),
    (TEACHER, {"leaves": 9}, "leaves", "only a tree has leaves (--student tree)"),
    (TEACHER, {"student": "tree", "activation": "relu"}, "activation", "a tree has none"),
    (TEACHER, {"student": "tree", "hidden": [8]}, "hidden", "a tree has no layers"),
    (TEACHER, {"student": "tree", "round_steps": 8}, "round-steps", STEPS),
    (TEACHER, {"student": "tree", "final_steps": 8}, "final-steps", STEPS),
    (TEACHER, {"student": "tree", "batch_size": 8}, "batch-size", STEPS),
    (TEACHER, {"student": "tree", "learning_rate": 0.1}, "learning-rate", STEPS),
    (TEACHER, {"teacher": ["a.zip"], "onnx_output": "a"}, "onnx-output", NO_OUTPUTS),
    (TEACHER, {"combine": "product"}, "combine", ONE),
    (TEACHER, {"teacher_gate": False}, "teacher-gate", ONE),
    (TEACHER, {"teacher_layer": "any"}, "teacher-layer", NO_LAYERS),
    (TEACHER, {"student_layer": "hidden.0", "loss": {"kl": 1.0, "ce": 1.0}}, "student-layer", NO_LAYERS),
]


@pytest.mark.parametrize(("teacher", "settings", "flag", "why"), IDLE, ids=lambda value: str(value)[:30])
def test_a_setting_that_does_nothing_is_said_in_one_line(
    teacher: Teacher, settings: dict[str, Any], flag: str, why: str
) -> None:
    assert lines(teacher, **settings) == [f"note: --{flag} has no effect here: {why}"]


AT_WORK: list[dict[str, Any]] = [
    {},
    {"temperature": 2.0},
    {"temperature": "auto", "choose_by": "agreement"},
    {"student": "tree", "leaves": 9},
    {"activation": "relu", "hidden": [8], "final_steps": 3, "batch_size": 9, "learning_rate": 0.1},
    {"teacher": ["a.onnx"], "onnx_output": "a"},
    {"teacher": ["a.yaml"], "onnx_output": "a"},
    {"teacher": ["a.zip", "b.zip"], "combine": "product", "teacher_gate": False},
    {"loss": {"relation": 1.0}, "teacher_layer": layers(TEACHER)[0], "student_layer": "hidden.0"},
]


@pytest.mark.parametrize("settings", AT_WORK, ids=lambda settings: " ".join(settings) or "nothing")
def test_nothing_is_said_of_what_is_at_work(settings: dict[str, Any]) -> None:
    assert lines(**settings) == []


def test_a_temperature_softens_a_gaussian_where_its_loss_is_a_divergence() -> None:
    assert lines(GAUSSIAN, temperature=2.0, loss="kl", convention="rusu") == []


def test_each_idle_setting_has_a_line_of_its_own() -> None:
    assert [line.split()[1] for line in lines(leaves=9, combine="product", choose_by="agreement")] == [
        "--choose-by",
        "--leaves",
        "--combine",
    ]


def test_they_are_said_when_a_run_begins_and_not_when_it_goes_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What a resumed run reads from its folder is all that was decided, and nobody asked for that."""
    shown = {"quiet": False, "progress": False}
    with begun(tmp_path / "run", student="tree", hidden=None, leaves=9, combine="product", **shown):
        said = capsys.readouterr().err
    assert "note: --combine has no effect here: there is one teacher" in said
    again = resolve(DistillConfig, {"out": str(tmp_path / "run"), "resume": True, **shown})
    assert again.hidden is not None
    with Problem.of(again, TEACHER).begin():
        assert "note:" not in capsys.readouterr().err


def test_teachers_are_selected_before_the_plan_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A selection that leaves one of two teachers out changes who teaches, and is booked."""
    recorder = Recorder()
    recorder.install(monkeypatch)
    with begun(tmp_path / "run", EnsembleTeacher([good(), good("other")])) as run:
        assert run.teacher.origin.gate_steps == run.costs.of("selection_steps") > 0
        assert [record["weight"] for record in run.teacher.origin.teachers] == [0.5, 0.5]


def test_student_and_teacher_may_see_other_keys(tmp_path: Path) -> None:
    teacher = make_student(HEADS["categorical"]).save(tmp_path / "t.safetensors", {"env": PROBES["Discrete"]})
    settings = {**BASE, "env": "kd_envs/ProbeDict-v0", "teacher": [str(teacher)], "teacher_keys": ["all"]}
    found = Problem.of(resolve(DistillConfig, {**settings, "student_keys": ["half"]}))
    assert {key: spec.shape for key, spec in found.observed.items()} == {"half": (2,)}
    assert found.teacher is not None
    assert list(found.teacher.observations) == ["all"]
