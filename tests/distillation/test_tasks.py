"""Several tasks in one student: tied layers, one fit, a verdict for each, and what is refused."""

import json
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from samples import HEADS, PROBES, TINY, Agent, labelled, make_student, steps_of, train_agent

from kd_agent import KDError, distill_tasks, load_policy, load_teacher
from kd_agent.commands import cli
from kd_agent.distillation.dagger import Rounds
from kd_agent.evaluation.agreement import agreement_on
from kd_agent.learners.gradient import fit_jointly
from kd_agent.losses import Objective
from kd_agent.networks.base import Origin, Student
from kd_agent.policies import file as graph_file
from kd_agent.rollouts import Rollout
from kd_agent.rollouts.evaluate import evaluate
from kd_agent.students._tied import split, tie, to_graph
from kd_agent.teachers import GraphTeacher

SMALL = {
    name: TINY[name]
    for name in (
        "env_steps",
        "rounds",
        "round_steps",
        "final_steps",
        "episodes",
        "max_episodes",
        "attempts",
        "exam_episodes",
        "quiet",
    )
}
CART = "CartPole-v1"
TASKS = [PROBES["Discrete"], PROBES["Box"], CART]


@pytest.fixture(scope="module")
def teachers(agents: dict[str, Agent], tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    cart = train_agent(tmp_path_factory.mktemp("cart") / "cart.zip", CART)
    return [str(agents["Discrete"].path), str(agents["Box"].path), str(cart.path)]


@pytest.fixture(scope="module")
def given(teachers: list[str]) -> dict[str, Any]:
    return {**SMALL, "tasks": TASKS, "teacher": teachers, "hidden": [9, 7, 6]}


@pytest.fixture(scope="module")
def done(given: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    folder = tmp_path_factory.mktemp("tasks") / "run"
    return folder, distill_tasks({**given, "out": str(folder)})


def test_each_task_gets_its_verdict_and_its_policy_plays(
    done: tuple[Path, dict[str, Any]], teachers: list[str]
) -> None:
    folder, result = done
    assert json.loads((folder / "result.json").read_text()) == result
    assert result.path == folder
    assert [policy.env_id for policy in result.policies.values()] == TASKS
    with pytest.raises(KDError, match="holds the tasks"):
        _ = result.policy
    assert list(result["tasks"]) == TASKS
    for task, source in zip(TASKS, teachers, strict=True):
        verdict, policy = result["tasks"][task], load_policy(folder / "student.safetensors", task=task)
        assert (verdict["env"], policy.env_id) == (task, task)
        assert verdict["teacher"]["sha256"] == sha256(Path(source).read_bytes()).hexdigest()
        assert verdict["verdict"]["decision"] in ("non-inferior", "inferior", "undecided")
        played = evaluate(policy, task, seeds=range(20_000, 20_006))
        assert played.returns.tolist() == verdict["student"]["returns"]
        assert verdict["student"]["parameters"] == policy.num_parameters


def test_parameters_are_counted_once_where_they_are_shared(done: tuple[Path, dict[str, Any]]) -> None:
    folder, result = done
    shared, heads = 9 * 7 + 7 + 7 * 6 + 6, 7 * 4 + 7 * 2 + 7 * 2
    first_layers = 3 * (4 * 9 + 9)
    assert result["parameters"] == {"total": shared + first_layers + heads, "shared": shared}
    raw = (folder / "student.safetensors").read_bytes()
    assert (result["bytes"], result["sha256"]) == (len(raw), sha256(raw).hexdigest())
    assert graph_file.read_tasks(folder / "student.safetensors").num_parameters == result["parameters"]["total"]
    assert result["cost"]["env_steps"] >= 3 * 480
    assert result["cost"]["gradient_steps"] >= 2 * 20 + 60


def test_a_run_that_was_stopped_goes_on_to_the_same_bits_and_not_under_other_settings(
    done: tuple[Path, dict[str, Any]], given: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, collected = str(tmp_path / "run"), []

    def collect_or_stop(self: Rounds, students: Any) -> None:
        collected.append(len(self))
        if len(collected) == 3:
            raise KeyboardInterrupt
        collect(self, students)

    collect = Rounds.collect
    monkeypatch.setattr(Rounds, "collect", collect_or_stop)
    with pytest.raises(KeyboardInterrupt):
        distill_tasks({**given, "out": out})
    with pytest.raises(KDError, match="was begun with seed = 0, not 1"):
        distill_tasks({**given, "out": out, "resume": True, "seed": 1})
    with pytest.raises(KDError, match="holds a run already"):
        distill_tasks({**given, "out": out})
    result = distill_tasks({"out": out, "resume": True, "quiet": True})
    assert steps_of(result) == steps_of(done[1])
    assert collected[:4] == [0, 1, 2, 2]
    assert (tmp_path / "run" / "student.safetensors").read_bytes() == (done[0] / "student.safetensors").read_bytes()
    own = TASKS[1].replace("/", "-")
    (tmp_path / "run" / own / "checkpoint" / "round-0.npz").unlink()
    with pytest.raises(KDError, match=rf"{own}: its checkpoint lacks round-0\.npz"):
        distill_tasks({"out": out, "resume": True, "quiet": True})


def students_and_rollouts() -> tuple[dict[str, Student], dict[str, list[Rollout]]]:
    """Two tied students of other heads, and the labels of teachers that are easy to follow."""
    states = {"obs": np.random.default_rng(3).normal(size=(400, 4)).astype(np.float32)}
    heads = {"a": HEADS["categorical"], "b": HEADS["bernoulli"]}
    students = {task: make_student(head, hidden=(12, 12), seed=5) for task, head in heads.items()}
    origin = Origin("t", "0" * 64, "student", 1)
    taught = {task: GraphTeacher(make_student(head, hidden=(), seed=9).graph(), origin) for task, head in heads.items()}
    return students, {task: [labelled(teacher, states)] for task, teacher in taught.items()}


def fit(students: dict[str, Student], rollouts: dict[str, list[Rollout]], steps: int = 300) -> float:
    objectives = [Objective({"kl": 1.0}) for _ in students]
    together, data = list(students.values()), list(rollouts.values())
    return fit_jointly(together, data, objectives, steps=steps, batch_size=64, learning_rate=1e-2, seed=0)


def test_tied_students_share_every_hidden_layer_but_the_first() -> None:
    students, _ = students_and_rollouts()
    one, two = students.values()
    tie(list(students.values()))
    assert [a is b for a, b in zip(one.layers, two.layers, strict=True)] == [False] * 3 + [True] * 3 + [False]
    before, shared, after = split(one.ops(), shared=1)
    assert [op.kind for op in (*before, *shared, *after)] == [op.kind for op in one.ops()]
    assert [op.output for op in shared] == ["shared.0", "shared.1"]
    assert after[0].inputs == ("shared.1",)
    assert shared[0].inputs == ("entry",) == (before[-1].output,)


def test_one_fit_teaches_every_task_and_a_step_is_adams_on_the_sum_of_the_losses() -> None:
    students, rollouts = students_and_rollouts()
    tie(list(students.values()))
    far = {task: along_own(student, rollouts[task][0]) for task, student in students.items()}
    fit(students, rollouts)
    for task, student in students.items():
        assert along_own(student, rollouts[task][0]) < 0.2 * far[task]
        assert not student.training
    students, rollouts = students_and_rollouts()
    tie(list(students.values()))
    shared = students["a"].layers[3].weight
    total = torch.zeros(())
    for task, student in students.items():
        obs = {"obs": torch.from_numpy(rollouts[task][0].obs["obs"][0])}
        target = torch.from_numpy(rollouts[task][0].params[0])
        total = total + student.head.kl(target, student(obs).params).mean()
    gradient = torch.autograd.grad(total, shared)[0]
    before = shared.detach().clone()
    objectives = [Objective({"kl": 1.0}) for _ in students]
    together, data = list(students.values()), list(rollouts.values())
    loss = fit_jointly(together, data, objectives, steps=1, batch_size=400, learning_rate=1e-3, seed=0)
    assert loss == pytest.approx(float(total.detach()), rel=1e-4)
    clear = gradient.abs() > 1e-4
    assert clear.any()
    torch.testing.assert_close((shared - before)[clear], -1e-3 * gradient.sign()[clear], rtol=1e-2, atol=0)


def along_own(student: Student, rollout: Rollout) -> float:
    target = torch.from_numpy(rollout.params[0])
    with torch.no_grad():
        return float(student.head.kl(target, student({"obs": torch.from_numpy(rollout.obs["obs"][0])}).params).mean())


def test_the_graph_of_tied_students_computes_what_torch_computes() -> None:
    students, rollouts = students_and_rollouts()
    tie(list(students.values()))
    fit(students, rollouts, steps=20)
    graph = to_graph(students, {"a": {}, "b": {}}, {})
    for task, student in students.items():
        seen = rollouts[task][0].obs["obs"][0]
        with torch.no_grad():
            expected = student({"obs": torch.from_numpy(seen)}).params
        found = graph.task(task).compile()({"obs": seen})["params"]
        np.testing.assert_allclose(found, expected.numpy(), atol=1e-5)


def test_learning_is_real(teachers: list[str], tmp_path: Path) -> None:
    """In each task the student agrees with its teacher more than each of 19 untrained ones."""
    given = {**SMALL, "tasks": TASKS[:2], "teacher": teachers[:2], "out": str(tmp_path / "run"), "attempts": 1}
    distill_tasks({**given, "env_steps": 2000, "final_steps": 600, "learning_rate": 1e-2})
    states = {"obs": np.random.default_rng(7).uniform(-1, 1, (500, 4)).astype(np.float32)}
    for task, source in zip(TASKS[:2], teachers[:2], strict=True):
        teacher = load_teacher(source)
        rollout = labelled(teacher, states)
        learnt = agreement_on(teacher, load_policy(tmp_path / "run" / "student.safetensors", task=task), rollout)
        others = [agreement_on(teacher, make_student(teacher.head, seed=s).policy(), rollout).kl for s in range(19)]
        assert learnt.kl < 0.5 * min(others)


def refused(given: dict[str, Any], out: Path) -> str:
    with pytest.raises(KDError) as caught:
        distill_tasks({**given, "out": str(out)})
    message = str(caught.value)
    assert "\n" not in message
    assert not out.exists()
    return message


def test_what_does_not_go_together_is_said_before_anything_is_written(
    given: dict[str, Any], teachers: list[str], tmp_path: Path
) -> None:
    cases: list[tuple[dict[str, Any], str]] = [
        ({"tasks": [CART]}, "tasks"),
        ({"tasks": [CART, CART, CART]}, "needs 2 to 64 different environments"),
        ({"tasks": [*TASKS[:2], "CartPoel-v1"]}, "did you mean 'CartPole-v"),
        ({"teacher": teachers[:2]}, "teacher: 2 for 3 tasks; name one for each, or none"),
        ({"teacher": [teachers[2], *teachers[:2]]}, teachers[2]),
        ({"teacher": [*teachers[:2], "absent.zip"]}, "absent.zip"),
        ({"hidden": [16]}, "hidden: 1 layers leave none to share"),
        ({"hidden": "0"}, "hidden: 0 layers"),
        ({"loss": "relation"}, "losses of layers or values, are for one task"),
        ({"loss": "kk"}, "unknown loss 'kk'"),
        ({"roundss": 3}, "did you mean 'rounds'"),
        ({"device": "abacus"}, "'abacus'"),
    ]
    for change, words in cases:
        assert words in refused({**given, **change}, tmp_path / "run"), change


def test_a_recurrent_teacher_is_refused_by_name(given: dict[str, Any], teachers: list[str], tmp_path: Path) -> None:
    gru = make_student(HEADS["categorical"], "gru", hidden=(4,)).save(tmp_path / "gru.safetensors", {"env": TASKS[0]})
    message = refused({**given, "teacher": [str(gru), *teachers[1:]]}, tmp_path / "run")
    assert f"task {TASKS[0]}: needs a gru student" in message


def test_the_command_line_distils_to_the_same_bits_evaluates_and_exports_a_task(
    given: dict[str, Any],
    done: tuple[Path, dict[str, Any]],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(cli.signal, "signal", lambda *arguments: None)
    monkeypatch.setattr(cli.warnings, "showwarning", cli.warnings.showwarning)
    out = str(tmp_path / "run")
    words = [
        w
        for k in (
            "env_steps",
            "rounds",
            "round_steps",
            "final_steps",
            "episodes",
            "max_episodes",
            "attempts",
            "exam_episodes",
        )
        for w in (f"--{k.replace('_', '-')}", str(given[k]))
    ]
    argv = [
        "--tasks",
        *TASKS,
        "--teacher",
        *given["teacher"],
        "--hidden",
        "9",
        "7",
        "6",
        "--out",
        out,
        "--quiet",
        *words,
    ]
    assert cli.run("distill-tasks", argv) == 0, capsys.readouterr()
    student = str(tmp_path / "run" / "student.safetensors")
    assert Path(student).read_bytes() == (done[0] / "student.safetensors").read_bytes()
    capsys.readouterr()
    assert cli.run("evaluate", [student, "--task", CART, "--episodes", "6", "--quiet"]) == 0
    played = json.loads(capsys.readouterr().out)
    assert (played["env"], played["student"]["returns"]) == (CART, done[1]["tasks"][CART]["student"]["returns"])
    assert cli.run("export", [student, "--task", CART, "--out", str(tmp_path / "cart.c"), "--quiet"]) == 0
    assert (tmp_path / "cart.c").is_file()
    for command, more in (("evaluate", []), ("export", ["--out", str(tmp_path / "x.c")])):
        assert cli.run(command, [student, *more, "--quiet"]) == 2
        assert f"holds the tasks {', '.join(sorted(TASKS))}; say which" in capsys.readouterr().err
