"""The GDScript functions that generated code may call, each emitted only where it is used."""

# Without log1p and expm1, which GDScript lacks: numbers of 64 bits have digits to spare for float32.
FUNCTIONS = {
    "kd_zeros": """\
static func kd_zeros(size: int) -> PackedFloat32Array:
    var zeros := PackedFloat32Array()
    zeros.resize(size)
    return zeros""",
    "kd_check": """\
static func kd_check(obs: PackedFloat32Array, size: int) -> void:
    if obs.size() != size:
        push_error("obs has %d numbers, expected %d" % [obs.size(), size])
    for number in obs:
        if not is_finite(number):
            push_error("obs has a number that is not finite")""",
    "kd_check_mask": """\
static func kd_check_mask(mask: PackedByteArray, size: int) -> void:
    if not mask.is_empty() and mask.size() != size:
        push_error("mask has %d flags, expected %d" % [mask.size(), size])""",
    "kd_clip": """\
static func kd_clip(x: float, low: float, high: float) -> float:
    return minf(maxf(x, low), high)""",
    "kd_tanh": """\
static func kd_tanh(x: float) -> float:
    return tanh(x)""",
    "kd_log": """\
static func kd_log(x: float) -> float:
    return log(x)""",
    "kd_sigmoid": """\
static func kd_sigmoid(x: float) -> float:
    return 0.5 * (tanh(0.5 * x) + 1.0)""",
    "kd_silu": """\
static func kd_silu(x: float) -> float:
    return x * (0.5 * (tanh(0.5 * x) + 1.0))""",
    "kd_relu": """\
static func kd_relu(x: float) -> float:
    return maxf(x, 0.0)""",
    "kd_leaky_relu": """\
static func kd_leaky_relu(x: float) -> float:
    return x if x > 0.0 else 0.01 * x""",
    "kd_prelu": """\
static func kd_prelu(x: float, slope: float) -> float:
    return x if x > 0.0 else slope * x""",
    "kd_relu6": """\
static func kd_relu6(x: float) -> float:
    return clampf(x, 0.0, 6.0)""",
    "kd_hardtanh": """\
static func kd_hardtanh(x: float) -> float:
    return clampf(x, -1.0, 1.0)""",
    "kd_softsign": """\
static func kd_softsign(x: float) -> float:
    return x / (1.0 + absf(x))""",
    "kd_selu": """\
static func kd_selu(x: float) -> float:
    return 1.0507009873554805 * x if x > 0.0 else 1.7580993408473766 * (exp(x) - 1.0)""",
    "kd_elu": """\
static func kd_elu(x: float) -> float:
    return x if x > 0.0 else exp(x) - 1.0""",
    "kd_softplus": """\
static func kd_softplus(x: float) -> float:
    return maxf(x, 0.0) + log(1.0 + exp(-absf(x)))""",
    "kd_mish": """\
static func kd_mish(x: float) -> float:
    return x * tanh(maxf(x, 0.0) + log(1.0 + exp(-absf(x))))""",
    "kd_gelu": """\
# The error function is Abramowitz and Stegun 7.1.26.
static func kd_gelu(x: float) -> float:
    var z := absf(x) * sqrt(0.5)
    var t := 1.0 / (1.0 + 0.3275911 * z)
    var p := t * (0.254829592 + t * (-0.284496736 + t * (1.421413741 + t * (-1.453152027 + t * 1.061405429))))
    return 0.5 * x * (1.0 + signf(x) * (1.0 - p * exp(-z * z)))""",
    "kd_argmax": """\
static func kd_argmax(x: PackedFloat32Array, first: int, count: int) -> int:
    var best := 0
    for i in range(1, count):
        if x[first + i] > x[first + best]:
            best = i
    return best""",
    "kd_exp": """\
static func kd_exp(x: float) -> float:
    return exp(x)""",
    "kd_uniform": """\
static func kd_uniform(random: RandomNumberGenerator) -> float:
    return (random.randi() + 0.5) / 4294967296.0""",
    "kd_gumbel": """\
static func kd_gumbel(random: RandomNumberGenerator) -> float:
    return -log(-log(kd_uniform(random)))""",
    "kd_logistic": """\
static func kd_logistic(random: RandomNumberGenerator) -> float:
    var u := kd_uniform(random)
    return log(u) - log(1.0 - u)""",
    "kd_normal": """\
static func kd_normal(random: RandomNumberGenerator) -> float:
    return random.randfn()""",
}
"""By name, in the order in which they call each other."""
