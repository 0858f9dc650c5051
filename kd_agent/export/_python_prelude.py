"""The Python functions that generated code may call, each emitted only where it is used."""

# Greedy and sampled heads alike; what draws stands last.
FUNCTIONS = {
    "kd_numbers": '''\
def kd_numbers(kind: str, text: str) -> list[Any]:
    """Numbers of a type of `array`, little-endian, in Base64."""
    numbers = array(kind, b64decode(text))
    if sys.byteorder == "big":
        numbers.byteswap()
    return numbers.tolist()''',
    "kd_matrix": '''\
def kd_matrix(columns: int, text: str) -> Any:
    """Rows of numbers; an array where there is NumPy."""
    numbers = kd_numbers("f", text)
    rows = [numbers[i : i + columns] for i in range(0, len(numbers), columns)]
    return rows if numpy is None else numpy.array(rows)''',
    "kd_dense": '''\
def kd_dense(weight: Any, x: list[float], bias: list[float]) -> list[float]:
    """The product of a matrix and a vector, and a bias."""
    if numpy is None:
        return [b + sum(map(mul, row, x)) for row, b in zip(weight, bias)]
    product: list[float] = (weight.dot(x) + bias).tolist()
    return product''',
    "kd_checked": '''\
def kd_checked(obs: Sequence[float], size: int) -> list[float]:
    """The observation's numbers as float32 has them."""
    numbers = array("f", obs).tolist()
    if len(numbers) != size:
        raise ValueError(f"obs has {len(numbers)} numbers, expected {size}")
    if not math.isfinite(sum(numbers)):
        wrong = next(i for i, number in enumerate(numbers) if not math.isfinite(number))
        raise ValueError(f"obs[{wrong}] is not a finite number")
    return numbers''',
    "kd_mask": '''\
def kd_mask(mask: Sequence[bool] | None, size: int) -> list[bool]:
    """The flags of a mask; none where everything is allowed."""
    if mask is None:
        return []
    if len(mask) != size:
        raise ValueError(f"mask has {len(mask)} flags, expected {size}")
    return list(mask)''',
    "kd_clip": """\
def kd_clip(x: float, low: float, high: float) -> float:
    x = low if x < low else x
    return high if x > high else x""",
    "kd_tanh": "kd_tanh = math.tanh",
    "kd_log": "kd_log = math.log",
    "kd_sigmoid": """\
def kd_sigmoid(x: float) -> float:
    return 0.5 * (math.tanh(0.5 * x) + 1.0)""",
    "kd_silu": """\
def kd_silu(x: float) -> float:
    return x * (0.5 * (math.tanh(0.5 * x) + 1.0))""",
    "kd_relu": """\
def kd_relu(x: float) -> float:
    return x if x > 0.0 else 0.0""",
    "kd_leaky_relu": """\
def kd_leaky_relu(x: float) -> float:
    return x if x > 0.0 else 0.01 * x""",
    "kd_prelu": """\
def kd_prelu(x: float, slope: float) -> float:
    return x if x > 0.0 else slope * x""",
    "kd_relu6": """\
def kd_relu6(x: float) -> float:
    return min(max(x, 0.0), 6.0)""",
    "kd_hardtanh": """\
def kd_hardtanh(x: float) -> float:
    return min(max(x, -1.0), 1.0)""",
    "kd_softsign": """\
def kd_softsign(x: float) -> float:
    return x / (1.0 + abs(x))""",
    "kd_selu": """\
def kd_selu(x: float) -> float:
    return 1.0507009873554805 * x if x > 0.0 else 1.7580993408473766 * math.expm1(x)""",
    "kd_elu": """\
def kd_elu(x: float) -> float:
    return x if x > 0.0 else math.expm1(x)""",
    "kd_softplus": """\
def kd_softplus(x: float) -> float:
    return max(x, 0.0) + math.log1p(math.exp(-abs(x)))""",
    "kd_mish": """\
def kd_mish(x: float) -> float:
    return x * math.tanh(max(x, 0.0) + math.log1p(math.exp(-abs(x))))""",
    "kd_gelu": """\
def kd_gelu(x: float) -> float:
    return 0.5 * x * (1.0 + math.erf(x * math.sqrt(0.5)))""",
    "kd_argmax": '''\
def kd_argmax(x: list[float], first: int, count: int) -> int:
    """The place of the largest number, the first of equal ones."""
    part = x[first : first + count]
    return part.index(max(part))''',
    "kd_exp": """\
def kd_exp(x: float) -> float:
    return math.exp(min(x, 709.0))""",
    "kd_uniform": """\
def kd_uniform(random: Callable[[], float]) -> float:
    return max(random(), sys.float_info.min)""",
    "kd_gumbel": """\
def kd_gumbel(random: Callable[[], float]) -> float:
    return -math.log(-math.log(kd_uniform(random)))""",
    "kd_logistic": """\
def kd_logistic(random: Callable[[], float]) -> float:
    u = kd_uniform(random)
    return math.log(u) - math.log1p(-u)""",
    "kd_normal": """\
def kd_normal(random: Callable[[], float]) -> float:
    return math.sqrt(-2.0 * math.log(kd_uniform(random))) * math.cos(2.0 * math.pi * random())""",
}
"""By name, in the order in which they call each other."""
