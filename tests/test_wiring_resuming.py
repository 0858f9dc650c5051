"""A run that was stopped goes on as if it had not been, and its costs are those of all that was done, once."""

from pathlib import Path

import pytest
from recorder import ROUNDS, SCORES, Recorder, Stopped, recorded, wavering


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("resuming") / "run"


@pytest.fixture(scope="module")
def run(folder: Path) -> Recorder:
    """A whole run in which no attempt holds."""
    return recorded(folder)


@pytest.mark.parametrize("stopped_at", [2, ROUNDS + 1], ids=["between rounds", "between attempts"])
def test_a_stopped_run_goes_on_with_the_right_round_driver_and_data(
    stopped_at: int, run: Recorder, folder: Path, tmp_path: Path
) -> None:
    first = Recorder(SCORES, wavering, stop_at_round=stopped_at)
    with pytest.raises(Stopped):
        recorded(tmp_path / "run", first)
    missing = max(0, stopped_at - ROUNDS + 1)
    again = recorded(tmp_path / "run", Recorder(SCORES[missing:], wavering), resume=True)
    for found, expected in zip(again.rounds, run.rounds[stopped_at:], strict=True):
        assert (found.student, found.told["beta"]) == (expected.student, expected.told["beta"])
        assert tuple(found.told["seed"]) == tuple(expected.told["seed"])
    fits = run.fits[stopped_at:]
    assert [len(fit.rollouts) for fit in again.fits] == [len(fit.rollouts) for fit in fits]
    assert [fit.before for fit in again.fits] == [fit.before for fit in fits]
    files = [(path / "student.safetensors").read_bytes() for path in (folder, tmp_path / "run")]
    assert files[0] == files[1]
