"""How a sampled policy draws an action, in any language: noise on the row, and then the greedy choice.

The generator is the caller's: in C a word that the call moves on, in JavaScript a function like `Math.random`.
"""

from kd_agent.export._language import Lines
from kd_agent.export._source import Source
from kd_agent.policies import HeadSpec


def noisy(s: Source, head: HeadSpec) -> Lines:
    """The text that adds noise to `row`, by which its greedy action is a sample: `HeadSpec.sample`.

    Args:
        s: The source under construction.
        head: What the row means.
    """
    noise = "kd_gumbel(random)"
    if head.kind == "bernoulli":
        noise = "kd_logistic(random)"
    elif head.is_gaussian:
        # The log standard deviations stand behind the means.
        noise = f"kd_exp(row[{head.num_acting} + i]) * kd_normal(random)"
    return s.language.loop("i", head.num_acting, s.language.add("row[i]", noise))


C = {
    "kd_exp": """\
static inline float kd_exp(float x) {
    const float d = kd_decay(x);
    return x > 0.0f ? 1.0f / d : d;
}""",
    "kd_uniform": """\
/* A number between 0 and 1, neither of them: a step of PCG with 32 bits (O'Neill 2014, RXS-M-XS). */
static float kd_uniform(uint32_t *random) {
    uint32_t word;
    *random = *random * 747796405u + 2891336453u;
    word = ((*random >> ((*random >> 28) + 4)) ^ *random) * 277803737u;
    word = (word >> 22) ^ word;
    return ((float)(word >> 9) + 0.5f) * (1.0f / 8388608.0f);
}""",
    "kd_gumbel": """\
static float kd_gumbel(uint32_t *random) {
    return -kd_log(-kd_log(kd_uniform(random)));
}""",
    "kd_logistic": """\
static float kd_logistic(uint32_t *random) {
    const float u = kd_uniform(random);
    return kd_log(u) - kd_log(1.0f - u);
}""",
    "kd_normal": """\
/* By a ratio of uniform numbers (Kinderman and Monahan 1977), 1.4 pairs of them a number. */
static float kd_normal(uint32_t *random) {
    float u, x;
    do {
        u = kd_uniform(random);
        x = 1.71552777f * (kd_uniform(random) - 0.5f) / u;
    } while (x * x > -4.0f * kd_log(u));
    return x;
}""",
}
"""The C functions that draw, in the order in which they call each other."""

JAVASCRIPT = """\
const kd_exp = Math.exp;
const kd_uniform = (random) => Math.max(random(), Number.MIN_VALUE);
const kd_gumbel = (random) => -Math.log(-Math.log(kd_uniform(random)));
const kd_logistic = (random) => {
    const u = kd_uniform(random);
    return Math.log(u) - Math.log1p(-u);
};
const kd_normal = (random) => Math.sqrt(-2 * Math.log(kd_uniform(random))) * Math.cos(2 * Math.PI * random());"""
"""The same in JavaScript."""
