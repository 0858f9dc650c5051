"""The C# functions that generated code may call, each emitted only where it is used."""

# MathF is not everywhere: Math is, and of 64 bits.
FUNCTIONS = {
    "kd_check": """\
static void kd_check(string name, int length, int expected)
{
    if (length != expected) throw new ArgumentException($"{name} has {length} numbers, expected {expected}");
}""",
    "kd_finite": """\
static void kd_finite(float[] obs)
{
    for (int i = 0; i < ObsSize; i++)
    {
        if (float.IsNaN(obs[i]) || float.IsInfinity(obs[i]))
            throw new ArgumentException($"obs[{i}] is not a finite number");
    }
}""",
    "kd_clip": "static float kd_clip(float x, float low, float high) => Math.Min(Math.Max(x, low), high);",
    "kd_tanh": "static float kd_tanh(float x) => (float)Math.Tanh(x);",
    "kd_log": "static float kd_log(float x) => (float)Math.Log(x);",
    "kd_sigmoid": "static float kd_sigmoid(float x) => 0.5f * ((float)Math.Tanh(0.5f * x) + 1.0f);",
    "kd_silu": "static float kd_silu(float x) => x * (0.5f * ((float)Math.Tanh(0.5f * x) + 1.0f));",
    "kd_relu": "static float kd_relu(float x) => x > 0.0f ? x : 0.0f;",
    "kd_leaky_relu": "static float kd_leaky_relu(float x) => x > 0.0f ? x : 0.01f * x;",
    "kd_prelu": "static float kd_prelu(float x, float slope) => x > 0.0f ? x : slope * x;",
    "kd_relu6": "static float kd_relu6(float x) => Math.Min(Math.Max(x, 0.0f), 6.0f);",
    "kd_hardtanh": "static float kd_hardtanh(float x) => Math.Min(Math.Max(x, -1.0f), 1.0f);",
    "kd_softsign": "static float kd_softsign(float x) => x / (1.0f + Math.Abs(x));",
    "kd_selu": """\
static float kd_selu(float x) =>
    x > 0.0f ? 1.05070099f * x : (float)(1.7580993408473766 * (Math.Exp(x) - 1.0));""",
    "kd_elu": "static float kd_elu(float x) => x > 0.0f ? x : (float)(Math.Exp(x) - 1.0);",
    "kd_softplus": """\
static float kd_softplus(float x) => Math.Max(x, 0.0f) + (float)Math.Log(1.0 + Math.Exp(-Math.Abs(x)));""",
    "kd_mish": "static float kd_mish(float x) => x * (float)Math.Tanh(kd_softplus(x));",
    "kd_gelu": """\
// The error function is Abramowitz and Stegun 7.1.26.
static float kd_gelu(float x)
{
    double z = Math.Abs(x) * Math.Sqrt(0.5);
    double t = 1.0 / (1.0 + 0.3275911 * z);
    double p = 1.421413741 + t * (-1.453152027 + t * 1.061405429);
    p = t * (0.254829592 + t * (-0.284496736 + t * p));
    return (float)(0.5 * x * (1.0 + Math.Sign(x) * (1.0 - p * Math.Exp(-z * z))));
}""",
    "kd_argmax": """\
static int kd_argmax(float[] x, int first, int count)
{
    int best = 0;
    for (int i = 1; i < count; i++)
    {
        if (x[first + i] > x[first + best]) best = i;
    }
    return best;
}""",
    "kd_exp": "static float kd_exp(float x) => (float)Math.Exp(x);",
    "kd_uniform": "static double kd_uniform(Random random) => Math.Max(random.NextDouble(), double.Epsilon);",
    "kd_gumbel": "static float kd_gumbel(Random random) => (float)-Math.Log(-Math.Log(kd_uniform(random)));",
    "kd_logistic": """\
static float kd_logistic(Random random)
{
    double u = kd_uniform(random);
    return (float)(Math.Log(u) - Math.Log(1.0 - u));
}""",
    "kd_normal": """\
static float kd_normal(Random random) =>
    (float)(Math.Sqrt(-2.0 * Math.Log(kd_uniform(random))) * Math.Cos(2.0 * Math.PI * random.NextDouble()));""",
}
"""By name, in the order in which they call each other."""
