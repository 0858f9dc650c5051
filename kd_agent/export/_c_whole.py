"""The C functions of arithmetic in whole numbers, each emitted only where it is used, in the order of their calls."""

from kd_agent.export._whole import tanh_table

_TABLE = ", ".join(map(str, tanh_table()))

# Shifts of negative numbers are those of every compiler there is: the sign comes in from the left.
FUNCTIONS = {
    "kd_alone": """\
/* On AVRs that multiply, products are written in their own instructions: its compiler calls functions for them, which
   take twice as long. Each such function stands alone, so that it finds the registers it asks for. */
#if defined(__AVR_HAVE_MUL__) && defined(__FLASH) && !defined(__STRICT_ANSI__)
#define KD_AVR
#define kd_alone __attribute__((noinline))
#else
#define kd_alone
#endif""",
    "kd_short": """\
static inline int16_t kd_short(int32_t x) {
    return (int16_t)(x > INT16_MAX ? INT16_MAX : x < -INT16_MAX ? -INT16_MAX : x);
}""",
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
    "kd_times": """\
/* x factor / 2^16, for a factor from 0 on: the upper half of x and the byte below it, multiplied one by one. */
kd_alone static int32_t kd_times(int32_t x, int16_t factor) {
#ifdef KD_AVR
    int32_t product;
    uint8_t zero;
    __asm__(
        "clr %[zero]\\n\\t"
        "mul %B[x], %A[factor]\\n\\t"
        "mov %A[p], r1\\n\\t"
        "clr %B[p]\\n\\t"
        "clr %C[p]\\n\\t"
        "clr %D[p]\\n\\t"
        "mul %B[x], %B[factor]\\n\\t"
        "add %A[p], r0\\n\\t"
        "adc %B[p], r1\\n\\t"
        "mul %C[x], %A[factor]\\n\\t"
        "add %A[p], r0\\n\\t"
        "adc %B[p], r1\\n\\t"
        "adc %C[p], %[zero]\\n\\t"
        "mul %C[x], %B[factor]\\n\\t"
        "add %B[p], r0\\n\\t"
        "adc %C[p], r1\\n\\t"
        "adc %D[p], %[zero]\\n\\t"
        "mulsu %D[x], %A[factor]\\n\\t"
        "sbc %[zero], %[zero]\\n\\t"
        "add %B[p], r0\\n\\t"
        "adc %C[p], r1\\n\\t"
        "adc %D[p], %[zero]\\n\\t"
        "muls %D[x], %B[factor]\\n\\t"
        "add %C[p], r0\\n\\t"
        "adc %D[p], r1\\n\\t"
        "clr __zero_reg__"
        : [p] "=&r"(product), [zero] "=&r"(zero)
        : [x] "a"(x), [factor] "a"(factor)
        : "r0", "cc");
    return product;
#else
    const uint16_t low = (uint16_t)((uint32_t)(uint8_t)(x >> 8) * (uint16_t)factor >> 8);
    return (x >> 16) * factor + (int32_t)low;
#endif
}""",
    "kd_dot16": """\
/* sum + q w, over count numbers. */
kd_alone static int32_t kd_dot16(int32_t sum, const int16_t *q, const KD_FLASH int8_t *w, int count) {
#ifdef KD_AVR
    int16_t number;
    int8_t weight, sign;
    __asm__(
        "1: lpm %[weight], Z+\\n\\t"
        "ld %A[number], X+\\n\\t"
        "ld %B[number], X+\\n\\t"
        "mulsu %[weight], %A[number]\\n\\t"
        "sbc %[sign], %[sign]\\n\\t"
        "add %A[sum], r0\\n\\t"
        "adc %B[sum], r1\\n\\t"
        "adc %C[sum], %[sign]\\n\\t"
        "adc %D[sum], %[sign]\\n\\t"
        "muls %B[number], %[weight]\\n\\t"
        "sbc %[sign], %[sign]\\n\\t"
        "add %B[sum], r0\\n\\t"
        "adc %C[sum], r1\\n\\t"
        "adc %D[sum], %[sign]\\n\\t"
        "sbiw %[count], 1\\n\\t"
        "brne 1b\\n\\t"
        "clr __zero_reg__"
        : [sum] "+r"(sum), [q] "+x"(q), [w] "+z"(w), [count] "+w"(count), [number] "=&a"(number),
          [weight] "=&a"(weight), [sign] "=&r"(sign)
        :
        : "r0", "cc", "memory");
#else
    do {
        sum += (int32_t)*q++ * *w++;
    } while (--count);
#endif
    return sum;
}""",
    "kd_rescaled16": """\
/* sum factor / 2^(24 - up) within 16 bits: few shifts to the left and a byte to the right are less than many shifts. */
static int16_t kd_rescaled16(int32_t sum, int16_t factor, uint8_t up) {
    return kd_short((int32_t)((uint32_t)kd_times(sum, factor) << up) >> 8);
}""",
    "kd_normal16": """\
/* Of each x: (x 2^power - mean) factor / 2^16 within +-8192; by has 150 - power and factor. A float is a sign, 8 bits
   of an exponent and 23 of a fraction whose first one is not written: x 2^power is a shift of it. (The means have a
   table of their own: gcc 5.4 for AVR joins two reads of 16 bits from flash to one of 32 from RAM.) */
static void kd_normal16(
    const float *x, const KD_FLASH int16_t *by, const KD_FLASH int32_t *mean, int16_t *q, int count
) {
    do {
        kd_word bits;
        uint32_t whole;
        int16_t normal;
        uint8_t exponent, down;
        bits.f = *x++;
        exponent = (uint8_t)((uint16_t)((uint16_t)((uint32_t)bits.i >> 16) << 1) >> 8);
        whole = ((uint32_t)bits.i & 0x7fffff) | 0x800000;
        down = (uint8_t)*by++;
        if (exponent > down) {
            whole = 0x7fffff;
        } else {
            down = (uint8_t)(down - exponent);
            if (down & 8) whole >>= 8;
            if (down & 16) whole >>= 16;
            whole = down > 23 ? 0 : whole >> (down & 7);
        }
        normal = kd_short((bits.i < 0 ? -(int32_t)whole : (int32_t)whole) - *mean++);
        normal = kd_upper(normal, *by++);
        *q++ = normal > 8192 ? 8192 : normal < -8192 ? -8192 : normal;
    } while (--count);
}""",
    "kd_bend16": f"""\
/* tanh of x / 8192 for x from 0 on, in units of 1 / 32767: a table and straight lines, good to 2e-4 up to 4. */
static int16_t kd_bend16(int16_t x) {{
    static const KD_FLASH int16_t table[65] = {{{_TABLE}}};
    const uint16_t half = (uint16_t)x >> 1;
    const uint8_t step = (uint8_t)(half >> 8);
    const int16_t low = table[step];
    const int16_t rise = (int16_t)(2 * (table[step + 1] - low));
    return (int16_t)(low + kd_upper(rise, (int16_t)((uint16_t)(half << 8) >> 1)));
}}""",
    "kd_tanh16": """\
static inline int16_t kd_tanh16(int16_t x) {
    return (int16_t)(x < 0 ? -kd_bend16((int16_t)-x) : kd_bend16(x));
}""",
    "kd_sigmoid16": """\
static inline int16_t kd_sigmoid16(int16_t x) {
    return (int16_t)((kd_tanh16(x) >> 1) + 16384);
}""",
    "kd_silu16": """\
/* x / 2 + |x| / 2 tanh(|x| / 2), for an x in units of 2^(up - 12). */
static int16_t kd_silu16(int16_t x, int8_t up) {
    const int16_t size = (int16_t)(x < 0 ? -x : x);
    const int16_t most = (int16_t)(INT16_MAX >> up);
    const int16_t bent = kd_bend16((int16_t)(size > most ? INT16_MAX : size << up));
    return (int16_t)((x >> 1) + kd_upper(size, bent));
}""",
    "kd_argmax16": """\
static int kd_argmax16(const int16_t *x, int count) {
    int best = 0;
    for (int i = 1; i < count; i++) {
        if (x[i] > x[best]) best = i;
    }
    return best;
}""",
}
