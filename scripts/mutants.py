"""Break the wiring and the verdict on purpose, one place at a time, and require their tests to notice.

Each mutation replaces a text that is found exactly once in a file; the tests run on a copy of the checkout. The exit
code is 1 where a mutation survives, where its text is not found exactly once any more, or where the tests fail without
one. The mutations lie in `mutations/<subject>.toml`: what is broken = [the exact text, what takes its place], under
the file's name.
"""

import argparse
import os
import shutil
import signal
import sys
import tempfile
import time
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from multiprocessing import get_context
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
os.environ["OMP_NUM_THREADS"] = "1"
COPIED = ("kd_agent", "envs", "configs", "tests", "pyproject.toml")
LIBRARIES = (
    "torch",
    "torch.utils.tensorboard",
    "stable_baselines3",
    "sb3_contrib",
    "gymnasium",
    "scipy.stats",
    "pydantic",
    "jinja2",
    "rich.progress",
    "yaml",
    "safetensors.numpy",
    "sklearn.tree",
    "matplotlib.figure",
)
"""What the tests import and is slow to import."""
TIMEOUT_S = 90
"""Of the processor's time: others may have the machine too."""


@dataclass(frozen=True)
class Mutation:
    """A place that is broken.

    Attributes:
        name: What is broken.
        tests: The tests of its subject, which run first.
        file: Where.
        old: The exact text.
        new: What takes its place.
    """

    name: str
    tests: str
    file: str
    old: str
    new: str

    def found(self) -> int:
        """How often its text is there."""
        path = ROOT / self.file
        return path.read_text().count(self.old) if path.is_file() else 0


@dataclass(frozen=True)
class Outcome:
    """What became of a mutation.

    Attributes:
        name: Its name.
        word: "killed", "SURVIVED", "STALE" or "BROKEN".
        by: The test that noticed, or what is wrong.
    """

    name: str
    word: str
    by: str


def mutations() -> list[Mutation]:
    """All mutations, subject by subject."""
    table = []
    for path in sorted(Path(__file__).with_name("mutations").glob("*.toml")):
        content = tomllib.loads(path.read_text())
        tests = content.pop("tests")
        for file, places in content.items():
            for name, (old, new) in places.items():
                table.append(Mutation(name, tests, file, old, new))
    return table


def tried(mutation: Mutation) -> Outcome:
    """Run the wiring tests on a copy with one text replaced."""
    found = mutation.found()
    if found != 1:
        return Outcome(mutation.name, "STALE", f"{mutation.file}: its text is found {found} times")
    with tempfile.TemporaryDirectory(prefix="mutant-") as folder:
        copy = copied(Path(folder))
        path = copy / mutation.file
        path.write_text(path.read_text().replace(mutation.old, mutation.new))
        code, output = tested(copy, mutation.tests)
    if code == 0:
        return Outcome(mutation.name, "SURVIVED", "")
    failures = [line for line in output.splitlines() if line.startswith(("FAILED ", "ERROR "))]
    if code == 1 and failures:
        return Outcome(mutation.name, "killed", failures[0].partition("::")[2][:160])
    return Outcome(mutation.name, "BROKEN", f"pytest exits with {code}: {output.strip()[-200:]}")


def copied(folder: Path) -> Path:
    """A copy of what the tests need."""
    for part in COPIED:
        source = ROOT / part
        if source.is_dir():
            shutil.copytree(source, folder / part, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, folder / part)
    return folder


def tested(copy: Path, first: str) -> tuple[int, str]:
    """Exit code and output of the wiring tests in a copy, within this process, which is good for nothing afterwards.

    Args:
        copy: The copy.
        first: The test file that runs first; the others follow.
    """
    os.chdir(copy)
    os.environ["PYTHONPATH"] = os.pathsep.join([str(copy), str(copy / "envs")])
    sys.path[:0] = [str(copy), str(copy / "envs")]
    sys.dont_write_bytecode = True
    others = [str(path) for path in sorted(Path("tests").glob("test_wiring*.py")) if str(path) != first]
    signal.signal(signal.SIGPROF, _too_long)
    signal.setitimer(signal.ITIMER_PROF, TIMEOUT_S)
    with (copy / "output.txt").open("w") as output:
        for stream in (1, 2):
            os.dup2(output.fileno(), stream)
        # One after the other: to collect them all takes longer than the tests of a subject.
        for files in ([first], others):
            code = int(pytest.main(["-x", "-q", "-p", "no:cacheprovider", *files]))
            if code:
                break
        sys.stdout.flush()
    signal.setitimer(signal.ITIMER_PROF, 0)
    return code, (copy / "output.txt").read_text()


def _too_long(*_: object) -> None:
    raise TimeoutError(f"no end after {TIMEOUT_S} s")


def warmed_up() -> None:
    """Import what is slow and not of this package, so that the processes that are forked need not."""
    for library in LIBRARIES:
        import_module(library)
    assert not [name for name in sys.modules if name.partition(".")[0] in ("kd_agent", "kd_envs")]


def main(argv: Sequence[str] | None = None) -> int:
    """Try all mutations, or those whose name or subject has a word; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--jobs", type=int, default=2, help="processes at a time")
    parser.add_argument(
        "--only",
        nargs="+",
        default=[""],
        metavar="WORD",
        help="only mutations whose name or test file has one",
    )
    asked = parser.parse_args(argv)
    chosen = []
    for mutation in mutations():
        if any(word in f"{mutation.name} {mutation.tests}" for word in asked.only):
            chosen.append(mutation)
    if not chosen:
        print(f"no mutation is called {' or '.join(asked.only)}")
        return 1
    started = time.monotonic()
    outcomes: list[Outcome] = []
    warmed_up()
    first = chosen[0]
    unchanged = Mutation("no mutation", first.tests, first.file, first.old, first.old)
    with get_context("fork").Pool(asked.jobs, maxtasksperchild=1) as pool:
        without = pool.apply(tried, (unchanged,))
        if without.word != "SURVIVED":
            print(f"without a mutation the tests fail already: {without.word} [{without.by}]")
            return 1
        for outcome in pool.imap(tried, chosen, chunksize=1):
            outcomes.append(outcome)
            print(f"{outcome.word:<8} {outcome.name}  [{outcome.by}]", flush=True)
    bad = [outcome for outcome in outcomes if outcome.word != "killed"]
    print(f"{len(outcomes) - len(bad)} of {len(outcomes)} killed in {time.monotonic() - started:.0f} s")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
