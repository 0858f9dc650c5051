"""What a run shows: lines, and stages with a bar (a terminal) or a line every few seconds."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

INTERVAL = 3.0
"""Seconds between lines where there is no terminal."""

Advance = Callable[..., None]
"""Called as `advance(done, name=figure, ...)`."""


class Reporter:
    """Prints to standard error.

    Args:
        quiet: Print nothing at all.
        progress: Show stages.
    """

    def __init__(self, *, quiet: bool = False, progress: bool = True) -> None:
        self.quiet = quiet
        self.progress = progress and not quiet
        self._console = Console(stderr=True, highlight=False, soft_wrap=True)

    def say(self, text: str) -> None:
        """A line."""
        # Not as markup: brackets of an environment's arguments would be read as colours.
        if not self.quiet:
            self._console.print(text, markup=False)

    @contextmanager
    def stage(self, name: str, total: int, unit: str) -> Iterator[Advance]:
        """A stage; the block reports how many units are done and any figures.

        Args:
            name: What is going on.
            total: How many units there are to do.
            unit: What is counted, in the plural.
        """
        if not self.progress:
            yield lambda done, **figures: None
        elif self._console.is_terminal:
            with self._bar(name, total, unit) as advance:
                yield advance
        else:
            yield _lines(name, total, unit, self.say)

    @contextmanager
    def _bar(self, name: str, total: int, unit: str) -> Iterator[Advance]:
        columns = (
            TextColumn("{task.description:<22}"),
            BarColumn(),
            TextColumn("{task.percentage:>3.0f}%"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[figures]}"),
        )
        with Progress(*columns, console=self._console, transient=False) as progress:
            task = progress.add_task(name, total=total, figures="")
            started = time.monotonic()

            def _advance(done: int, **figures: float) -> None:
                shown = _figures(done, time.monotonic() - started, unit, figures)
                progress.update(task, completed=done, figures=shown)

            yield _advance


def _lines(name: str, total: int, unit: str, say: Callable[[str], None]) -> Advance:
    started = time.monotonic()
    last = started
    # At once: a stage that takes long before its first step would look like a hang.
    say(f"{name} ...")

    def _advance(done: int, **figures: float) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last >= INTERVAL:
            last = now
            left = (now - started) * max(total - done, 0) / max(done, 1)
            say(f"{name} {done}/{total} {unit}, {left:.0f} s left, {_figures(done, now - started, unit, figures)}")
            sys.stderr.flush()

    return _advance


def _figures(done: int, elapsed: float, unit: str, figures: dict[str, float]) -> str:
    parts = [f"{done / max(elapsed, 1e-9):,.0f} {unit}/s"]
    for name, value in figures.items():
        parts.append(f"{name.replace('_', ' ')} {value:.4g}")
    return ", ".join(parts)
