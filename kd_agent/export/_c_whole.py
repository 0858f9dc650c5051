"""The C functions of arithmetic in whole numbers, each emitted only where it is used, in the order of their calls."""

from string import Template

from kd_agent.export._c_avr import BEND, LAYERS, NORMAL
from kd_agent.export._whole import tanh_table

_TABLE = ", ".join(map(str, tanh_table()))

_LAYER = Template(
    """\
/* Each y: sum factor 2^(8 up - 24) within +-32767, where sum = bias + w q over n numbers; by has of each the bias in
   four bytes, the lowest first, $weights, and the factor in two bytes. */
kd_alone static void $name(
    int16_t *y, uint8_t m, const int16_t *q, uint8_t n, const KD_FLASH uint8_t *by, uint8_t up
) {
#ifdef KD_AVR
    int32_t sum;
    int16_t upper;
    uint8_t number, weight, low, sign;
$assembly
#else
    do {
        int32_t sum = (int32_t)((uint32_t)by[0] | (uint32_t)by[1] << 8 | (uint32_t)by[2] << 16 | (uint32_t)by[3] << 24);
        uint16_t factor;
        by += 4;
        for (int i = 0; i < n; i += $step) {
$products
        }
        for (int i = 0; i < up; i++) {
            sum = sum > 0x7fffff ? INT32_MAX : sum < -0x800000 ? INT32_MIN : sum * 256;
        }
        factor = (uint16_t)((uint16_t)by[0] | (uint16_t)by[1] << 8);
        by += 2;
        /* The lowest byte of the sum is less than what is rounded off. */
        sum = ((sum >> 16) * factor + (int32_t)((uint32_t)(sum >> 8 & 255) * (factor >> 8))) >> 8;
        *y++ = (int16_t)(sum > INT16_MAX ? INT16_MAX : sum < -INT16_MAX ? -INT16_MAX : sum);
    } while (--m);
#endif
}"""
)
_LAYERS = {
    "kd_layer16": ("int8", "n weights", 1, "            sum += (int32_t)q[i] * (int8_t)*by++;"),
    "kd_layer16_int4": (
        "int4",
        "n weights, two to a byte",
        2,
        """\
            const int two = *by++;
            sum += (int32_t)q[i] * ((two & 15) - 8);
            sum += (int32_t)q[i + 1] * ((two >> 4) - 8);""",
    ),
    "kd_layer16_ternary": (
        "ternary",
        "n weights, five to a byte",
        5,
        """\
            int fraction = *by++;
            for (int k = i; k < i + 5; k++) {
                fraction *= 3;
                sum += (int32_t)q[k] * ((fraction >> 8) - 1);
                fraction &= 255;
            }""",
    ),
}


def _layer(name: str, grid: str, weights: str, step: int, products: str) -> str:
    return _LAYER.substitute(name=name, assembly=LAYERS[grid], weights=weights, step=step, products=products)


# Shifts of negative numbers are those of every compiler there is: the sign comes in from the left.
FUNCTIONS = {
    "kd_alone": """\
/* On AVRs that multiply, products are written in their own instructions: its compiler calls functions for them, which
   take twice as long. Each such function stands alone, so that it finds the registers it asks for; where nothing is
   optimised it does not. */
#if defined(__AVR_HAVE_MUL__) && defined(__FLASH) && defined(__OPTIMIZE__) && !defined(__STRICT_ANSI__)
#define KD_AVR
#define kd_alone __attribute__((noinline))
#else
#define kd_alone
#endif""",
    "kd_upper": """\
/* a b / 2^16, rounded down. */
kd_alone static int16_t kd_upper(int16_t a, int16_t b) {
#ifdef KD_AVR
    int16_t product;
    uint8_t low, sign;
    __asm__(
        "mul %A[a], %A[b]\\n\\t"
        "mov %[low], r1\\n\\t"
        "muls %B[a], %B[b]\\n\\t"
        "movw %A[p], r0\\n\\t"
        "mulsu %B[a], %A[b]\\n\\t"
        "sbc %[sign], %[sign]\\n\\t"
        "add %[low], r0\\n\\t"
        "adc %A[p], r1\\n\\t"
        "adc %B[p], %[sign]\\n\\t"
        "mulsu %B[b], %A[a]\\n\\t"
        "sbc %[sign], %[sign]\\n\\t"
        "add %[low], r0\\n\\t"
        "adc %A[p], r1\\n\\t"
        "adc %B[p], %[sign]\\n\\t"
        "clr __zero_reg__"
        : [p] "=&r"(product), [low] "=&r"(low), [sign] "=&r"(sign)
        : [a] "a"(a), [b] "a"(b)
        : "r0", "cc");
    return product;
#else
    return (int16_t)((int32_t)a * b >> 16);
#endif
}""",
    "kd_normal16": """\
/* Of each x: (x 2^power - mean) factor / 2^8 within +-8192. By has of each 142 - power, the mean in two bytes, the
   lower one first, and factor. Its first bit is set, or is not where the mean is far off and leaves the difference 3
   bits less. A float is a sign, 8 bits of an exponent and 23 of a fraction whose first one is not written: x 2^power
   is a shift of its upper 16. */
kd_alone static void kd_normal16(const float *x, const KD_FLASH uint8_t *by, int16_t *q, int count) {
#ifdef KD_AVR
    int16_t whole;
    uint8_t part, exponent, sign, down;
"""
    + NORMAL
    + """
#else
    do {
        kd_word bits;
        int32_t whole;
        bits.f = *x++;
        const int down = by[0] - (int)((uint32_t)bits.i >> 23 & 255);
        whole = down < 1 ? INT16_MAX : down > 15 ? 0 : (int32_t)(((uint32_t)bits.i >> 8 & 0x7fff) | 0x8000) >> down;
        whole = (bits.i < 0 ? -whole : whole) - (int16_t)((uint16_t)by[1] | (uint16_t)by[2] << 8);
        whole = whole > INT16_MAX ? INT16_MAX : whole < INT16_MIN ? INT16_MIN : whole;
        if (by[3] < 128) whole *= 8;
        whole = whole > INT16_MAX ? INT16_MAX : whole < INT16_MIN ? INT16_MIN : whole;
        whole = whole * (by[3] | 128) >> 8;
        *q++ = (int16_t)(whole > 8192 ? 8192 : whole < -8192 ? -8192 : whole);
        by += 4;
    } while (--count);
#endif
}""",
    **{name: _layer(name, *rest) for name, rest in _LAYERS.items()},
    "kd_bend16": f"""\
/* tanh of x 2^up / 8192 for x from 0 on, in units of 1 / 32767: a table and straight lines, good to 2e-4 up to 4. */
kd_alone static int16_t kd_bend16(int16_t x, uint8_t up) {{
    static const KD_FLASH int16_t table[65] = {{{_TABLE}}};
#ifdef KD_AVR
    const KD_FLASH int16_t *at = table;
    int16_t low;
    uint8_t part;
"""
    + BEND
    + """
    return low;
#else
    x = (int16_t)(x > INT16_MAX >> up ? INT16_MAX : x << up);
    const int32_t low = table[x >> 9];
    return (int16_t)(low + ((table[(x >> 9) + 1] - low) * (x >> 1 & 255) >> 8));
#endif
}""",
    "kd_tanh16": """\
static inline int16_t kd_tanh16(int16_t x) {
    return (int16_t)(x < 0 ? -kd_bend16((int16_t)-x, 0) : kd_bend16(x, 0));
}""",
    "kd_sigmoid16": """\
static inline int16_t kd_sigmoid16(int16_t x) {
    return (int16_t)((kd_tanh16(x) >> 1) + 16384);
}""",
    "kd_silu16": """\
/* x / 2 + |x| / 2 tanh(|x| / 2), for an x in units of 2^(up - 12). */
static int16_t kd_silu16(int16_t x, uint8_t up) {
    const int16_t size = (int16_t)(x < 0 ? -x : x);
    return (int16_t)((x >> 1) + kd_upper(size, kd_bend16(size, up)));
}""",
    "kd_argmax16": """\
static int kd_argmax16(const int16_t *x, int count) {
    int16_t top = *x;
    int best = 0;
    for (int i = 1; i < count; i++) {
        const int16_t next = *++x;
        if (next > top) {
            top = next;
            best = i;
        }
    }
    return best;
}""",
}
