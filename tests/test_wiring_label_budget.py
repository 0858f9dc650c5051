"""What a distillation under a label budget passes to whom."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from recorder import GIVEN, ROUNDS, TEACHER, Recorder, fingerprint, recorded, wavering

from kd_agent import KDError, load_policy
from kd_agent.distillation import label_budget
from kd_agent.distillation.label_budget import COMMITTEE
from kd_agent.runs import Plan
from kd_agent.runs.seeds import seed_of
from kd_agent.settings import DistillConfig, resolve

BUDGET = 34
ASKED: dict[str, Any] = {"label_budget": BUDGET, "loss": "kl", "teacher_layer": None, "student_layer": None}
VALIDATION, VERDICT = 10_000, 20_000
MERITS = [10.0, 30.0, 20.0, 25.0]
"""Of the final fits, in their validation."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("budget") / "run"


@pytest.fixture(scope="module")
def told() -> dict[str, list[dict[str, Any]]]:
    """What the places were told where states are collected and chosen, in order."""
    return {"collect_on": [], "hand_over": [], "choose": []}


@pytest.fixture(scope="module")
def run(folder: Path, told: dict[str, list[dict[str, Any]]]) -> Recorder:
    with pytest.MonkeyPatch.context() as patch:
        for name in ("collect_on", "hand_over"):
            _spy(patch, name, told[name])
        choose = label_budget.choose

        def chosen(doubt: Any, count: int, seed: int) -> Any:
            told["choose"].append({"doubt": doubt, "count": count, "seed": seed})
            return choose(doubt, count, seed)

        patch.setattr(label_budget, "choose", chosen)
        return recorded(folder, Recorder(MERITS, wavering), **ASKED)


def _spy(patch: pytest.MonkeyPatch, name: str, rows: list[dict[str, Any]]) -> None:
    real = getattr(label_budget, name)

    def spied(episodes: Any, who: Any, other: Any, *rest: Any, **more: Any) -> Any:
        rows.append({"who": who, "other": other, **more})
        return real(episodes, who, other, *rest, **more)

    patch.setattr(label_budget, name, spied)


def test_the_teacher_drives_the_first_round_and_nobody_else(run: Recorder, told: Any) -> None:
    [first] = told["collect_on"]
    assert (first["who"], first["other"], first["beta"]) == (TEACHER, None, 1.0)
    # A fourth of 34 questions in 4 environments.
    assert first["steps"] == 2
    assert first["exploration"] == GIVEN["exploration"]
    assert first["seed"] == seed_of(GIVEN["seed"], "round", 0)
    assert first["deterministic"]


def test_members_of_the_committee_take_turns_under_the_settings(run: Recorder, told: Any) -> None:
    rounds = told["hand_over"]
    assert len(rounds) == ROUNDS - 1
    drivers = [fingerprint(row["who"].graph) for row in rounds]
    members = [fit.after for fit in run.fits[: COMMITTEE * (ROUNDS - 1)]]
    assert drivers == [members[0 + 1], members[3 + 2], members[6 + 0]]
    for number, row in enumerate(rounds, start=1):
        # 64 steps in 4 rounds and 4 environments.
        assert (row["steps"], row["exploration"]) == (4, GIVEN["exploration"])
        assert row["seed"] == seed_of(GIVEN["seed"], "round", number)
        assert row["most"] == 2
        assert row["deterministic"]


def test_what_is_asked_is_chosen_by_a_seed_of_its_own_and_adds_up_to_the_budget(run: Recorder, told: Any) -> None:
    for number, row in enumerate(told["choose"], start=1):
        assert row["seed"] == seed_of(GIVEN["seed"], "questions", number)
        assert (row["doubt"] > 0).any()
    data = run.fits[-1].rollouts
    assert sum(rollout.driver.size for rollout in data) == BUDGET
    assert [rollout.driver.size for rollout in data] == [8, 9, 8, 9]
    assert run.result["cost"]["questions"] == BUDGET
    # What was driven, by whomever: 2 steps, and three times 4, in 4 environments.
    assert run.result["cost"]["collect_steps"] == 8 + 3 * 16


def test_each_fit_has_weights_and_a_seed_of_its_own_and_all_answers_so_far(run: Recorder) -> None:
    members, finals = run.fits[: COMMITTEE * (ROUNDS - 1)], run.fits[COMMITTEE * (ROUNDS - 1) :]
    assert len(finals) == GIVEN["attempts"]
    assert [len(fit.rollouts) for fit in members] == [1, 1, 1, 2, 2, 2, 3, 3, 3]
    assert {len(fit.rollouts) for fit in finals} == {ROUNDS}
    assert {fit.told["steps"] for fit in members} == {GIVEN["round_steps"]}
    assert {fit.told["steps"] for fit in finals} == {GIVEN["final_steps"]}
    seeds = [fit.told["seed"] for fit in run.fits]
    assert len(set(seeds)) == len(seeds)
    for start in (0, 3, 6):
        assert len({fit.before for fit in members[start : start + 3]}) == COMMITTEE
    assert len({fit.before for fit in finals}) == len(finals)


def test_all_answers_normalise_a_student(run: Recorder) -> None:
    final = run.fits[-1]
    states = np.concatenate([rollout.obs["obs"].reshape(-1, 4) for rollout in final.rollouts])
    [normalise] = [op for op in final.student.graph().ops if op.kind == "normalise"]
    np.testing.assert_allclose(normalise.tensors["mean"], states.mean(0), atol=1e-5)


def test_the_fit_that_earns_most_is_kept_and_the_teacher_plays_no_validation(run: Recorder, folder: Path) -> None:
    kept = run.fits[COMMITTEE * (ROUNDS - 1) + 1]
    policy = load_policy(folder / "student.safetensors")
    assert fingerprint(policy.graph) == kept.after
    assert run.result["label_budget"]["kept"] == 1
    assert {play.who for play in run.verdicts()} == {kept.after}
    students = {fit.after for fit in run.fits}
    validated = run.on_seeds(VALIDATION)
    assert validated
    assert {play.who for play in validated} <= students
    assert all(play.deterministic for play in validated)


def test_each_final_fit_plays_on_the_validations_seeds_half_of_them_twice_as_long(run: Recorder) -> None:
    finals = run.fits[COMMITTEE * (ROUNDS - 1) :]
    played = []
    for fit in finals:
        played.append(sorted(seed for play in run.validations() if play.who == fit.after for seed in play.seeds))
    half = GIVEN["exam_episodes"] // 2
    assert [len(seeds) for seeds in played] == [half, 2 * half, half, 2 * half]
    for seeds in played:
        assert seeds == list(range(VALIDATION, VALIDATION + len(seeds)))


def test_samples_are_driven_by_and_judged_where_they_are_asked_for(tmp_path: Path, monkeypatch: Any) -> None:
    rows: list[dict[str, Any]] = []
    for name in ("collect_on", "hand_over"):
        _spy(monkeypatch, name, rows)
    run = recorded(tmp_path / "run", Recorder(MERITS, wavering), **ASKED, sampled=True)
    assert [row["deterministic"] for row in rows] == [False] * ROUNDS
    assert not any(play.deterministic for play in run.on_seeds(VALIDATION))


def test_a_layer_that_a_loss_compares_is_asked_for_with_every_answer(tmp_path: Path) -> None:
    run = recorded(tmp_path / "run", Recorder(MERITS, wavering), label_budget=BUDGET)
    for rollout in run.fits[-1].rollouts:
        assert rollout.layer is not None
        # The teacher's first layer has 6 units.
        assert rollout.layer.shape[2:] == (6,)


def test_a_student_does_not_grow_and_one_environment_serves_few_questions() -> None:
    given = {"env": GIVEN["env"], "teacher": ("a file",), "label_budget": BUDGET}
    plans = []
    for asked in (given, {**given, "label_budget": None}):
        plans.append(Plan.of(resolve(DistillConfig, asked), TEACHER, TEACHER.observations, 100))
    assert [plan.grow for plan in plans] == [False, True]
    assert [plan.n_envs for plan in plans] == [1, 16]


def test_a_share_of_the_rounds_is_said_to_be_idle(tmp_path: Path) -> None:
    run = recorded(tmp_path / "run", Recorder(MERITS, wavering), **ASKED)
    assert any(line.startswith("note: --beta-fraction has no effect here") for line in run.lines)
    assert any(f"{BUDGET} questions of {BUDGET} were asked" in line for line in run.lines)


def test_a_run_goes_on_under_the_same_budget_alone(folder: Path, run: Recorder) -> None:
    with pytest.raises(KDError, match="was begun with label_budget = 34, not 35"):
        recorded(folder, Recorder([]), **{**ASKED, "label_budget": 35}, resume=True)
    again = recorded(folder, Recorder([], wavering), **ASKED, resume=True)
    assert again.fits == []
    assert again.on_seeds(VALIDATION) == []
    assert again.result["cost"]["questions"] == BUDGET
