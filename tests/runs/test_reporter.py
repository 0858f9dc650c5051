"""What a run shows: nothing where it is quiet, a line now and then where there is no terminal, else a bar."""

import io

import pytest
from rich.console import Console

from kd_agent.runs import Reporter, reporter


class Clock:
    """Stands in for the module `time`; the test says how late it is."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    found = Clock()
    monkeypatch.setattr(reporter, "time", found)
    return found


def test_lines_go_to_standard_error_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    Reporter().say("kwargs [red]{'a': 1}[/red] " + "long " * 60)
    out, err = capsys.readouterr()
    assert out == ""
    assert err == "kwargs [red]{'a': 1}[/red] " + "long " * 60 + "\n"


def test_a_quiet_reporter_says_and_shows_nothing(capsys: pytest.CaptureFixture[str], clock: Clock) -> None:
    quiet = Reporter(quiet=True, progress=True)
    quiet.say("something")
    with quiet.stage("fit", 10, "steps") as advance:
        clock.now += 100
        advance(5, loss=0.1)
    assert capsys.readouterr() == ("", "")


def test_without_progress_lines_are_said_and_stages_are_not(capsys: pytest.CaptureFixture[str], clock: Clock) -> None:
    plain = Reporter(progress=False)
    plain.say("something")
    with plain.stage("fit", 10, "steps") as advance:
        clock.now += 100
        advance(5, loss=0.1)
    assert capsys.readouterr().err == "something\n"


def test_without_a_terminal_a_stage_is_a_line_every_few_seconds(
    capsys: pytest.CaptureFixture[str], clock: Clock
) -> None:
    with Reporter().stage("round 1", 400, "steps") as advance:
        for done in range(100, 500, 100):
            clock.now += reporter.INTERVAL / 2
            advance(done, mean_return=done / 7)
    lines = capsys.readouterr().err.splitlines()
    assert lines == [
        "round 1 ...",
        "round 1 200/400 steps, 3 s left, 67 steps/s, mean return 28.57",
        "round 1 400/400 steps, 0 s left, 67 steps/s, mean return 57.14",
    ]


def test_a_stage_that_does_more_than_it_was_to_do_is_not_late(capsys: pytest.CaptureFixture[str], clock: Clock) -> None:
    with Reporter().stage("training", 100, "steps") as advance:
        clock.now += 4
        advance(128)
    assert "training 128/100 steps, 0 s left, 32 steps/s" in capsys.readouterr().err


def test_on_a_terminal_a_stage_is_a_bar_with_its_figures() -> None:
    shown = io.StringIO()
    terminal = Reporter()
    terminal._console = Console(file=shown, force_terminal=True, width=160)
    with terminal.stage("fit", 10, "gradient steps") as advance:
        advance(5, loss=0.25)
        advance(10, loss=0.125)
    assert "fit" in shown.getvalue()
    assert "100%" in shown.getvalue()
    assert "loss 0.125" in shown.getvalue()
