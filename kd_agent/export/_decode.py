"""How a mask changes a row of head parameters, and how that becomes the greedy action, in any language."""

import numpy as np

from kd_agent.export._language import Language, Lines
from kd_agent.export._source import Source
from kd_agent.policies import MASKED, HeadSpec


def decode(s: Source, head: HeadSpec) -> Lines:
    """The text that turns `row` into the greedy `action`, or returns it where the head is categorical.

    Args:
        s: The source under construction.
        head: What the row means.
    """
    language = s.language
    if head.kind == "categorical":
        return [language.ended(f"return kd_argmax(row, 0, {head.nvec[0]}) + ({head.start[0]})")]
    if head.kind == "multi_categorical":
        return _best_of_each(language, head)
    if head.kind == "bernoulli":
        bit = language.choice(f"row[i] > {language.literal(0)}", "1", "0")
        return language.loop("i", len(head.nvec), language.assign("action[i]", bit))
    return language.loop("i", len(head.low), language.assign("action[i]", _to_box(s, head)))


def masked(s: Source, head: HeadSpec, row: str = "row") -> Lines:
    """The text that masks the array `row` where there is a `mask`: `HeadSpec.where_allowed`; none for other heads.

    Args:
        s: The source under construction.
        head: What the row means.
        row: Name of the array.
    """
    if not head.expects_masks:
        return []
    choice = s.language.choice
    least = s.language.literal(MASKED)
    text = choice("mask[i]", f"{row}[i]", least)
    if head.kind == "bernoulli":
        most = s.language.literal(-MASKED)
        zero = s.language.literal(0)
        may_be_1 = "mask[2 * i + 1]"
        with_0 = choice(may_be_1, f"{row}[i]", least)
        without_0 = choice(may_be_1, most, zero)
        text = choice("mask[2 * i]", f"({with_0})", f"({without_0})")
    return s.language.when(s.language.mask, s.language.loop("i", head.num_params, s.language.assign(f"{row}[i]", text)))


def _best_of_each(language: Language, head: HeadSpec) -> Lines:
    lines: Lines = []
    first = 0
    for part, (count, start) in enumerate(zip(head.nvec, head.start, strict=True)):
        lines.append(language.assign(f"action[{part}]", f"kd_argmax(row, {first}, {count}) + {start}"))
        first += count
    return lines


def _to_box(s: Source, head: HeadSpec) -> str:
    """Text of number `i` of an action of a Box."""
    shape = (len(head.low),)
    # An open side is float32's largest number: none of the languages' literals have infinity.
    largest = np.finfo(np.float32).max
    low = np.clip(np.asarray(head.low, np.float32), -largest, largest)
    high = np.clip(np.asarray(head.high, np.float32), -largest, largest)
    if head.kind == "squashed_gaussian":
        one = s.language.literal(1)
        half = s.value(np.float32(0.5) * (high - low), shape)
        return f"{s.value(low, shape)} + (kd_tanh(row[i]) + {one}) * {half}"
    return f"kd_clip(row[i], {s.value(low, shape)}, {s.value(high, shape)})"
