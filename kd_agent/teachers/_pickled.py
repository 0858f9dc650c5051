"""A pickle read as data, by an interpreter of its own: no module is imported, and nothing in the pickle is called.

Names stay names, and calls stay records of what would have been called with what.
"""

import pickletools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from kd_agent.errors import KDError

MAX_BYTES = 8 << 20
"""Of the pickle alone; tensors lie beside it."""
MAX_OPCODES = 400_000
"""A state takes some 30 for each tensor, and an optimiser as many again."""
_LONGEST_NUMBER = 16
"""Bytes of a whole number, which no count and no size exceeds."""
_LONGEST_NAME = 256
"""Letters of the name of a class, a module or a tensor; torch's own have some 30."""
_DICTS = ("collections OrderedDict", "collections defaultdict")


@dataclass(frozen=True)
class Name:
    """A class or function that a pickle names.

    Attributes:
        module: Its module.
        name: Its name in the module.
    """

    module: str
    name: str

    def __str__(self) -> str:
        return f"{self.module} {self.name}"


_NAMELESS = Name("", "")


@dataclass
class Built:
    """An object that a pickle would have had built.

    Attributes:
        name: What it would have called; without any where that is no class and no function.
        args: With what.
        state: What the object would have been given then.
        items: What it would have been given by key.
    """

    name: Name
    args: tuple[Any, ...] = ()
    state: Any = None
    items: dict[Any, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Reference:
    """Something outside the pickle, a tensor's numbers say.

    Attributes:
        what: How the pickle names it.
    """

    what: Any


def read_pickle(raw: bytes, source: str) -> Any:
    """What a pickle says: dicts, lists, tuples, plain values, and `Name`, `Built` and `Reference` for all else.

    Args:
        raw: The pickle.
        source: Its file's name for messages.

    Raises:
        KDError: It is too large, damaged, or uses what no saved policy does.
    """
    if len(raw) > MAX_BYTES:
        raise KDError(f"{source}: its pickle exceeds {MAX_BYTES >> 20} MiB")
    machine = _Machine()
    try:
        for count, (opcode, argument, _) in enumerate(pickletools.genops(raw)):
            if count > MAX_OPCODES:
                raise KDError(f"{source}: its pickle is longer than a policy's")
            if opcode.name == "STOP":
                return machine.pop()
            machine.step(opcode.name, argument)
    except KDError as error:
        raise KDError(f"{source}: {error.args[0].removeprefix(f'{source}: ')}") from None
    except (ValueError, IndexError, KeyError, TypeError, AttributeError, OverflowError) as error:
        raise KDError(f"{source}: its pickle is damaged ({type(error).__name__})") from None
    raise KDError(f"{source}: its pickle has no end")


class _Machine:
    """The stack and the memo of a pickle that is being read."""

    def __init__(self) -> None:
        self._stack: list[Any] = []
        self._marked: list[list[Any]] = []
        self._memo: dict[int, Any] = {}

    def step(self, opcode: str, argument: Any) -> None:
        """Follow one opcode."""
        if opcode in _IGNORED:
            return
        if opcode in _CONSTANTS:
            self._stack.append(_CONSTANTS[opcode]())
        elif opcode in _VALUES:
            self._stack.append(_plain(argument))
        elif opcode in _STEPS:
            _STEPS[opcode](self, argument)
        else:
            raise KDError(f"its pickle uses {opcode}, which no saved policy does")

    def pop(self) -> Any:
        """The last value."""
        return self._stack.pop()

    def mark(self, _: Any) -> None:
        self._marked.append(self._stack)
        self._stack = []

    def since_mark(self) -> list[Any]:
        values = self._stack
        self._stack = self._marked.pop()
        return values

    def pop_mark(self, _: Any) -> None:
        self.since_mark()

    def put(self, index: Any) -> None:
        # MEMOIZE counts by itself.
        key = len(self._memo) if index is None else int(index)
        self._memo[key] = self._stack[-1]

    def get(self, index: Any) -> None:
        self._stack.append(self._memo[int(index)])

    def name(self, argument: Any) -> None:
        module, _, name = str(argument).partition(" ")
        self._stack.append(_named(module, name))

    def stacked_name(self, _: Any) -> None:
        name, module = self.pop(), self.pop()
        self._stack.append(_named(module, name))

    def tuple_of_marked(self, _: Any) -> None:
        values = self.since_mark()
        self._stack.append(tuple(values))

    def tuple_of(self, count: int) -> None:
        values = [self.pop() for _ in range(count)]
        self._stack.append(tuple(values[::-1]))

    def append(self, _: Any) -> None:
        value = self.pop()
        _extend(self._stack[-1], [value])

    def appends(self, _: Any) -> None:
        values = self.since_mark()
        _extend(self._stack[-1], values)

    def set_item(self, _: Any) -> None:
        value, key = self.pop(), self.pop()
        _set_items(self._stack[-1], [key, value])

    def set_items(self, _: Any) -> None:
        values = self.since_mark()
        _set_items(self._stack[-1], values)

    def call(self, _: Any) -> None:
        args, called = self.pop(), self.pop()
        # Whatever else is called has no name; written out as text, a few nested tuples would fill the memory.
        name = called if isinstance(called, Name) else _NAMELESS
        if str(name) in _DICTS:
            self._stack.append({})
        else:
            self._stack.append(Built(name, tuple(args)))

    def call_with_keywords(self, _: Any) -> None:
        self.pop()
        self.call(None)

    def build(self, _: Any) -> None:
        state, target = self.pop(), self._stack[-1]
        # A dict's own attributes, those of a state dict say, are of no use here.
        if isinstance(target, Built):
            target.state = state

    def refer(self, _: Any) -> None:
        self._stack.append(Reference(self.pop()))

    def drop(self, _: Any) -> None:
        self.pop()


def _named(module: Any, name: Any) -> Name:
    for text in (module, name):
        # It is looked at for each call of it.
        if not isinstance(text, str) or len(text) > _LONGEST_NAME:
            raise KDError("its pickle names what no saved policy does")
    return Name(module, name)


def _plain(argument: Any) -> Any:
    if type(argument) is int and argument.bit_length() > 8 * _LONGEST_NUMBER:
        raise KDError("its pickle has a number of too many digits")
    return argument


def _extend(target: Any, values: list[Any]) -> None:
    # What another container would have been given is nothing that is read here.
    if isinstance(target, list):
        target.extend(values)


def _set_items(target: Any, values: list[Any]) -> None:
    items = target.items if isinstance(target, Built) else target
    for key, value in zip(values[::2], values[1::2], strict=True):
        # By other keys nothing is looked up, and to hash what is nested in itself can take for ever. A long key would
        # be part of the name of all that lies below it.
        if type(key) is int or (type(key) is str and len(key) <= _LONGEST_NAME):
            items[key] = value


_IGNORED = frozenset({"PROTO", "FRAME"})
_CONSTANTS: dict[str, Callable[[], Any]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_TUPLE": tuple,
    "EMPTY_LIST": list,
    "EMPTY_SET": list,
    "EMPTY_DICT": dict,
}
_VALUES = frozenset(
    """BININT BININT1 BININT2 LONG1 BINFLOAT BINUNICODE SHORT_BINUNICODE BINBYTES SHORT_BINBYTES BINBYTES8
    BYTEARRAY8 BINSTRING SHORT_BINSTRING""".split()  # noqa: SIM905
)
_STEPS: dict[str, Callable[[_Machine, Any], None]] = {
    "MARK": _Machine.mark,
    "POP": _Machine.drop,
    "POP_MARK": _Machine.pop_mark,
    "BINPUT": _Machine.put,
    "LONG_BINPUT": _Machine.put,
    "MEMOIZE": _Machine.put,
    "BINGET": _Machine.get,
    "LONG_BINGET": _Machine.get,
    "GLOBAL": _Machine.name,
    "STACK_GLOBAL": _Machine.stacked_name,
    "TUPLE": _Machine.tuple_of_marked,
    "TUPLE1": lambda machine, _: machine.tuple_of(1),
    "TUPLE2": lambda machine, _: machine.tuple_of(2),
    "TUPLE3": lambda machine, _: machine.tuple_of(3),
    "FROZENSET": _Machine.tuple_of_marked,
    "APPEND": _Machine.append,
    "APPENDS": _Machine.appends,
    "ADDITEMS": _Machine.appends,
    "SETITEM": _Machine.set_item,
    "SETITEMS": _Machine.set_items,
    "REDUCE": _Machine.call,
    "NEWOBJ": _Machine.call,
    "NEWOBJ_EX": _Machine.call_with_keywords,
    "BUILD": _Machine.build,
    "BINPERSID": _Machine.refer,
}
