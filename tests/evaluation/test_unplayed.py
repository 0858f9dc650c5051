"""Runs of recorded data, held to what they say: what can be looked at again is, and what nobody can play is said."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from recordings import arrays, of_chance, saved
from samples import PROBES

from kd_agent import KDError, distill
from kd_agent.evaluation.unplayed import NEVER_PLAYED, sentence_unplayed
from kd_agent.evaluation.verification import verify
from kd_agent.settings import VerifyConfig

FIT = {"final_steps": 60, "attempts": 1, "hidden": [8], "quiet": True}
PLAY = {"env": PROBES["Discrete"], "episodes": 60, "max_episodes": 60}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three runs: one that nobody played, one that was judged, and one of random data."""
    folder = tmp_path_factory.mktemp("recorded")
    good = saved(folder / "good.npz", arrays())
    distill({**FIT, "teacher": good, "out": str(folder / "unplayed")})
    distill({**FIT, **PLAY, "teacher": good, "out": str(folder / "judged")})
    distill({**FIT, **PLAY, "teacher": saved(folder / "bad.npz", of_chance()), "out": str(folder / "random")})
    return folder


def claims(run: Path, **more: Any) -> tuple[list[str], str]:
    """What holds, and the first line that does not."""
    holding = []
    for claim in verify(VerifyConfig(str(run), quiet=True, **more)):
        if not claim.holds:
            return holding, str(claim)
        holding.append(claim.text)
    return holding, ""


@pytest.mark.parametrize("name", ["unplayed", "judged", "random"])
def test_a_run_that_nobody_touched_holds_and_says_what_cannot_be_played(name: str, folder: Path) -> None:
    holding, fault = claims(folder / name)
    assert fault == ""
    text = "\n".join(holding)
    assert "the recording has the 24 returns; nobody can play it again" in text
    assert "KL and agreement on 5 held-out episodes are the same" in text
    assert (f"the verdict is open: {NEVER_PLAYED}" in text) == (name == "unplayed")
    assert ("student: played again, " in text) == (name != "unplayed")
    assert "teacher: played again" not in text


def edited(folder: Path, run: str, change: Callable[[dict[str, Any]], Any]) -> Path:
    path = folder / run / "result.json"
    result = json.loads(path.read_text())
    change(result)
    path.write_text(json.dumps(result))
    return folder / run


EDITS: dict[str, tuple[str, Callable[[dict[str, Any]], Any], str]] = {
    "a verdict": ("unplayed", lambda r: r["verdict"].update(non_inferior=True, decision="non-inferior"), "is open"),
    "a divergence": ("unplayed", lambda r: r["student"].update(kl=1e-6), "held-out episodes"),
    "returns nobody had": ("unplayed", lambda r: r["teacher"]["returns"].append(50.0), "has the 24 returns"),
    "a paired verdict": ("random", lambda r: r["verdict"].update(decision="non-inferior"), "the verdict, non-inf"),
    "an agreement": ("judged", lambda r: r["student"].update(agreement=1.0), "held-out episodes"),
}


@pytest.mark.parametrize("case", EDITS)
def test_what_was_edited_is_named(case: str, folder: Path, tmp_path: Path) -> None:
    import shutil

    run, change, said = EDITS[case]
    shutil.copytree(folder / run, tmp_path / run)
    _, fault = claims(edited(tmp_path, run, change))
    assert said in fault


def test_a_recordings_verdict_is_not_an_agents(folder: Path, tmp_path: Path) -> None:
    """Whose teacher could play is judged in pairs: an unpaired verdict is not to be had by another name."""
    import shutil

    shutil.copytree(folder / "judged", tmp_path / "judged")
    with pytest.raises(KDError, match="both must play the same episodes"):
        claims(edited(tmp_path, "judged", lambda r: r["teacher"].update(algo="PPO")))


def test_another_recording_is_not_the_runs_teacher(folder: Path) -> None:
    _, fault = claims(folder / "unplayed", teacher=(str(folder / "bad.npz"),))
    assert "has the sha256" in fault
    with pytest.raises(KDError, match="the run's teacher is not there"):
        claims(folder / "unplayed", teacher=(str(folder / "absent.npz"),))


def test_the_line_says_what_is_known(folder: Path) -> None:
    line = sentence_unplayed(json.loads((folder / "unplayed" / "result.json").read_text()))
    assert line.startswith(f"undecided: {NEVER_PLAYED}; student of ")
    assert "on 5 of 24 recorded episodes, held out (250 states)" in line
