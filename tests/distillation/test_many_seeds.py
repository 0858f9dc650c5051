"""Several seeds in one run folder: how long they play, what a stopped run goes on with, and what is written."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from recorder import GIVEN, ROUNDS, Recorder, Stopped, recorded, wavering

from kd_agent import KDError
from kd_agent.distillation.many_seeds import check
from kd_agent.settings import DistillConfig, resolve

SEEDS: dict[str, Any] = {
    "seeds": 2, "attempts": 2, "exam_episodes": 60, "loss": "kl", "teacher_layer": None, "student_layer": None,
}  # fmt: skip
EXAM = [60.0, 70.0, 95.0]
"""Of the attempts of seeds 3 and 4: none of the first holds, the first of the second does."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("seeds") / "run"


@pytest.fixture(scope="module")
def whole(folder: Path) -> Recorder:
    return recorded(folder, Recorder(EXAM), **SEEDS)


def test_an_open_verdict_goes_on_to_the_last_look_with_all_students(tmp_path: Path) -> None:
    run = recorded(tmp_path / "run", Recorder(EXAM, wavering), **SEEDS)
    verdict = run.result["verdict"]
    assert (verdict["decision"], verdict["episodes"]) == ("undecided", GIVEN["max_episodes"])
    played = [tuple(play.seeds) for play in run.verdicts()]
    assert played[::2] == played[1::2], "they take turns"
    assert [seed for seeds in played[::2] for seed in seeds] == list(range(20_000, 20_000 + GIVEN["max_episodes"]))


def test_students_that_earn_nothing_are_known_early(tmp_path: Path) -> None:
    run = recorded(tmp_path / "run", Recorder(EXAM, lambda seed: 0.0), **SEEDS)
    assert (run.result["verdict"]["decision"], run.result["verdict"]["episodes"]) == ("inferior", 20)
    assert [row["verdict"]["decision"] for row in run.result["seeds"]] == ["inferior"] * 2


def test_each_seed_has_a_folder_that_says_so_and_the_whole_has_one_result(whole: Recorder, folder: Path) -> None:
    for seed in (3, 4):
        kept = yaml.safe_load((folder / f"seed-{seed}" / "config.yaml").read_text())
        assert (kept["seed"], kept.get("seeds", 1)) == (seed, 1)
        assert not (folder / f"seed-{seed}" / "result.json").exists()
    assert yaml.safe_load((folder / "config.yaml").read_text())["seeds"] == 2
    assert json.loads((folder / "result.json").read_text()) == whole.result
    assert [len(report["seeds"]) for report in whole.reports] == [2]
    assert [row["score"] for row in whole.result["seeds"]] == pytest.approx([-0.5, 0.75])


def test_seeds_that_were_stopped_go_on_and_what_is_done_is_not_done_again(
    whole: Recorder, folder: Path, tmp_path: Path
) -> None:
    """Stopped in the second round of the second seed; the first has collected for its rounds and for one attempt."""
    rounds_of_the_first = ROUNDS + 1
    with pytest.raises(Stopped):
        recorded(tmp_path / "run", Recorder(EXAM, stop_at_round=rounds_of_the_first + 1), **SEEDS)
    rest = recorded(tmp_path / "run", Recorder(EXAM[2:]), **SEEDS, resume=True)
    fits_of_the_first = ROUNDS - 1 + 2
    assert [fit.after for fit in rest.fits] == [fit.after for fit in whole.fits[-len(rest.fits) :]]
    assert len(rest.fits) <= len(whole.fits) - fits_of_the_first
    for name in ("student.safetensors", "seed-3/student.safetensors", "seed-4/student.safetensors"):
        assert (folder / name).read_bytes() == (tmp_path / "run" / name).read_bytes()
    assert rest.result["verdict"] == whole.result["verdict"]
    for count in ("collect_steps", "gradient_steps", "validation_steps", "verdict_steps"):
        assert rest.result["cost"][count] == whole.result["cost"][count], count


@pytest.mark.parametrize("name", ["search_size", "realtime", "control"])
def test_what_is_for_one_student_only_is_refused_and_the_rest_is_not(name: str) -> None:
    given = {"env": GIVEN["env"], "seeds": 2}
    check(resolve(DistillConfig, {**given, "grow": True, "sampled": True, "strict": True}))
    with pytest.raises(KDError, match=f"^--{name.replace('_', '-')} is for one student"):
        check(resolve(DistillConfig, {**given, name: True}))
