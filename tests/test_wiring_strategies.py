"""The search for a size, and what a run ends with."""

import json
from pathlib import Path
from typing import Any

import pytest
from recorder import GIVEN, ROUNDS, SCORES, SEAMS, Recorder, Stopped, fingerprint, recorded
from stable_baselines3 import PPO

from kd_agent import load_policy

SEARCH: dict[str, Any] = {"search_size": True, "hidden": [3], "attempts": 2, "exam_episodes": 80, "loss": "kl",
                          "teacher_layer": None, "student_layer": None}  # fmt: skip
TWO_UNITS, THREE_UNITS = 22, 31
"""Parameters of the student; one unit has 13, a linear one 20."""


def from_two_units_on(policy: Any) -> float:
    """As good as the teacher from two units on; the others earn nothing."""
    return 100.0 if policy.num_parameters >= TWO_UNITS else 0.0


def units(fit: Any) -> int:
    """Of the only hidden layer; 0: linear."""
    widths = [op.tensors["weight"].shape[0] for op in fit.student.graph().ops if op.kind == "linear"]
    return widths[0] if len(widths) == 2 else 0


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("search") / "run"


@pytest.fixture(scope="module")
def search(folder: Path) -> Recorder:
    return recorded(folder, Recorder(by_policy=from_two_units_on), **SEARCH)


def test_a_search_judges_the_last_fit_of_the_smallest_size_that_holds(search: Recorder, folder: Path) -> None:
    assert search.result["search"]["chosen"] == [2]
    policy = load_policy(folder / "student.safetensors")
    chosen = [fit for fit in search.fits if fit.after == fingerprint(policy.graph)]
    assert [fit.told["steps"] for fit in chosen] == [GIVEN["final_steps"]]
    assert policy.graph.provenance["config"]["hidden"] == [2]
    assert {play.who for play in search.verdicts()} == {chosen[0].after}
    assert sum(len(play.seeds) for play in search.verdicts()) == 60
    assert search.result["search"]["judged"] == [{"hidden": [2], "decision": "non-inferior"}]


def test_each_rung_doubles_steps_and_episodes_and_has_a_seed_of_its_own(search: Recorder) -> None:
    """Of 11 steps and 80 episodes, and the sizes that go on from rung to rung."""
    by_steps = {steps: [fit for fit in search.fits if fit.told["steps"] == steps] for steps in (1, 2, 5)}
    assert [len(fits) for fits in by_steps.values()] == [4, 3, 2]
    assert {units(fit) for fit in by_steps[1]} == {0, 1, 2, 3}
    seeds = [{fit.told["seed"] for fit in fits} for fits in by_steps.values()]
    assert [len(seed) for seed in seeds] == [1, 1, 1]
    assert len(set.union(*seeds)) == 3
    for fits, episodes in zip(by_steps.values(), (10, 20, 40), strict=True):
        for fit in fits:
            assert [len(play.seeds) for play in search.plays if play.who == fit.after] == [episodes]
            assert len(fit.rollouts) == ROUNDS


def test_a_size_that_the_validation_finds_inferior_is_not_judged_and_the_verdict_decides_the_others(
    tmp_path: Path,
) -> None:
    """Two units are as good in their validation, but not in their verdict."""

    def earned(policy: Any) -> float:
        needed = THREE_UNITS if policy.graph.provenance else TWO_UNITS
        return 100.0 if policy.num_parameters >= needed else 0.0

    result = recorded(tmp_path / "run", Recorder(by_policy=earned), **SEARCH).result
    assert result["search"]["chosen"] == [3]
    judged = [(tuple(one["hidden"]), one["decision"]) for one in result["search"]["judged"]]
    assert judged == [((2,), "inferior"), ((3,), "non-inferior")]
    assert result["verdict"]["non_inferior"]


def test_a_size_whose_final_fits_are_shown_to_be_inferior_gets_no_verdict(tmp_path: Path) -> None:
    """Two units hold in every rung, and earn nothing once they are fitted in earnest."""
    recorder = Recorder()

    def earned(policy: Any) -> float:
        in_earnest = recorder.fits[-1].told["steps"] == GIVEN["final_steps"]
        return 0.0 if in_earnest and policy.num_parameters == TWO_UNITS else from_two_units_on(policy)

    recorder.by_policy = earned
    search = recorded(tmp_path / "run", recorder, **SEARCH).result["search"]
    assert search["judged"] == [{"hidden": [3], "decision": "non-inferior"}]
    assert [(row["hidden"], row["rung"], row["decision"]) for row in search["front"][-2:]] == [
        ([2], 4, "inferior"),
        ([3], 4, "non-inferior"),
    ]


def test_a_size_that_gets_no_better_is_given_up(tmp_path: Path) -> None:
    """The first attempt of a size is the best, and three more are made before it is given up."""
    recorder = Recorder(by_policy=lambda policy: 50.0)
    recorded(tmp_path / "run", recorder, **{**SEARCH, "hidden": [1], "attempts": 8})
    final = [units(fit) for fit in recorder.fits if fit.told["steps"] == GIVEN["final_steps"]]
    assert final.count(1) == 4


def test_a_search_that_was_stopped_measures_nothing_twice_and_comes_to_the_same(
    search: Recorder, folder: Path, tmp_path: Path
) -> None:
    first = Recorder(by_policy=from_two_units_on)

    def stop(policy: Any) -> float:
        if policy.graph.provenance:
            raise Stopped
        return from_two_units_on(policy)

    first.by_policy = stop
    with pytest.raises(Stopped):
        recorded(tmp_path / "run", first, **SEARCH)
    again = recorded(tmp_path / "run", Recorder(by_policy=from_two_units_on), resume=True, **SEARCH)
    assert again.fits == []
    assert [play for play in again.plays if min(play.seeds) < 20_000] == []
    assert again.result["search"] == search.result["search"]
    for name in ("env_steps", "gradient_steps", "validation_steps"):
        assert again.result["cost"][name] == search.result["cost"][name]
    files = [(path / "student.safetensors").read_bytes() for path in (folder, tmp_path / "run")]
    assert files[0] == files[1]


def test_the_control_of_a_search_has_the_size_that_was_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    learnt: list[PPO] = []
    monkeypatch.setattr(SEAMS["learn"], lambda model, total, **more: learnt.append(model))
    training = {"n_envs": 2, "n_steps": 16, "batch_size": 8, "hidden": [9]}
    recorder = Recorder(by_policy=from_two_units_on)
    recorded(tmp_path / "run", recorder, control=True, training=training, **SEARCH)
    assert [model.policy.net_arch["pi"] for model in learnt] == [[2]]
    assert recorder.result["search"]["chosen"] == [2]
    assert recorder.result["control"]["env_steps"] == 0


def test_the_result_is_written_and_reported_once_with_all_that_it_says(search: Recorder, folder: Path) -> None:
    assert json.loads((folder / "result.json").read_text()) == search.result
    assert search.reports == [search.result]
    assert {"verdict", "search", "cost", "teacher", "student", "random"} <= set(search.result)


def test_a_trees_rules_lie_beside_it(tmp_path: Path) -> None:
    plain = {"loss": "kl", "teacher_layer": None, "student_layer": None, "dropout": 0.0, "l2": 0.0}
    recorder = Recorder(SCORES, by_policy=lambda policy: 100.0)
    recorded(tmp_path / "run", recorder, student="tree", leaves=4, **plain)
    assert (tmp_path / "run" / "rules.txt").read_text().strip()
    assert not recorder.fits
