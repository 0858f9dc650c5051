"""How a row of head parameters becomes the greedy action, for C99 and JavaScript alike."""

import numpy as np

from kd_agent.export._source import Lines, Source
from kd_agent.policies import HeadSpec


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
