"""Run by itself in a process of its own: VecNormalize statistics from a pickle, without building an object of its.

    python -I -S _unpickle.py < vecnormalize.pkl

Standard library only. Every name in the pickle must be in a fixed table, and each stands for an inert
bag that keeps what the pickle says; no class, no function and not even NumPy's reader is reached. Prints
one JSON document: `{"parts": {key: {"shape", "mean", "var"}}, "clip", "epsilon"}` or `{"error": text}`.
"""

import array
import io
import json
import math
import pickle
import pickletools
import sys
from typing import Any

MEMORY = 512 << 20
SECONDS = 2
MOST = 50_000
"""Opcodes of a pickle at most; statistics of a Dict of ten parts have some 3,000."""
OPCODES = frozenset(
    """PROTO FRAME STOP MARK POP POP_MARK NONE NEWTRUE NEWFALSE BININT BININT1 BININT2 LONG1 BINFLOAT
    SHORT_BINUNICODE BINUNICODE SHORT_BINBYTES BINBYTES BINBYTES8 BYTEARRAY8 EMPTY_TUPLE TUPLE TUPLE1 TUPLE2 TUPLE3
    EMPTY_LIST APPEND APPENDS EMPTY_DICT SETITEM SETITEMS GLOBAL STACK_GLOBAL REDUCE NEWOBJ BUILD
    BINPUT LONG_BINPUT MEMOIZE BINGET LONG_BINGET""".split()  # noqa: SIM905
)


SPACES = (
    ("box", "Box"),
    ("discrete", "Discrete"),
    ("multi_discrete", "MultiDiscrete"),
    ("multi_binary", "MultiBinary"),
    ("dict", "Dict"),
    ("tuple", "Tuple"),
)
"""Module and name of the spaces that a VecNormalize may hold."""
GENERATORS = (
    ("_pickle", "__generator_ctor"),
    ("_pickle", "__bit_generator_ctor"),
    ("_pickle", "__randomstate_ctor"),
    ("_pcg64", "PCG64"),
    ("_mt19937", "MT19937"),
    ("bit_generator", "SeedSequence"),
    ("bit_generator", "__pyx_unpickle_SeedSequence"),
)
"""Module and name of what pickles of NumPy's random generators name."""


class Bag:
    """What a pickle says of an object: the arguments and the state."""

    args: tuple[Any, ...]
    state: Any

    def __new__(cls, *args: object) -> "Bag":
        """Both of pickle's ways to make an object come through here."""
        bag = super().__new__(cls)
        bag.args = args
        bag.state = None
        return bag

    def __init__(self, *args: object) -> None:
        """Nothing more."""

    def __setstate__(self, state: object) -> None:
        self.state = state


class Array(Bag):
    """A NumPy array (`_reconstruct` and its state, or `_frombuffer`)."""


class Buffer(Bag):
    """A NumPy array of protocol 5."""


class Scalar(Bag):
    """A NumPy scalar."""


class Dtype(Bag):
    """A NumPy dtype."""


class VecNormalize(Bag):
    """The wrapper."""


class RunningMeanStd(Bag):
    """Mean, variance and count."""


def table() -> dict[tuple[str, str], type]:
    """What each name in a pickle stands for."""
    names: dict[tuple[str, str], type] = {
        ("stable_baselines3.common.vec_env.vec_normalize", "VecNormalize"): VecNormalize,
        ("stable_baselines3.common.running_mean_std", "RunningMeanStd"): RunningMeanStd,
        ("numpy", "dtype"): Dtype,
        ("numpy", "ndarray"): Bag,
        ("collections", "OrderedDict"): dict,
    }
    for core in ("numpy.core", "numpy._core"):
        names[f"{core}.multiarray", "_reconstruct"] = Array
        names[f"{core}.multiarray", "scalar"] = Scalar
        names[f"{core}.numeric", "_frombuffer"] = Buffer
    # Older agents were trained with gym, whose modules have the same names.
    for gym in ("gym", "gymnasium"):
        for module, name in SPACES:
            names[f"{gym}.spaces.{module}", name] = Bag
    for kind in ("float32", "float64", "int8", "int32", "int64", "uint8", "bool_"):
        names["numpy", kind] = Bag
    # A space carries its random generator along.
    for module, name in GENERATORS:
        names[f"numpy.random.{module}", name] = Bag
    return names


TABLE = table()


class Refused(Exception):  # noqa: N818 - it is an answer
    """The pickle holds something else."""


class Reader(pickle.Unpickler):
    """Knows the table's names and nothing else."""

    def find_class(self, module: str, name: str) -> type:
        """The bag of a name.

        Args:
            module: As the pickle says it.
            name: Likewise.

        Raises:
            Refused: The table has no such name.
        """
        if (module, name) not in TABLE:
            raise Refused(f"it names {module[:60]}.{name[:60]}, which no statistics need")
        return TABLE[module, name]

    def persistent_load(self, pid: object) -> object:
        """There is nothing outside."""
        raise Refused("it refers to something outside")


def check_opcodes(raw: bytes) -> None:
    """Let only the opcodes of plain data pass, none of which claims more than the file has."""
    for count, (opcode, argument, position) in enumerate(pickletools.genops(raw)):
        if count > MOST:
            raise Refused("it holds more than statistics do")
        if opcode.name not in OPCODES:
            raise Refused(f"it uses the opcode {opcode.name}")
        # A GLOBAL spells its name out; what STACK_GLOBAL names is only known when it runs, and `Reader` checks it.
        if opcode.name == "GLOBAL" and tuple(str(argument).split(" ")) not in TABLE:
            raise Refused(f"it names {str(argument)[:120]}, which no statistics need")
        # The memo grows to the largest index, and no honest one is larger than the number of bytes before it.
        if opcode.name in ("BINPUT", "LONG_BINPUT") and (argument or 0) > (position or 0):
            raise Refused("it is damaged")


def numbers(value: Any) -> tuple[list[int], list[float]]:
    """Shape and content of an array of floats."""
    # `_frombuffer(data, dtype, shape, order)`, or `__setstate__((version, shape, dtype, fortran, data))`
    if isinstance(value, Buffer):
        data, dtype, shape, order = value.args
        fortran = order == "F"
    elif isinstance(value, Array):
        _, shape, dtype, fortran, data = value.state
    else:
        raise Refused("its mean or variance is no array")
    shape = list(map(int, shape))
    content = floats(dtype, data)
    if len(shape) > 4 or min(shape, default=1) < 0 or math.prod(shape) != len(content):
        raise Refused("an array claims more numbers than it has")
    if fortran and len(shape) > 1:
        raise Refused("an array is in column order")
    return shape, content


def floats(dtype: Any, data: Any) -> list[float]:
    """The floats in the bytes of an array or scalar.

    Args:
        dtype: The bag of its dtype.
        data: Its bytes.

    Raises:
        Refused: They are something else.
    """
    kinds = {"f4": "f", "f8": "d", "i4": "i", "i8": "q"}
    if not isinstance(dtype, Dtype) or not isinstance(data, bytes | bytearray):
        raise Refused("an array is not of floats")
    code = str(dtype.args[0])
    if code not in kinds:
        raise Refused("an array is not of floats")
    content = array.array(kinds[code], bytes(data))
    order = dtype.state[1] if isinstance(dtype.state, tuple) else "<"
    if (order == ">") == (sys.byteorder == "little"):
        content.byteswap()
    return list(map(float, content))


def number(value: Any) -> float:
    """A number or a NumPy scalar."""
    if isinstance(value, Scalar):
        return floats(*value.args[:2])[0]
    return float(value)


def statistics(raw: bytes) -> dict[str, object]:
    """The document to print."""
    check_opcodes(raw)
    bag = Reader(io.BytesIO(raw)).load()
    if not isinstance(bag, VecNormalize) or not isinstance(bag.state, dict):
        raise Refused("it is no VecNormalize")
    state = bag.state
    records = state.get("obs_rms")
    if not isinstance(records, dict):
        records = {"obs": records}
    parts = {}
    # With norm_obs off, VecNormalize keeps statistics that it never applies.
    if state.get("norm_obs", True):
        for key, record in records.items():
            parts[str(key)] = part(record)
    return {"parts": parts, "clip": number(state["clip_obs"]), "epsilon": number(state["epsilon"])}


def part(record: Any) -> dict[str, object]:
    """Shape, mean and variance of one observation."""
    if not isinstance(record, RunningMeanStd) or not isinstance(record.state, dict):
        raise Refused("it has no running mean and variance")
    shape, mean = numbers(record.state["mean"])
    shape_of_var, var = numbers(record.state["var"])
    if shape != shape_of_var:
        raise Refused("mean and variance differ in shape")
    return {"shape": shape, "mean": mean, "var": var}


def limit() -> None:
    """Bound memory and time, and forbid writing files, as far as the system can."""
    try:
        import resource  # noqa: PLC0415 - Windows has none
    except ImportError:
        # The parent's time-out and the list of what may be built are left.
        return
    limits = {"RLIMIT_AS": MEMORY, "RLIMIT_CPU": SECONDS, "RLIMIT_FSIZE": 0, "RLIMIT_CORE": 0}
    for name, most in limits.items():
        try:
            resource.setrlimit(getattr(resource, name), (most, most))
        except (ValueError, OSError):
            # macOS knows the name of RLIMIT_AS and refuses it; where the limit works, it must not be left out.
            if sys.platform == "linux":
                raise


def main() -> None:
    """Read standard input, print the document."""
    try:
        limit()
        document = statistics(sys.stdin.buffer.read())
    except Refused as refusal:
        document = {"error": str(refusal)}
    # Whatever happens, MemoryError too, the parent reads one document.
    except BaseException as error:
        document = {"error": f"it cannot be read ({type(error).__name__})"}
    print(json.dumps(document))


if __name__ == "__main__":
    main()
