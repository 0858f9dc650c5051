"""What tells one Python function from another, its code and what it holds: a run is gone on with by the same alone."""

import functools
import hashlib
import types
from collections.abc import Callable, Iterator
from pathlib import PurePath
from typing import Any

import numpy as np
import torch

_PROCESS = np.random.SeedSequence().entropy
"""Another number in each process."""
_DEEPEST = 32
"""Levels of objects within objects that are looked into; what lies deeper is told apart by where it is."""
_MOST = 10_000
"""Objects that are looked into."""
_PLAIN = (type(None), bool, int, float, complex, str, bytes, range, slice, np.dtype, PurePath, type(Ellipsis))


def fingerprint(function: Callable[..., Any], name: str) -> str:
    """SHA-256, as hexadecimal digits, of a function, a module or an object that can be called.

    Two functions of one code that hold other numbers differ. What cannot be looked into (an open environment, say) is
    the same only within one process.

    Args:
        function: The function.
        name: What it is called.
    """
    digest = hashlib.sha256(name.encode())
    for part in _parts(function, 0, {}):
        # Lengths, so that two parts never read as one.
        digest.update(len(part).to_bytes(8, "little") + part)
    return digest.hexdigest()


def _parts(value: Any, depth: int, seen: dict[int, Any]) -> Iterator[bytes]:
    """All that an object consists of, as bytes."""
    if isinstance(value, _PLAIN):
        yield f"{type(value).__name__} {value!r}".encode()
    elif isinstance(value, np.ndarray | np.generic) and value.dtype != object:
        yield f"array {value.dtype.str} {value.shape}".encode()
        yield np.ascontiguousarray(value).tobytes()
    elif isinstance(value, torch.Tensor):
        yield from _parts(value.detach().cpu().float().numpy(), depth, seen)
    elif isinstance(value, types.ModuleType | type):
        yield f"{type(value).__name__} {getattr(value, '__qualname__', value.__name__)}".encode()
    elif id(value) in seen:
        yield b"again"
    elif depth >= _DEEPEST or len(seen) >= _MOST:
        yield _unknown(value)
    else:
        # The object itself is kept, for its number would else be given to the next one.
        seen[id(value)] = value
        yield from _parts_of_whole(value, depth + 1, seen)


def _parts_of_whole(value: Any, depth: int, seen: dict[int, Any]) -> Iterator[bytes]:
    yield type(value).__qualname__.encode()
    if isinstance(value, torch.nn.Module):
        yield from _parts(sorted(value.state_dict().items()), depth, seen)
        # What it makes of its weights: the classes of its layers, their plain settings, and its own code.
        for module in value.modules():
            settings = {name: part for name, part in vars(module).items() if isinstance(part, _PLAIN)}
            settings.pop("training", None)
            yield from _parts([type(module).__qualname__, settings], depth, seen)
        yield from _parts(getattr(type(value), "forward", None), depth, seen)
    elif isinstance(value, types.FunctionType):
        yield from _parts_of_function(value, depth, seen)
    elif isinstance(value, types.MethodType):
        yield from _parts([value.__func__, value.__self__], depth, seen)
    elif isinstance(value, types.CodeType):
        yield value.co_code
        yield from _parts([value.co_consts, value.co_names], depth, seen)
    elif isinstance(value, functools.partial):
        yield from _parts([value.func, value.args, value.keywords], depth, seen)
    elif isinstance(value, types.BuiltinFunctionType | np.ufunc):
        yield value.__name__.encode()
    else:
        yield from _parts_of_object(value, depth, seen)


def _parts_of_object(value: Any, depth: int, seen: dict[int, Any]) -> Iterator[bytes]:
    """What a container holds, or an object of some class."""
    if isinstance(value, dict):
        for pair in value.items():
            yield from _parts(pair, depth, seen)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _parts(item, depth, seen)
    elif isinstance(value, set | frozenset):
        yield from _parts(sorted(map(repr, value)), depth, seen)
    elif hasattr(value, "__dict__"):
        yield from _parts(_kept(value), depth, seen)
        yield from _parts(vars(type(value)).get("__call__"), depth, seen)
    else:
        yield _unknown(value)


def _parts_of_function(function: types.FunctionType, depth: int, seen: dict[int, Any]) -> Iterator[bytes]:
    """Its code, its defaults, what it encloses, and the globals that its code names."""
    yield from _parts(function.__code__, depth, seen)
    yield from _parts([function.__defaults__, function.__kwdefaults__], depth, seen)
    for cell in function.__closure__ or ():
        yield from _parts(cell.cell_contents, depth, seen)
    for name in function.__code__.co_names:
        if name in function.__globals__:
            yield from _parts(function.__globals__[name], depth, seen)


def _kept(value: Any) -> dict[str, Any]:
    """Attributes of an object, without what it counts for itself while it is used: private whole numbers."""
    return {name: part for name, part in vars(value).items() if not (name.startswith("_") and _counts(part))}


def _counts(value: Any) -> bool:
    return value is None or isinstance(value, int)


def _unknown(value: Any) -> bytes:
    """What tells an object apart that cannot be looked into."""
    return f"{_PROCESS} {id(value)}".encode()
