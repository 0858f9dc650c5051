"""How a mask changes a row of head parameters, and how that becomes the greedy action, for C99 and JavaScript alike."""

import numpy as np

from kd_agent.export._source import Lines, Source, indented
from kd_agent.policies import MASKED, HeadSpec


def decode(s: Source, head: HeadSpec) -> Lines:
    """The text that turns `row` into the greedy `action` (all heads but the categorical one).

    Args:
        s: The source under construction.
        head: What the row means.
    """
    if head.kind == "multi_categorical":
        return _best_of_each(head)
    if head.kind == "bernoulli":
        zero = s.language.literal(0)
        one = s.language.literal(1)
        return s.language.loop("i", len(head.nvec), f"action[i] = row[i] > {zero} ? {one} : {zero};")
    return s.language.loop("i", len(head.low), f"action[i] = {_to_box(s, head)};")


def masked(s: Source, head: HeadSpec, row: str = "row") -> Lines:
    """The text that masks the array `row` where there is a `mask`: `HeadSpec.where_allowed`; none for other heads.

    Args:
        s: The source under construction.
        head: What the row means.
        row: Name of the array.
    """
    if not head.expects_masks:
        return []
    least = s.language.literal(MASKED)
    text = f"mask[i] ? {row}[i] : {least}"
    if head.kind == "bernoulli":
        most = s.language.literal(-MASKED)
        zero = s.language.literal(0)
        may_be_1 = "mask[2 * i + 1]"
        text = f"mask[2 * i] ? ({may_be_1} ? {row}[i] : {least}) : ({may_be_1} ? {most} : {zero})"
    return ["if (mask) {", *indented(s.language.loop("i", head.num_params, f"{row}[i] = {text};")), "}"]


def _best_of_each(head: HeadSpec) -> Lines:
    lines: Lines = []
    first = 0
    for part, (count, start) in enumerate(zip(head.nvec, head.start, strict=True)):
        lines.append(f"action[{part}] = kd_argmax(row, {first}, {count}) + {start};")
        first += count
    return lines


def _to_box(s: Source, head: HeadSpec) -> str:
    """Text of number `i` of an action of a Box."""
    shape = (len(head.low),)
    # An open side is float32's largest number: neither language's literals have infinity.
    largest = np.finfo(np.float32).max
    low = np.clip(np.asarray(head.low, np.float32), -largest, largest)
    high = np.clip(np.asarray(head.high, np.float32), -largest, largest)
    if head.kind == "squashed_gaussian":
        one = s.language.literal(1)
        half = s.value(np.float32(0.5) * (high - low), shape)
        return f"{s.value(low, shape)} + (kd_tanh(row[i]) + {one}) * {half}"
    return f"kd_clip(row[i], {s.value(low, shape)}, {s.value(high, shape)})"
