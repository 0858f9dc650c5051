"""The compression study: each fit starts from what its name says, at its own rate and seed, and all play alike."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from recorder import GIVEN, SEAMS, Recorder, fingerprint
from samples import HEADS, PROBES, make_student

from kd_agent import load_policy
from kd_agent.networks import GraphStudent
from kd_agent.policies.packed import exactly
from kd_agent.settings import DistillConfig, resolve
from kd_agent.studies.compression import compress

ROUNDS = 11
"""More than ten: their files are read in the order of their numbers."""
GRIDS = ["int8", "int4", "ternary"]
STUDY_FITS = 2 + len(GRIDS)
"""That of the pruned, one on each grid, and that of the pruned on the grid of int8."""
ROWS = 13


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("study")


@pytest.fixture(scope="module")
def study(folder: Path) -> Recorder:
    return studied(folder)


def studied(folder: Path, **more: Any) -> Recorder:
    """What reached the stand-ins in a study."""
    recorder = Recorder(by_policy=lambda policy: 99.0)
    given = {**GIVEN, "env": PROBES["Discrete"], "teacher": saved(folder), "rounds": ROUNDS, "env_steps": 88,
             "loss": "kl", "teacher_layer": None, "student_layer": None, "attempts": 1, "hidden": [3],
             "out": str(folder / "run"), **more}  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        recorder.install(patch)
        patch.setattr(SEAMS["timing"], lambda graph, observations, int8: lambda: np.array([1_000.0]))
        compress(resolve(DistillConfig, given))
    return recorder


def saved(folder: Path) -> str:
    """The file of a teacher with one hidden layer of 6 units."""
    teacher = make_student(HEADS["categorical"], hidden=(6,))
    return str(teacher.save(folder / "teacher.safetensors", {"env": PROBES["Discrete"]}))


def rows(folder: Path) -> dict[str, Any]:
    content = json.loads((folder / "run" / "compression.json").read_text())
    return {row["name"]: row for row in content["rows"]}


def policy_of(folder: Path, name: str) -> str:
    return fingerprint(load_policy(folder / "run" / rows(folder)[name]["file"]).graph)


def on_the_grid(folder: Path, name: str, grid: str) -> str:
    """A policy whose weights are those of a grid."""
    graph = load_policy(folder / "run" / rows(folder)[name]["file"]).graph
    return fingerprint(GraphStudent(graph, grid=grid).graph())


def test_each_fit_starts_from_what_its_name_says(study: Recorder, folder: Path) -> None:
    both, int8, aware_both, *others = study.fits[-STUDY_FITS:]
    aware = [int8, *others]
    assert both.before == policy_of(folder, "pruned")
    assert both.after == policy_of(folder, "pruned, distilled")
    assert [fit.before for fit in aware] == [on_the_grid(folder, "distilled", grid) for grid in GRIDS]
    assert len({fit.before for fit in aware}) == len(GRIDS)
    assert aware_both.before == on_the_grid(folder, "pruned, distilled", "int8")


def test_fits_on_the_int8_grid_have_a_third_of_the_rate(study: Recorder) -> None:
    rates = [fit.told["learning_rate"] for fit in study.fits[-STUDY_FITS:]]
    assert rates == pytest.approx([0.017, 0.017 / 3, 0.017 / 3, 0.017, 0.017])
    assert [fit.told["steps"] for fit in study.fits[-STUDY_FITS:]] == [11] * STUDY_FITS


def test_every_fit_of_a_study_has_a_seed_of_its_own(study: Recorder) -> None:
    seeds = [fit.told["seed"] for fit in study.fits]
    assert len(set(seeds)) == len(seeds) == ROUNDS + STUDY_FITS


def test_the_states_of_the_distillation_serve_every_fit_in_their_order(study: Recorder) -> None:
    collected = [r.rollout.obs["obs"] for r in study.rounds]
    assert len(collected) == ROUNDS
    for fit in study.fits[-STUDY_FITS:]:
        for shown, states in zip(fit.rollouts, collected, strict=True):
            np.testing.assert_array_equal(shown.obs["obs"], states)


def test_all_play_the_same_seeds_once_and_the_verdict_within_is_not_prolonged(study: Recorder, folder: Path) -> None:
    everybody = [play for play in study.on_seeds(20_000) if play.who is not None]
    table = rows(folder)
    assert len(table) == ROWS
    # Before them the distillation's own verdict was played, look by look.
    in_the_study, within = everybody[-ROWS:], everybody[:-ROWS]
    assert len({play.who for play in in_the_study}) == ROWS
    assert {tuple(play.seeds) for play in in_the_study} == {tuple(range(20_000, 20_060))}
    assert {seed for play in within for seed in play.seeds} == set(range(20_000, 20_060))
    assert all(len(row["returns"]) == 60 for row in table.values())
    assert set(table["teacher"]["returns"]) == {100.0}
    assert set(table["pruned"]["returns"]) == {99.0}
    assert (table["teacher"]["decision"], table["pruned"]["decision"]) == ("", "non-inferior")
    assert json.loads((folder / "run" / "distilled" / "result.json").read_text())["verdict"]["episodes"] == 60


def test_each_is_compared_with_the_teacher_on_the_states_that_it_visits_itself(study: Recorder, folder: Path) -> None:
    # The first is the distillation's own verdict.
    _, *measured = [told["student"] for told in study.agreements]
    assert measured[:2] == [policy_of(folder, "teacher"), policy_of(folder, "pruned")]
    assert len(set(measured)) == len(measured) == ROWS
    assert len({told["first_seed"] for told in study.agreements}) == 1


def test_the_study_itself_is_not_gone_on_with_its_distillation_might_be(study: Recorder, folder: Path) -> None:
    assert not (folder / "run" / "config.yaml").exists()
    kept = yaml.safe_load((folder / "run" / "distilled" / "config.yaml").read_text())
    assert (kept["max_episodes"], kept["rounds"]) == (60, ROUNDS)


def test_what_is_rounded_is_smaller(folder: Path, study: Recorder) -> None:
    table = rows(folder)
    for kind in ("then {}", "{}-aware"):
        sizes = [table[f"distilled, {kind.format(grid)}"]["bytes"] for grid in GRIDS]
        # Rows of 4 weights and of 3 are one byte of ternary digits and two of 4 bits.
        assert sizes == sorted(sizes, reverse=True)
        assert len({*sizes, table["distilled"]["bytes"]}) == 1 + len(GRIDS)


@pytest.mark.parametrize("grid", GRIDS)
def test_a_row_has_the_weights_that_its_name_says(grid: str, folder: Path, study: Recorder) -> None:
    for name in (f"distilled, then {grid}", f"distilled, {grid}-aware"):
        graph = load_policy(folder / "run" / rows(folder)[name]["file"]).graph
        counts = [len(np.unique(row)) for op in graph.ops if op.kind == "linear" for row in op.tensors["weight"]]
        assert max(counts) <= {"int8": 255, "int4": 15, "ternary": 3}[grid]
        found = [exactly(op.tensors["weight"]) for op in graph.ops if op.kind == "linear"]
        if grid != "int8":
            assert all(packed is not None for packed in found)


@pytest.mark.parametrize("sampled", [True, None])
def test_a_study_plays_and_keeps_every_row_as_it_was_asked_to(sampled: bool | None, tmp_path: Path) -> None:
    study = studied(tmp_path, sampled=sampled, rounds=2)
    teacher = fingerprint(load_policy(saved(tmp_path)).graph)
    assert {play.deterministic for play in study.plays if play.who != teacher} == {not sampled}
    assert {r.told["deterministic"] for r in study.rounds} == {not sampled}
    files = [tmp_path / "run" / row["file"] for row in rows(tmp_path).values()]
    assert [load_policy(file).sampled for file in files] == [bool(sampled)] * ROWS
