"""The inner loops of arithmetic in whole numbers for AVRs, in their own instructions, each beside its C in `_c_whole`.

Main paths fall through; what is rare stands after the loop's end. Of an operand `%A` is the lowest byte.
"""


def _statement(instructions: str, operands: str) -> str:
    """A C statement. It is volatile: what it writes, it writes through pointers of which the compiler knows nothing."""
    lines = [f'        "{line.strip()}\\n"' for line in instructions.splitlines() if line.strip()]
    text = "\n".join(lines)
    return f"    __asm__ __volatile__(\n{text}\n{operands});"


NORMAL = _statement(
    """
    1: ld %[part], X+
    ld %A[whole], X+
    ld %B[whole], X+
    ld %[exponent], X+
    lpm %[down], Z+
    lsl %B[whole]
    rol %[exponent]
    sbc %[sign], %[sign]
    sec
    ror %B[whole]
    sub %[down], %[exponent]
    brlo 5f
    breq 5f
    cpi %[down], 16
    brsh 6f
    sbrs %[down], 3
    rjmp 2f
    mov %A[whole], %B[whole]
    clr %B[whole]
    2: sbrs %[down], 2
    rjmp 3f
    swap %A[whole]
    andi %A[whole], 15
    swap %B[whole]
    eor %A[whole], %B[whole]
    andi %B[whole], 15
    eor %A[whole], %B[whole]
    3: andi %[down], 3
    breq 4f
    31: lsr %B[whole]
    ror %A[whole]
    dec %[down]
    brne 31b
    4: eor %A[whole], %[sign]
    eor %B[whole], %[sign]
    sub %A[whole], %[sign]
    sbc %B[whole], %[sign]
    lpm %[part], Z+
    sub %A[whole], %[part]
    lpm %[part], Z+
    sbc %B[whole], %[part]
    brvs 7f
    8: lpm %[part], Z+
    sbrs %[part], 7
    rjmp 12f
    13: mul %A[whole], %[part]
    mov %A[whole], r1
    mulsu %B[whole], %[part]
    clr %B[whole]
    add %A[whole], r0
    adc %B[whole], r1
    cpi %B[whole], 0x20
    brge 9f
    cpi %B[whole], 0xe0
    brlt 10f
    11: st Y+, %A[whole]
    st Y+, %B[whole]
    sbiw %[count], 1
    brne 1b
    rjmp 0f
    5: ldi %A[whole], 0xff
    ldi %B[whole], 0x7f
    rjmp 4b
    6: clr %A[whole]
    clr %B[whole]
    rjmp 4b
    7: lsl %B[whole]
    sbc %A[whole], %A[whole]
    mov %B[whole], %A[whole]
    subi %B[whole], 0x80
    rjmp 8b
    9: ldi %B[whole], 0x20
    clr %A[whole]
    rjmp 11b
    10: ldi %B[whole], 0xe0
    clr %A[whole]
    rjmp 11b
    12: ori %[part], 0x80
    ldi %[down], 3
    14: lsl %A[whole]
    rol %B[whole]
    brvs 15f
    dec %[down]
    brne 14b
    rjmp 13b
    15: lsl %B[whole]
    sbc %A[whole], %A[whole]
    mov %B[whole], %A[whole]
    subi %B[whole], 0x80
    rjmp 13b
    0: clr __zero_reg__
    """,
    """\
        : [x] "+&x"(x), [by] "+&z"(by), [q] "+&y"(q), [count] "+&w"(count), [whole] "=&a"(whole), [part] "=&a"(part),
          [down] "=&d"(down), [exponent] "=&r"(exponent), [sign] "=&r"(sign)
        :
        : "r0", "cc", "memory\"""",
)
# sum += weight * a number of 16 bits.
_PRODUCT = """
    ld %[number], X+
    mulsu %[weight], %[number]
    sbc %[sign], %[sign]
    add %A[sum], r0
    adc %B[sum], r1
    adc %C[sum], %[sign]
    adc %D[sum], %[sign]
    ld %[number], X+
    muls %[number], %[weight]
    sbc %[sign], %[sign]
    add %B[sum], r0
    adc %C[sum], r1
    adc %D[sum], %[sign]
"""
_PRODUCTS = {
    "int8": f"""
    mov %[low], %[n]
    2: lpm %[weight], Z+
    {_PRODUCT}
    dec %[low]
    brne 2b
    """,
    "int4": f"""
    mov %[low], %[n]
    lsr %[low]
    2: lpm %A[upper], Z+
    mov %[weight], %A[upper]
    andi %[weight], 15
    subi %[weight], 8
    {_PRODUCT}
    swap %A[upper]
    mov %[weight], %A[upper]
    andi %[weight], 15
    subi %[weight], 8
    {_PRODUCT}
    dec %[low]
    brne 2b
    """,
    # A fraction of 256 carries over a digit with each product by 3.
    "ternary": f"""
    mov %[low], %[n]
    2: lpm %A[upper], Z+
    ldi %B[upper], 5
    21: ldi %[weight], 3
    mul %A[upper], %[weight]
    mov %A[upper], r0
    mov %[weight], r1
    dec %[weight]
    {_PRODUCT}
    dec %[low]
    dec %B[upper]
    brne 21b
    tst %[low]
    brne 2b
    """,
}
"""From a row of weights to its sum."""
_LAYER = """
    1: lpm %A[sum], Z+
    lpm %B[sum], Z+
    lpm %C[sum], Z+
    lpm %D[sum], Z+
    PRODUCTS
    clr %[sign]
    sub %A[q], %[n]
    sbc %B[q], %[sign]
    sub %A[q], %[n]
    sbc %B[q], %[sign]
    tst %[up]
    brne 5f
    3: lpm %[number], Z+
    lpm %[weight], Z+
    mul %B[sum], %[weight]
    mov %A[sum], r0
    mov %[low], r1
    mulsu %D[sum], %[weight]
    movw %[upper], r0
    clr %[sign]
    mul %C[sum], %[number]
    add %A[sum], r0
    adc %[low], r1
    adc %A[upper], %[sign]
    adc %B[upper], %[sign]
    mul %C[sum], %[weight]
    add %[low], r0
    adc %A[upper], r1
    adc %B[upper], %[sign]
    mulsu %D[sum], %[number]
    sbc %[sign], %[sign]
    add %[low], r0
    adc %A[upper], r1
    adc %B[upper], %[sign]
    mov %[sign], %A[upper]
    lsl %[sign]
    sbc %[sign], %[sign]
    cp %B[upper], %[sign]
    brne 7f
    4: cpi %A[upper], 0x80
    breq 8f
    9: st Y+, %[low]
    st Y+, %A[upper]
    dec %[m]
    breq 0f
    rjmp 1b
    5: mov %[low], %[up]
    6: mov %[sign], %C[sum]
    lsl %[sign]
    sbc %[sign], %[sign]
    cp %D[sum], %[sign]
    brne 10f
    mov %D[sum], %C[sum]
    mov %C[sum], %B[sum]
    mov %B[sum], %A[sum]
    clr %A[sum]
    11: dec %[low]
    brne 6b
    rjmp 3b
    10: lsl %D[sum]
    sbc %A[sum], %A[sum]
    com %A[sum]
    mov %B[sum], %A[sum]
    movw %C[sum], %A[sum]
    subi %D[sum], 0x80
    rjmp 11b
    7: lsl %B[upper]
    sbc %[low], %[low]
    com %[low]
    mov %A[upper], %[low]
    subi %A[upper], 0x80
    rjmp 4b
    8: tst %[low]
    brne 9b
    inc %[low]
    rjmp 9b
    0: clr __zero_reg__
"""
_OPERANDS = """\
        : [y] "+&y"(y), [m] "+&l"(m), [q] "+&x"(q), [by] "+&z"(by), [sum] "=&a"(sum), [number] "=&a"(number),
          [weight] "=&a"(weight), [upper] "=&w"(upper), [low] "=&l"(low), [sign] "=&l"(sign)
        : [n] "l"(n), [up] "l"(up)
        : "r0", "cc", "memory\""""
LAYERS = {grid: _statement(_LAYER.replace("PRODUCTS", products), _OPERANDS) for grid, products in _PRODUCTS.items()}
"""By what the weights are."""
BEND = _statement(
    """
    tst %[up]
    breq 2f
    1: lsl %A[x]
    rol %B[x]
    brmi 3f
    dec %[up]
    brne 1b
    2: mov %[part], %B[x]
    andi %[part], 0xfe
    add %A[at], %[part]
    adc %B[at], __zero_reg__
    lsr %B[x]
    ror %A[x]
    lpm %A[low], Z+
    lpm %B[low], Z+
    lpm %B[x], Z+
    lpm %[part], Z+
    sub %B[x], %A[low]
    sbc %[part], %B[low]
    mul %B[x], %A[x]
    mov %B[x], r1
    mul %[part], %A[x]
    clr %[part]
    add %A[low], %B[x]
    adc %B[low], %[part]
    add %A[low], r0
    adc %B[low], r1
    rjmp 0f
    3: ldi %A[x], 0xff
    ldi %B[x], 0x7f
    rjmp 2b
    0: clr __zero_reg__
    """,
    """\
        : [x] "+&d"(x), [at] "+&z"(at), [up] "+&r"(up), [low] "=&r"(low), [part] "=&d"(part)
        :
        : "r0", "cc", "memory\"""",
)
