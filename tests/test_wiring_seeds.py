"""Several seeds: one distillation each, one verdict over all, the best by validation is kept."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from recorder import GIVEN, SEAMS, Recorder, fingerprint, original, recorded

from kd_agent import KDError, load_policy

SEEDS: dict[str, Any] = {
    "seeds": 3, "attempts": 2, "exam_episodes": 60, "episodes": 80, "max_episodes": 80, "loss": "kl",
    "teacher_layer": None, "student_layer": None,
}  # fmt: skip
EXAM = [60.0, 50.0, 95.0, 70.0, 75.0]
"""Of the attempts of seeds 3, 4 and 5: the first of seed 4 holds, and so is the last of that seed."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("seeds") / "run"


@pytest.fixture(scope="module")
def compared() -> list[np.ndarray]:
    return []


@pytest.fixture(scope="module")
def run(folder: Path, compared: list[np.ndarray]) -> Recorder:
    compare = original("compare")

    def spied(teacher: Any, student: Any, *rest: Any, **told: Any) -> Any:
        compared.append(np.array(student))
        return compare(teacher, student, *rest, **told)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SEAMS["compare"], spied)
        return recorded(folder, Recorder(EXAM, lambda seed: 99.0 + seed % 3), **SEEDS)


def test_each_seed_is_a_distillation_of_its_own(run: Recorder, folder: Path) -> None:
    assert [row["seed"] for row in run.result["seeds"]] == [3, 4, 5]
    # The first final fit of a seed begins where its driver did.
    assert len({fit.before for fit in run.fits}) == len(run.fits) - 3
    for seed in (3, 4, 5):
        alone = recorded(folder.parent / f"alone-{seed}", Recorder(EXAM), **{**SEEDS, "seeds": 1, "seed": seed})
        own = load_policy(folder / f"seed-{seed}" / "student.safetensors")
        assert fingerprint(own.graph) in {fit.after for fit in alone.fits}


def test_the_best_by_validation_is_kept(run: Recorder, folder: Path) -> None:
    assert run.result["kept_seed"] == 4
    kept = (folder / "student.safetensors").read_bytes()
    assert kept == (folder / "seed-4" / "student.safetensors").read_bytes()
    assert run.result["student"]["sha256"] == run.result["seeds"][1]["student"]["sha256"]
    assert run.result["seed"] == GIVEN["seed"]


def test_the_verdict_is_over_seeds_and_episodes(run: Recorder, compared: list[np.ndarray]) -> None:
    verdict = run.result["verdict"]
    over_all = [returns.shape for returns in compared if returns.ndim == 2]
    assert over_all == [(3, episodes) for episodes in (20, 30, 40, 50, 60)]
    assert (verdict["decision"], verdict["episodes"]) == ("non-inferior", 60)
    assert {row["verdict"]["episodes"] for row in run.result["seeds"]} == {60}
    assert len({tuple(play.seeds) for play in run.verdicts()}) == len(run.verdicts()) / 3
    assert any("non-inferior over 3 seeds" in line for line in run.lines)


def test_the_costs_are_those_of_all(run: Recorder) -> None:
    assert run.result["cost"]["gradient_steps"] == sum(fit.told["steps"] for fit in run.fits[: len(run.fits)])
    assert run.result["cost"]["collect_steps"] == sum(round_.rollout.driver.size for round_ in run.rounds)


@pytest.mark.parametrize("name", ["search_size", "realtime", "control"])
def test_what_is_for_one_student_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(KDError, match=f"--{name.replace('_', '-')} is for one student"):
        recorded(tmp_path / "run", **{**SEEDS, name: True})
