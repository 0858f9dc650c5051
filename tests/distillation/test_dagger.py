"""Rounds: kept one by one, gone on with to the same bits, and of several tasks side by side."""

import os
import random
import shutil
import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from prepared_runs import begun
from processes import forked
from recorder import TEACHER, a_teacher, fingerprint
from samples import PROBES, Agent, settings, steps_of

from kd_agent import KDError, distill
from kd_agent.distillation.collecting import EXTRA
from kd_agent.distillation.dagger import Rounds, collect_rounds
from kd_agent.runs import Costs, Run


@pytest.mark.parametrize("moment", [2, 4, 5, 8, 9])
def test_a_run_that_was_killed_goes_on_to_the_same_bits_at_the_same_cost(
    moment: int,
    agents: dict[str, Agent],
    runs: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The kill comes just before the `moment`-th file takes its place; the 2nd is config.yaml."""
    given, replace, calls = settings(agents["Discrete"], tmp_path / "run"), os.replace, []

    def replace_or_die(*paths: Any) -> None:
        calls.append(paths)
        if len(calls) == moment:
            os.kill(os.getpid(), signal.SIGKILL)
        replace(*paths)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", replace_or_die)
        child = forked(lambda: distill(given))
    assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL
    assert list((tmp_path / "run").rglob(".*.tmp"))
    result = distill({**given, "resume": moment > 2})
    folder, uninterrupted = runs["Discrete"]
    files = [(path / "student.safetensors").read_bytes() for path in (folder, tmp_path / "run")]
    assert files[0] == files[1]
    assert not list((tmp_path / "run").rglob(".*.tmp"))
    assert steps_of(result) == steps_of(uninterrupted)


def test_kills_in_a_row_change_nothing(
    agents: dict[str, Agent], runs: dict[str, Any], tmp_path: Path, expected: bytes
) -> None:
    given, rng = settings(agents["Discrete"], tmp_path / "run"), random.Random(0)
    for _ in range(5):
        resume = (tmp_path / "run" / "config.yaml").exists()
        child = forked(lambda resume=resume: distill({**given, "resume": resume}))
        time.sleep(rng.uniform(0.05, 0.5))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    result = distill({**given, "resume": (tmp_path / "run" / "config.yaml").exists()})
    assert (tmp_path / "run" / "student.safetensors").read_bytes() == expected
    assert steps_of(result) == steps_of(runs["Discrete"][1])


def test_a_finished_run_may_be_resumed_and_stays_the_same(
    runs: dict[str, Any], agents: dict[str, Agent], tmp_path: Path, expected: bytes
) -> None:
    folder = Path(shutil.copytree(runs["Discrete"][0], tmp_path / "run"))
    result = distill({"env": PROBES["Discrete"], "out": str(folder), "resume": True, "quiet": True})
    assert (folder / "student.safetensors").read_bytes() == expected
    assert result["cost"]["env_steps"] == runs["Discrete"][1]["cost"]["env_steps"]
    assert steps_of(result) == steps_of(runs["Discrete"][1])


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Run]:
    """A run of one task, of three rounds."""
    with begun(tmp_path / "run", env_steps=60, round_steps=2, n_envs=2) as found:
        yield found


@pytest.fixture
def tasks(tmp_path: Path) -> Iterator[list[Run]]:
    """Runs of two tasks with one ledger."""
    costs = Costs()
    teachers = {"Discrete": TEACHER, "Box": a_teacher(kind="diag_gaussian")}
    with ExitStack() as stack:
        runs = []
        for name, teacher in teachers.items():
            more = {"env": PROBES[name], "env_steps": 60, "n_envs": 2, "hidden": [5, 4]}
            runs.append(replace(stack.enter_context(begun(tmp_path / name, teacher, **more)), costs=costs))
        yield runs


def contents(rounds: Rounds) -> list[dict[str, np.ndarray]]:
    return [rollout.arrays() for task in rounds.data for rollout in task]


def same(one: list[dict[str, np.ndarray]], other: list[dict[str, np.ndarray]]) -> bool:
    pairs = list(zip(one, other, strict=True))
    return all(set(a) == set(b) and all(np.array_equal(a[name], b[name]) for name in a) for a, b in pairs)


def test_kept_rounds_are_read_again_and_cost_nothing(run: Run) -> None:
    rounds = collect_rounds([run])
    spent = dict(run.costs.counts)
    assert (len(rounds), spent["collect_steps"], spent["gradient_steps"]) == (3, 60, 2 * 2)
    again = collect_rounds([run])
    assert same(contents(again), contents(rounds))
    assert run.costs.counts == spent
    for found in (rounds, again):
        found.close()


def test_a_round_beyond_the_budget_is_shorter_and_the_teachers_no_more(run: Run) -> None:
    rounds = collect_rounds([run])
    rounds.collect(rounds.new_students(0))
    assert rounds.data[0][-1].driver.shape == (-(-60 // (EXTRA * 2)), 2)
    assert not (rounds.data[0][-1].driver == 0).any()
    rounds.close()


def test_attempts_have_weights_of_their_own_and_the_same_ones_again(run: Run) -> None:
    rounds = collect_rounds([run])
    first, other, again = (fingerprint(rounds.new_students(attempt)[0].graph()) for attempt in (0, 1, 0))
    assert first == again != other
    rounds.close()


def test_a_checkpoint_of_another_student_is_refused(run: Run) -> None:
    rounds = collect_rounds([run])
    arrays = rounds.load("driver") or {}
    rounds.runs = [run.planned(hidden=(9, 9))]
    with pytest.raises(KDError, match="its checkpoint is of another student"):
        rounds.load_students(arrays, 0)
    rounds.close()


def test_tasks_collect_side_by_side_and_share_layers_fits_and_checkpoints(tasks: list[Run]) -> None:
    rounds = Rounds(tasks)
    rounds.collect([])
    rounds.keep()
    assert len(rounds) == 1
    assert [len(data) for data in rounds.data] == [1, 1]
    assert [data[0].params.shape[-1] for data in rounds.data] == [4, 4]
    assert tasks[0].costs.of("collect_steps") == 2 * 20
    for task in tasks:
        assert (task.folder.path / "checkpoint" / "round-0.npz").is_file()
    students = rounds.new_students(0)
    assert students[0].layers[3] is students[1].layers[3]
    assert students[0].layers[0] is not students[1].layers[0]
    before = [fingerprint(student.graph()) for student in students]
    rounds.fit(students, name="fit", steps=3, number=0)
    assert all(fingerprint(student.graph()) != old for student, old in zip(students, before, strict=True))
    assert tasks[0].costs.of("gradient_steps") == 3, "a joint fit is one"
    rounds.save("best", students, {"figure": np.array(7)})
    assert not tasks[1].folder.holds_checkpoint("best")
    again = Rounds(tasks)
    again.read()
    assert same(contents(again), contents(rounds))
    tasks[0].costs.add("collect_steps", 1_000)
    arrays = again.load("best") or {}
    assert int(arrays["figure"]) == 7
    assert tasks[0].costs.of("collect_steps") == 2 * 20
    loaded = again.load_students(arrays, 0)
    assert [fingerprint(student.graph()) for student in loaded] == [fingerprint(s.graph()) for s in students]
    assert loaded[0].layers[3] is loaded[1].layers[3]
    rounds.close()
    again.close()


def test_each_task_is_driven_by_its_own_student(tasks: list[Run]) -> None:
    rounds = Rounds(tasks)
    rounds.collect([])
    assert all((data[0].driver != 1).all() for data in rounds.data)
    rounds.collect(rounds.new_students(0))
    assert all((data[1].driver == 1).any() for data in rounds.data)
    rounds.close()


def test_a_temperature_is_not_chosen_for_several_tasks(tasks: list[Run]) -> None:
    auto = [replace(task, config=replace(task.config, temperature="auto")) for task in tasks]
    rounds = Rounds(auto)
    rounds.collect([])
    assert rounds.runs == auto
    assert not (tasks[0].folder.path / "temperature.json").exists()
    rounds.close()
