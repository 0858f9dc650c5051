"""How the statements of generated code are spelt: in braces, as C has them, or by indentation, as Python has them."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from kd_agent.errors import KDError
from kd_agent.policies import Array

Lines = list[str]


def indented(lines: Sequence[str]) -> Lines:
    """One level deeper."""
    return [f"    {line}" if line else line for line in lines]


def block(lines: Sequence[str]) -> str:
    """Lines that end where they end, also where there are none."""
    return "".join(f"{line}\n" for line in lines)


def called(text: str, functions: Mapping[str, str]) -> Lines:
    """The functions that a text calls and those that they call, in the order of the table.

    Args:
        text: Generated code.
        functions: Their texts, by name; C wants each before who calls it.
    """
    needed: set[str] = set()
    waiting = [text]
    while waiting:
        names = set(re.findall(r"\bkd_\w+", waiting.pop()))
        new = names & functions.keys() - needed
        needed |= new
        waiting += [functions[name] for name in new]
    return [text for name, text in functions.items() if name in needed]


@dataclass(frozen=True)
class Language:
    """What differs between the languages; this one's statements end with semicolons and lie in braces.

    Attributes:
        index: What declares a loop's index.
        whole: What declares a constant whole number.
        number: What declares a constant float.
        suffix: Suffix of a literal.
        single: What brings a number of the observation to float32.
        out: Name of the array that a run fills.
        mask: The test whether there is a mask.
    """

    index: str
    whole: str
    number: str
    suffix: str
    single: str = ""
    out: str = "out"
    mask: str = "mask"

    def literal(self, value: float) -> str:
        """A float32 constant, exactly; the largest one for infinity."""
        [number] = _finite(np.asarray([value], np.float64))
        return self.spelt(number)

    def literals(self, values: Array) -> list[str]:
        """The numbers of a constant array, float32 or whole."""
        if values.dtype == np.float32:
            return list(map(self.spelt, _finite(values)))
        return list(map(str, values.tolist()))

    def spelt(self, number: float) -> str:
        """A finite number that float32 has, exactly."""
        # Nine digits tell every float32 from its neighbours.
        text = f"{number:.9g}"
        # `1f` is no literal of C.
        if "." not in text and "e" not in text:
            text += ".0"
        return text + self.suffix

    def ended(self, statement: str) -> str:
        """A statement of one line."""
        return f"{statement};"

    def assign(self, target: str, value: str) -> str:
        """The target becomes the value."""
        return self.ended(f"{target} = {value}")

    def add(self, target: str, value: str) -> str:
        """The target grows by the value."""
        return self.ended(f"{target} += {value}")

    def declare(self, kind: str, name: str, value: str) -> str:
        """A local name.

        Args:
            kind: `index`, `whole` or `number` of the language.
            name: The name.
            value: Its value.
        """
        return self.ended(f"{kind} {name} = {value}")

    def choice(self, test: str, yes: str, no: str) -> str:
        """One of two values."""
        return f"{test} ? {yes} : {no}"

    def every(self, *tests: str) -> str:
        """The test whether all tests hold."""
        return " && ".join(tests)

    def loop(self, name: str, stop: int, *body: str, start: int = 0, step: int = 1) -> Lines:
        """A counting loop.

        Args:
            name: The index.
            stop: The index ends before this number.
            body: Lines.
            start: Its first number.
            step: What it grows by.
        """
        move = f"{name}++"
        if step != 1:
            move = f"{name} += {step}"
        return self._braces(f"for ({self.index} {name} = {start}; {name} < {stop}; {move})", body)

    def repeat(self, test: str, *body: str) -> Lines:
        """A loop as long as a test holds."""
        return self._braces(f"while ({test})", body)

    def when(self, test: str, body: Sequence[str], otherwise: Sequence[str] = ()) -> Lines:
        """Lines for where a test holds, and others for where it does not."""
        lines = self._braces(f"if ({test})", body)
        if otherwise:
            lines[-1:] = self._braces("} else", otherwise)
        return lines

    def scope(self, *body: str) -> Lines:
        """Lines whose local names are theirs alone."""
        return ["{", *indented(body), "}"]

    def _braces(self, head: str, body: Sequence[str]) -> Lines:
        return [f"{head} {{", *indented(body), "}"]


@dataclass(frozen=True)
class Indented(Language):
    """A language whose statements end with their line and whose numbers have 64 bits.

    Attributes:
        declares: What stands before a new name.
        becomes: What stands between it and its value.
        alone: What opens a scope; nothing where loops and tests open none either.
    """

    index: str = ""
    whole: str = ""
    number: str = ""
    suffix: str = ""
    declares: str = ""
    becomes: str = "="
    alone: str = ""

    def spelt(self, number: float) -> str:
        """A finite number that float32 has, exactly."""
        # Nine digits name a float32, but there are numbers of 64 bits that are nearer to them.
        return repr(number)

    def ended(self, statement: str) -> str:
        """A statement of one line."""
        return statement

    def declare(self, kind: str, name: str, value: str) -> str:
        """A local name."""
        return f"{self.declares}{name} {self.becomes} {value}"

    def choice(self, test: str, yes: str, no: str) -> str:
        """One of two values."""
        return f"{yes} if {test} else {no}"

    def every(self, *tests: str) -> str:
        """The test whether all tests hold."""
        return " and ".join(tests)

    def loop(self, name: str, stop: int, *body: str, start: int = 0, step: int = 1) -> Lines:
        """A counting loop."""
        limits = [str(stop)]
        if start or step != 1:
            limits = [str(start), str(stop)]
        if step != 1:
            limits.append(str(step))
        return [f"for {name} in range({', '.join(limits)}):", *indented(body)]

    def repeat(self, test: str, *body: str) -> Lines:
        """A loop as long as a test holds."""
        return [f"while {test}:", *indented(body)]

    def when(self, test: str, body: Sequence[str], otherwise: Sequence[str] = ()) -> Lines:
        """Lines for where a test holds, and others for where it does not."""
        lines = [f"if {test}:", *indented(body)]
        if otherwise:
            lines += ["else:", *indented(otherwise)]
        return lines

    def scope(self, *body: str) -> Lines:
        """Lines whose local names are theirs alone."""
        if not self.alone:
            return list(body)
        return [self.alone, *indented(body)]


def _finite(values: Array) -> list[float]:
    """Each number `[...]` as float32, infinity as the largest one."""
    if np.isnan(values).any():
        raise KDError("a constant of the policy is not a number")
    largest = np.finfo(np.float32).max
    # One clip and one list: NumPy's numbers one by one take 13 times as long.
    numbers: list[float] = np.clip(values, -largest, largest).astype(np.float32).tolist()
    return numbers
