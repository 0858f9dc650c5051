"""What is asked is complete and checked before anything is written, and the run says and remembers what it is."""

from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from recorder import GIVEN, SEAMS, TEACHER, Recorder, Stopped, a_teacher, recorded
from samples import HEADS, PROBES, make_student

from kd_agent import KDError, distill
from kd_agent.distillation.checks import Use
from kd_agent.distillation.problem import Problem
from kd_agent.networks import Origin
from kd_agent.policies import ObservationSpec
from kd_agent.runs import Plan
from kd_agent.runs.plan import IMAGES, MEMORY, NUMBERS, TREE
from kd_agent.settings import DistillConfig, resolve
from kd_agent.studies.compression import compress
from kd_agent.teachers import GraphTeacher

PLAIN: dict[str, Any] = {"loss": "kl", "teacher_layer": None, "student_layer": None}
OBSERVED = {"obs": ObservationSpec((4,), "float32")}
PICTURES = {"obs": ObservationSpec((36, 36, 1), "uint8")}


def with_memory() -> GraphTeacher:
    """A teacher whose student is a GRU where nobody says otherwise."""
    graph = make_student(HEADS["categorical"], "gru", hidden=(4,)).graph()
    return GraphTeacher(graph, Origin("one with a memory", "0" * 64, "student", 1_000))


def config_of(**more: Any) -> DistillConfig:
    return resolve(DistillConfig, {"env": PROBES["Discrete"], **more})


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"temperature": "auto", "n_envs": 1}, "temperature auto holds out"),
        ({"device": "abacus"}, "device 'abacus' is not to be had"),
        ({**PLAIN, "student": "tree", "l2": 0.0}, "dropout is for networks"),
        ({"control": True, "student": "cnn"}, "--control trains mlp students, not cnn"),
        ({"student_keys": ["nothing"]}, "nothing"),
        ({"loss": {"value": 1.0}}, "needs the teacher's critic"),
        ({"teacher_layer": "nowhere"}, "nowhere"),
        ({"student_layer": "nowhere"}, "nowhere"),
        ({"hidden": [0]}, "no layer whose features could be compared"),
        ({**PLAIN, "search_size": True, "student": "tree"}, "--search-size searches over hidden layers"),
        ({**PLAIN, "realtime": True, "teacher": ["a file"]}, "--realtime follows a teacher in training"),
    ],
)
def test_what_does_not_fit_is_refused_before_anything_is_written(
    more: dict[str, Any], said: str, tmp_path: Path
) -> None:
    with pytest.raises(KDError, match=said):
        recorded(tmp_path / "run", **more)
    assert not (tmp_path / "run").exists()


def test_a_control_of_a_student_that_only_the_teacher_makes_a_gru_is_refused(tmp_path: Path) -> None:
    with pytest.raises(KDError, match="--control trains mlp students, not gru"):
        distill({"env": PROBES["Discrete"], "control": True, "out": str(tmp_path / "run")}, teacher=with_memory())
    assert not (tmp_path / "run").exists()


def test_a_trained_teacher_is_checked_as_a_named_one_before_the_run_begins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(SEAMS["train"], lambda *told: TEACHER)
    with pytest.raises(KDError, match="needs the teacher's critic"):
        distill({**GIVEN, "loss": "value", "out": str(tmp_path / "run")})
    assert not (tmp_path / "run" / "config.yaml").exists()


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"control": True, "student": "cnn"}, "--control trains mlp students, not cnn"),
        ({**PLAIN, "student": "tree"}, "dropout is for networks"),
    ],
)
def test_what_needs_no_teacher_is_checked_before_one_is_trained(
    more: dict[str, Any], said: str, tmp_path: Path
) -> None:
    with pytest.raises(KDError, match=said):
        recorded(tmp_path / "run", taught_by=None, **more)
    assert not (tmp_path / "run").exists()


def test_a_teacher_is_trained_in_its_own_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trained: list[DistillConfig] = []

    def train(config: DistillConfig, training: DistillConfig, *rest: Any) -> Any:
        trained.append(training)
        raise Stopped

    monkeypatch.setattr(SEAMS["train"], train)
    view = {"env": "kd_envs/ProbeDict-v0", "teacher_keys": ["all"], "teacher_env": PROBES["Discrete"], **PLAIN}
    with pytest.raises(Stopped):
        distill({**GIVEN, **view, "out": str(tmp_path / "run")})
    assert [one.env for one in trained] == [PROBES["Discrete"]]


def test_a_command_refuses_what_it_says_it_cannot_honour() -> None:
    use = Use(refuses={"exploration": "nothing is explored here"})
    with pytest.raises(KDError, match="nothing is explored here"):
        Problem.of(config_of(exploration=0.5), TEACHER, use)
    assert Problem.of(config_of(), TEACHER, use).use is use


@pytest.mark.parametrize("name", ["resume", "render", "realtime", "control", "search_size"])
def test_a_compression_study_refuses_what_only_a_distillation_can_do(name: str, tmp_path: Path) -> None:
    with pytest.raises(KDError, match="compressing"):
        compress(config_of(**{name: True}, out=str(tmp_path / "run")))
    assert not (tmp_path / "run").exists()


def test_networks_are_small_and_one_thread_is_the_same_bits_everywhere() -> None:
    torch.set_num_threads(2)
    Problem.of(config_of(), TEACHER)
    assert torch.get_num_threads() == 1


A_TREE: dict[str, Any] = {**PLAIN, "student": "tree", "dropout": 0.0, "l2": 0.0}
NETWORKS_ALONE = {"hidden", "activation", "round-steps", "final-steps", "batch-size", "learning-rate"}
NOTES: list[tuple[dict[str, Any], set[str]]] = [
    ({}, set()),
    ({"loss": {"hint": 1.0}}, {"temperature"}),
    ({"choose_by": "agreement"}, {"choose-by"}),
    ({"leaves": 5}, {"leaves"}),
    ({**A_TREE}, NETWORKS_ALONE),
    ({**A_TREE, "leaves": 5}, NETWORKS_ALONE),
    ({"combine": "product"}, {"combine"}),
    ({"teacher_gate": False}, {"teacher-gate"}),
    ({"loss": "kl"}, {"teacher-layer", "student-layer"}),
    ({"temperature": "auto", "choose_by": "agreement"}, set()),
]


@pytest.mark.parametrize(("more", "idle"), NOTES)
def test_a_setting_that_was_given_and_does_nothing_is_named(
    more: dict[str, Any], idle: set[str], tmp_path: Path
) -> None:
    recorder = Recorder(stop_at_round=0)
    with pytest.raises(Stopped):
        recorded(tmp_path / "run", recorder, **more)
    notes = [line for line in recorder.lines if line.startswith("note: ")]
    assert {line.split()[1].removeprefix("--") for line in notes} == idle
    assert len(notes) == len(idle)
    assert all("has no effect here: " in line for line in notes)


def test_what_only_stands_in_the_settings_of_a_run_that_goes_on_is_not_named(tmp_path: Path) -> None:
    for resume in (False, True):
        recorder = Recorder(stop_at_round=0)
        with pytest.raises(Stopped):
            recorded(tmp_path / "run", recorder, leaves=5, resume=resume)
        notes = [line for line in recorder.lines if line.startswith("note: ")]
        assert len(notes) == (0 if resume else 1)


def test_a_run_remembers_its_plan_and_its_teacher_from_the_beginning(tmp_path: Path) -> None:
    recorder = Recorder(stop_at_round=0)
    open_settings = dict.fromkeys(("hidden", "env_steps", "rounds", "n_envs", "attempts", "batch_size", "loss"))
    with pytest.raises(Stopped):
        recorded(tmp_path / "run", recorder, **open_settings)
    kept = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())
    plan = Plan.of(config_of(**{**GIVEN, **open_settings}), TEACHER, OBSERVED)
    assert kept["hidden"] == list(plan.hidden) != []
    for name in ("student", "loss", "env_steps", "rounds", "n_envs", "attempts", "batch_size", "round_steps"):
        assert kept[name] == getattr(plan, name), name
    assert TEACHER.origin.sha256 in (tmp_path / "run" / "teacher.json").read_text()


def test_every_setting_of_the_plan_that_was_given_is_in_it() -> None:
    plan = Plan.of(resolve(DistillConfig, {**GIVEN, "student": "gru", "leaves": 9, "grow": True}), TEACHER, OBSERVED)
    expected = {**GIVEN, "student": "gru", "leaves": 9, "grow": True, "hidden": (7, 3)}
    for field in fields(Plan):
        assert getattr(plan, field.name) == expected[field.name], field.name


@pytest.mark.parametrize(
    ("kind", "observed", "table"),
    [
        (None, OBSERVED, NUMBERS),
        ("gru", OBSERVED, MEMORY),
        ("tree", OBSERVED, TREE),
        (None, PICTURES, IMAGES),
    ],
)
def test_what_is_not_given_suits_the_student(kind: str | None, observed: dict[str, Any], table: dict[str, Any]) -> None:
    plan = Plan.of(config_of(student=kind), TEACHER, observed)
    assert {name: getattr(plan, name) for name in table} == table
    by_default = "cnn" if observed is PICTURES else "mlp"
    assert plan.student == (kind or by_default)


def test_the_rounds_follow_from_the_budget() -> None:
    rounds = [Plan.of(config_of(env_steps=steps), TEACHER, OBSERVED).rounds for steps in (1, 5_000, 25_000, 10**6)]
    assert rounds == [1, 1, 2, 8]


@pytest.mark.parametrize(("more", "n_envs"), [({}, 3), ({"max_episode_steps": 40}, 4), ({"n_envs": 7}, 7)], ids=str)
def test_as_many_environments_play_as_see_a_whole_episode_or_as_were_asked_for(
    more: dict[str, Any], n_envs: int, tmp_path: Path
) -> None:
    """An episode of the probe has 50 steps at most."""
    recorder = Recorder(stop_at_fit=True)
    with pytest.raises(Stopped):
        recorded(tmp_path / "run", recorder, **{"n_envs": None, "env_steps": 170, **more})
    assert {r.n_envs for r in recorder.rounds} == {n_envs}


def test_where_a_temperature_is_measured_there_are_environments_to_hold_out(tmp_path: Path) -> None:
    recorder = Recorder(stop_at_fit=True)
    with pytest.raises(Stopped):
        recorded(tmp_path / "run", recorder, n_envs=None, env_steps=60, temperature="auto")
    assert [r.n_envs for r in recorder.rounds] == [2]


def test_the_plan_that_is_checked_is_the_one_that_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[Plan] = []
    monkeypatch.setattr("kd_agent.distillation.problem.check_plan", lambda plan, *rest: told.append(plan))
    with pytest.raises(Stopped):
        recorded(tmp_path / "run", Recorder(stop_at_round=0), n_envs=None, env_steps=170)
    assert told[0] == told[1]
    assert told[0].n_envs == 3


def test_a_tree_is_not_fitted_in_steps_whatever_is_asked_for() -> None:
    plan = Plan.of(config_of(student="tree", round_steps=7, final_steps=11, attempts=3), TEACHER, OBSERVED)
    assert (plan.round_steps, plan.final_steps, plan.attempts) == (0, 0, 3)


def test_loss_layer_temperature_and_size_are_decided_by_the_teacher_where_they_are_open() -> None:
    plan = Plan.of(config_of(temperature="auto"), TEACHER, OBSERVED)
    assert (plan.loss, plan.temperature, plan.teacher_layer) == ({"kl": 1.0}, 1.0, None)
    compared = Plan.of(config_of(loss="hint"), TEACHER, OBSERVED)
    assert compared.teacher_layer == TEACHER.last_layer
    assert Plan.of(config_of(loss="kl", teacher_layer="any"), TEACHER, OBSERVED).teacher_layer is None
    continuous = a_teacher(kind="diag_gaussian")
    assert Plan.of(config_of(), continuous, OBSERVED).loss == {"mse": 1.0}
    large = GraphTeacher(TEACHER.graph, Origin("large", "0" * 64, "student", 10_000))
    assert Plan.of(config_of(), large, OBSERVED).hidden == (16, 16)
    assert Plan.of(config_of(), TEACHER, OBSERVED).hidden == (6, 6)
