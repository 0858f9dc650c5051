"""The C functions that generated code may call, each emitted only where it is used.

No math.h: `kd_decay(x) = exp(-|x|)` carries all of them, to about 1e-7, and is written so that
compilers turn loops over it into vector code (no branches, clamping by integers, C99 unions).
"""

from kd_agent.export._c_whole import FUNCTIONS as WHOLE
from kd_agent.export._language import called
from kd_agent.export._sample import C as SAMPLING

# Hexadecimal numbers are the bits of floats: 0x42ae0000 is 87, near where exp(-x) leaves float32's normal range;
# 0x3f800000 is 1 and 0x3f3504f3 the root of one half, around which kd_log folds its argument; 0x4b400000 is 3 * 2^22.
# 0.693359375 and -2.12194440e-4 add up to ln 2, the first so short that its products with k are exact (Cody and
# Waite 1980).
FUNCTIONS = {
    "kd_word": "typedef union { float f; int32_t i; } kd_word;",
    "kd_clip": """\
static inline float kd_clip(float x, float low, float high) {
    x = x > low ? x : low; /* low, where x is not a number */
    return x < high ? x : high;
}""",
    "kd_decay": """\
/* exp(-|x|): 2^-k times a Taylor polynomial on [-ln(2)/2, ln(2)/2]; |x| is cut at 87. */
static inline float kd_decay(float x) {
    kd_word a, power;
    float k, r, p;
    a.f = x;
    a.i &= INT32_MAX;
    a.i = a.i < 0x42ae0000 ? a.i : 0x42ae0000;
    power.i = (int32_t)(a.f * 1.44269504f + 0.5f);
    k = (float)power.i;
    r = (k * 0.693359375f - a.f) - k * 2.12194440e-4f;
    p = 1.0f / 720.0f;
    p = p * r + 1.0f / 120.0f;
    p = p * r + 1.0f / 24.0f;
    p = p * r + 1.0f / 6.0f;
    p = p * r + 0.5f;
    p = p * r + 1.0f;
    p = p * r + 1.0f;
    power.i = (127 - power.i) * 8388608;
    return p * power.f;
}""",
    "kd_tanh": """\
static inline float kd_tanh(float x) {
    kd_word sign, t;
    const float e = kd_decay(2.0f * x);
    sign.f = x;
    t.f = (1.0f - e) / (1.0f + e);
    t.i |= sign.i & INT32_MIN;
    return t.f;
}""",
    "kd_sigmoid": """\
static inline float kd_sigmoid(float x) {
    return 0.5f * (kd_tanh(0.5f * x) + 1.0f);
}""",
    "kd_silu": """\
static inline float kd_silu(float x) {
    return x * (0.5f * (kd_tanh(0.5f * x) + 1.0f));
}""",
    "kd_relu": """\
static inline float kd_relu(float x) {
    return x > 0.0f ? x : 0.0f;
}""",
    "kd_leaky_relu": """\
static inline float kd_leaky_relu(float x) {
    return x > 0.0f ? x : 0.01f * x;
}""",
    "kd_prelu": """\
static inline float kd_prelu(float x, float slope) {
    return x > 0.0f ? x : slope * x;
}""",
    "kd_relu6": """\
static inline float kd_relu6(float x) {
    return kd_clip(x, 0.0f, 6.0f);
}""",
    "kd_hardtanh": """\
static inline float kd_hardtanh(float x) {
    return kd_clip(x, -1.0f, 1.0f);
}""",
    "kd_softsign": """\
static inline float kd_softsign(float x) {
    return x / (1.0f + (x > 0.0f ? x : -x));
}""",
    "kd_mish": """\
/* x tanh(log(1 + e^x)) as a quotient of e^-|x|. */
static inline float kd_mish(float x) {
    const float d = kd_decay(x);
    const float above = x > 0.0f ? 1.0f + 2.0f * d : d * (d + 2.0f);
    return x * (above / (above + (x > 0.0f ? 2.0f * d * d : 2.0f)));
}""",
    "kd_selu": """\
static inline float kd_selu(float x) {
    const float positive = x > 0.0f ? x : 0.0f;
    return 1.05070099f * positive + 1.75809934f * (kd_decay(x - positive) - 1.0f);
}""",
    "kd_elu": """\
static inline float kd_elu(float x) {
    const float positive = x > 0.0f ? x : 0.0f;
    return positive + (kd_decay(x - positive) - 1.0f);
}""",
    "kd_gelu": """\
/* 0.5 x (1 + erf(x / sqrt 2)), the error function as Abramowitz and Stegun 7.1.26. */
static inline float kd_gelu(float x) {
    kd_word sign, a;
    float t, p;
    sign.f = x * 0.707106781f;
    a = sign;
    a.i &= INT32_MAX;
    t = 1.0f / (1.0f + 0.3275911f * a.f);
    p = -1.453152027f + t * 1.061405429f;
    p = t * (0.254829592f + t * (-0.284496736f + t * (1.421413741f + t * p)));
    a.f = 1.0f - p * kd_decay(a.f * a.f);
    a.i ^= sign.i & INT32_MIN;
    return 0.5f * x * (1.0f + a.f);
}""",
    "kd_log": """\
/* Natural logarithm of a positive x: 2^k m with m in [0.7, 1.4], log m = 2 atanh((m - 1) / (m + 1)). */
static inline float kd_log(float x) {
    kd_word m;
    float s, q;
    int32_t k;
    m.f = x;
    k = (m.i + (0x3f800000 - 0x3f3504f3)) / 8388608 - 127;
    m.i -= k * 8388608;
    s = (m.f - 1.0f) / (m.f + 1.0f);
    q = s * s;
    q = 1.0f + q * (1.0f / 3.0f + q * (1.0f / 5.0f + q * (1.0f / 7.0f + q * (1.0f / 9.0f))));
    return (float)k * 0.693147181f + 2.0f * s * q;
}""",
    "kd_softplus": """\
static inline float kd_softplus(float x) {
    return (x > 0.0f ? x : 0.0f) + kd_log(1.0f + kd_decay(x));
}""",
    "kd_round": """\
/* The nearest whole number, for |x| < 2^15: adding 3 * 2^22 leaves it in the low bits of the float. */
static inline int16_t kd_round(float x) {
    kd_word w;
    w.f = x + 12582912.0f;
    return (int16_t)(w.i - 0x4b400000);
}""",
    "kd_saturate": """\
/* The nearest whole number within +-limit, likewise. */
static inline int16_t kd_saturate(float x, int32_t limit) {
    kd_word w;
    w.f = x + 12582912.0f;
    w.i = w.i < 0x4b400000 - limit ? 0x4b400000 - limit : w.i;
    w.i = w.i > 0x4b400000 + limit ? 0x4b400000 + limit : w.i;
    return (int16_t)(w.i - 0x4b400000);
}""",
    "kd_argmax": """\
/* Without branches, which a policy makes hard to predict. */
static int kd_argmax(const float *x, int first, int count) {
    float top = x[first];
    int best = 0;
    for (int i = 1; i < count; i++) {
        const int better = -(x[first + i] > top);
        best ^= (best ^ i) & better;
        top = x[first + i] > top ? x[first + i] : top;
    }
    return best;
}""",
}


# 0x40682b18 is 3.62763: held from there on, the quotient is never farther from tanh than it was before.
ROUGH = {
    "kd_tanh": """\
/* tanh to 7e-4, finer than int8 weights: the best quotient of its degrees, cut where it reaches 1. */
static inline float kd_tanh(float x) {
    kd_word sign, a;
    float q;
    sign.f = x;
    a.i = sign.i & INT32_MAX;
    a.i = a.i < 0x40682b18 ? a.i : 0x40682b18;
    a.i |= sign.i & INT32_MIN;
    q = a.f * a.f;
    return a.f * (1.0f + 0.07982262f * q) / (1.0f + q * (0.41054315f + 0.00601066f * q));
}""",
    "kd_silu": """\
/* h + |h| tanh |h| with h = x / 2, tanh to 7e-4: there is no sign to put back. */
static inline float kd_silu(float x) {
    const float h = 0.5f * x;
    kd_word a, cut;
    float q;
    a.f = h;
    a.i &= INT32_MAX;
    cut.i = a.i < 0x40682b18 ? a.i : 0x40682b18;
    q = cut.f * cut.f;
    return h + (a.f * cut.f) * (1.0f + 0.07982262f * q) / (1.0f + q * (0.41054315f + 0.00601066f * q));
}""",
}
"""Cheaper definitions, for int8."""


def prelude(text: str, *, rough: bool = False) -> str:
    """The functions that `text` calls and those that they call, in order.

    Args:
        text: The generated code.
        rough: Whether the cheaper definitions do, as they do beside int8 weights.
    """
    functions = {**FUNCTIONS, **SAMPLING, **WHOLE}
    if rough:
        functions |= ROUGH
    return "\n\n".join(called(text, functions))
