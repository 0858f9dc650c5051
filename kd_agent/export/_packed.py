"""Sums with packed weights in C: two of 4 bits or five ternary ones in a byte, taken apart while acting.

One output at a time, its sum in registers: a small processor reads each byte once and stores no sums.
"""

from kd_agent.export._language import Lines, indented
from kd_agent.export._source import Source
from kd_agent.policies.packed import INT4, PER_BYTE, ZERO, Packed, pack


def sums(s: Source, packed: Packed, answer: str) -> Lines:
    """The text that goes through all outputs.

    Args:
        s: The source under construction.
        packed: The weight `[m, n]`; its inputs are whole numbers in `q`.
        answer: What becomes of an output's `total`, the statement at output `j`.
    """
    m, n = packed.whole.shape
    count = PER_BYTE[packed.largest]
    # The last byte of a row is like the others: beyond the inputs lie weights of 0, which read zeros.
    filled = n + -n % count
    s.whole_inputs = max(s.whole_inputs, filled)
    body = _two() if packed.largest == INT4 else _five(s.language.index)
    row = [
        "int32_t total = 0;",
        *s.language.loop("i", filled, *body, step=count),
        answer,
    ]
    lines = [f"const KD_FLASH uint8_t *digits = {s.constant(pack(packed))};", *s.language.loop("j", m, *row)]
    if filled > n:
        lines = s.language.loop("i", filled, "q[i] = 0;", start=n) + lines
    # Braces of its own, so that several layers may each have their `digits`.
    return ["{", *indented(lines), "}"]


def _two() -> Lines:
    """Two weights of 4 bits; each product in 32 bits, wherever an int has 16."""
    zero = ZERO[INT4]
    return [
        "const int two = *digits++;",
        f"total += (int32_t)q[i] * ((two & 15) - {zero});",
        f"total += (int32_t)q[i + 1] * ((two >> 4) - {zero});",
    ]


def _five(index: str) -> Lines:
    """Five ternary weights, without a product: three times the fraction carries over the next of 0, 1 and 2."""
    return [
        "int fraction = *digits++;",
        f"for ({index} k = i; k < i + 5; k++) {{",
        "    fraction *= 3;",
        "    if (fraction >= 512) total += q[k];",
        "    if (fraction < 256) total -= q[k];",
        "    fraction &= 255;",
        "}",
    ]
