"""Trees of JAX parameters as arrays by dotted name: Flax's msgpack, safetensors, and the pickles of Brax, as data."""

import hashlib
import importlib
import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load as load_safetensors

from kd_agent.errors import KDError
from kd_agent.policies import Array
from kd_agent.policies.safe_files import read_capped
from kd_agent.teachers._pickled import Built, read_pickle

MAX_FILE = 64 << 20
MAX_HEADER = 1 << 20
"""Of a safetensors file."""
MAX_ARRAYS = 1024
MAX_PARTS = 50_000
"""Arrays, modules and whatever else a pickle holds."""
MAX_DEPTH = 16
"""Levels of modules within modules."""
_BRAX = b"brax.training.acme.running_statistics"
"""What a pickle of Brax names near its beginning."""
_ARRAY = 1
"""Flax's extension type of an array."""
_DTYPES = ("float16", "float32", "float64", "int32", "int64", "uint32", "uint64")
_CODES = {"f2": "<f2", "f4": "<f4", "f8": "<f8", "i4": "<i4", "i8": "<i8", "u4": "<u4", "u8": "<u8"}
_RECONSTRUCT = "_reconstruct_array"
"""How JAX has an array built anew."""


def is_tree(source: Any) -> bool:
    """Whether a source names a file of JAX parameters.

    Args:
        source: What names a teacher.
    """
    if not isinstance(source, str):
        return False
    if source.endswith(".safetensors"):
        return any(name.replace("/", ".").endswith(".kernel") for name in _names_in_header(source))
    return source.endswith(".msgpack") or (source.endswith(".pkl") and _BRAX in _beginning(source, 4096))


def read_tree(source: str) -> tuple[dict[str, Array], str]:
    """Arrays by dotted name, and the file's hash.

    Args:
        source: Path of the file.

    Raises:
        KDError: It is missing, too large, damaged or hostile, or holds no parameters; one line.
    """
    raw = read_capped(source, MAX_FILE)
    if source.endswith(".safetensors"):
        arrays = _safetensors(raw, source)
    elif source.endswith(".pkl"):
        arrays = _flat(_arrays_of_pickle(read_pickle(raw, source), 0, iter(range(MAX_PARTS)), source), source)
    else:
        arrays = _flat(_msgpack(raw, source), source)
    floats = {name: array.astype(np.float32) for name, array in arrays.items() if array.dtype.kind == "f"}
    if not floats:
        raise KDError(f"{source}: holds no parameters")
    for name, array in floats.items():
        if not np.isfinite(array).all():
            raise KDError(f"{source}: {name} is NaN or infinite")
    return floats, hashlib.sha256(raw).hexdigest()


def _beginning(source: str, count: int) -> bytes:
    try:
        # A pipe would be waited for.
        if not Path(source).is_file():
            return b""
        with Path(source).open("rb") as file:
            return file.read(count)
    except (OSError, ValueError):
        return b""


def _names_in_header(source: str) -> list[str]:
    """Names of a safetensors file's arrays, by its header alone; none where it is damaged."""
    size = int.from_bytes(_beginning(source, 8), "little")
    if size > MAX_HEADER:
        return []
    try:
        header = json.loads(_beginning(source, 8 + size)[8:])
    except (ValueError, RecursionError):
        return []
    return list(header) if isinstance(header, dict) else []


def _safetensors(raw: bytes, source: str) -> dict[str, Array]:
    if int.from_bytes(raw[:8], "little") > MAX_HEADER:
        raise KDError(f"{source}: its header exceeds {MAX_HEADER >> 20} MiB")
    try:
        found = load_safetensors(raw)
    except (SafetensorError, ValueError, KeyError, TypeError) as error:
        raise KDError(f"{source}: damaged ({' '.join(str(error).split())[:120]})") from None
    if len(found) > MAX_ARRAYS:
        raise KDError(f"{source}: more than {MAX_ARRAYS} arrays")
    # An order of its own, that of the names: the file's is by size.
    return {name.replace("/", "."): found[name] for name in sorted(found)}


def _msgpack(raw: bytes, source: str) -> Any:
    try:
        msgpack = importlib.import_module("msgpack")
    except ImportError:
        raise KDError(f"{source}: a file of Flax needs: pip install msgpack") from None
    try:
        return msgpack.unpackb(raw, ext_hook=lambda code, data: _array(msgpack, code, data), strict_map_key=True)
    except KDError as error:
        raise KDError(f"{source}: {error}") from None
    except Exception as error:  # msgpack raises all kinds on damage
        raise KDError(f"{source}: no msgpack file of Flax ({type(error).__name__})") from None


def _array(msgpack: Any, code: int, data: bytes) -> Array | None:
    """An array, or None for what is of no use here: numbers by themselves."""
    if code != _ARRAY:
        return None
    shape, dtype, numbers = msgpack.unpackb(data, use_list=False)
    name = dtype if isinstance(dtype, str) else bytes(dtype).decode()
    if name not in _DTYPES:
        raise KDError(f"an array of {name[:40]} is not read")
    return _shaped(numbers, np.dtype(name), shape)


def _shaped(numbers: Any, dtype: "np.dtype[Any]", shape: Any) -> Array:
    """An array from its bytes, of no more numbers than there are."""
    whole = isinstance(shape, tuple) and all(type(size) is int and size >= 0 for size in shape)
    if not whole or len(shape) > 8 or math.prod(shape) * dtype.itemsize != len(numbers):
        raise KDError("an array is not of the size that it claims")
    return np.frombuffer(numbers, dtype).reshape(shape)


def _arrays_of_pickle(value: Any, depth: int, left: Iterator[int], source: str) -> Any:
    """A tree as Flax's msgpack has it, from what a pickle of Brax says.

    Args:
        value: What it says.
        depth: Levels above it.
        left: Counts the parts: a pickle can hold one part many times, and that many times again.
        source: The file's name for messages.
    """
    if depth > MAX_DEPTH:
        raise KDError(f"{source}: its parameters are nested deeper than {MAX_DEPTH} levels")
    if next(left, None) is None:
        raise KDError(f"{source}: has more than {MAX_PARTS} parts")
    if isinstance(value, Built):
        if value.name.name == _RECONSTRUCT:
            return _array_of_jax(value, source)
        value = value.state
    if isinstance(value, tuple | list):
        value = dict(enumerate(value))
    if not isinstance(value, dict) or len(value) > MAX_ARRAYS:
        return None
    return {str(key): _arrays_of_pickle(part, depth + 1, left, source) for key, part in value.items()}


def _array_of_jax(built: Built, source: str) -> Array:
    """An array that JAX would build anew from NumPy's state `(version, shape, dtype, order, bytes)`."""
    try:
        _, shape, dtype, fortran, numbers = built.args[2]
        code = _CODES[dtype.args[0]]
    except (IndexError, KeyError, TypeError, ValueError, AttributeError):
        raise KDError(f"{source}: an array of JAX is damaged") from None
    if fortran is not False or not isinstance(numbers, bytes):
        raise KDError(f"{source}: an array of JAX is in column order")
    return _shaped(numbers, np.dtype(code), shape)


def _flat(tree: Any, source: str) -> dict[str, Array]:
    arrays: dict[str, Array] = {}
    for name, array in _leaves(tree, "", 0, source):
        if len(arrays) >= MAX_ARRAYS:
            raise KDError(f"{source}: more than {MAX_ARRAYS} arrays")
        arrays[name] = array
    return arrays


def _leaves(tree: Any, name: str, depth: int, source: str) -> Iterator[tuple[str, Array]]:
    if depth > MAX_DEPTH:
        raise KDError(f"{source}: its parameters are nested deeper than {MAX_DEPTH} levels")
    if isinstance(tree, np.ndarray):
        yield name, tree
    elif isinstance(tree, Mapping):
        for key, part in tree.items():
            yield from _leaves(part, f"{name}.{key}" if name else str(key), depth + 1, source)
