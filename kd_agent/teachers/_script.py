"""TorchScript's code as operations: followed line by line as text, never run.

A file of TorchScript keeps the code of its modules in a small part of Python's grammar. Here it is parsed and followed
from the module's `forward` on, with a register in the place of the observation: what depends on it becomes operations,
what does not is a constant. Whatever is met that has no operation is refused.
"""

import ast
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from kd_agent.errors import KDError
from kd_agent.policies import Array, Op
from kd_agent.teachers._checkpoint import Checkpoint
from kd_agent.teachers._onnx_nodes import Program
from kd_agent.teachers._pickled import MAX_BYTES, Built, read_pickle
from kd_agent.teachers._script_operators import OPERATORS, Choice, Register
from kd_agent.teachers._torch_file import Stored, tensor_of

MAX_CODE = 1 << 20
"""Bytes of one file of code."""
MAX_STEPS = 20_000
"""Expressions that are followed."""
MAX_DEPTH = 32
"""Calls within calls."""
_OWN = "__torch__."
"""What the names of the file's own code begin with."""


@dataclass(frozen=True)
class Followed:
    """What a module does with an observation.

    Attributes:
        ops: The operations.
        register: The register that holds its answer.
        chosen: Whether the answer is a choice, the largest of that register.
    """

    ops: list[Op]
    register: str
    chosen: bool


@dataclass(frozen=True)
class _Function:
    """A function of the file's own.

    Attributes:
        path: Its name with its module's.
    """

    path: str


def follow(checkpoint: Checkpoint, register: str) -> Followed:
    """Follow a module's `forward`.

    Args:
        checkpoint: A file of TorchScript.
        register: The register of the observation.

    Raises:
        KDError: Its code is damaged, or does what no operation does.
    """
    script = _Script(checkpoint)
    try:
        answer = script.method(checkpoint.outline.root, "forward", [Register(register)])
    except (RecursionError, MemoryError, SyntaxError, IndexError, KeyError, AttributeError, TypeError, ValueError):
        raise KDError("its code is damaged, or not of TorchScript") from None
    answer = script.current(answer)
    if isinstance(answer, Choice):
        return Followed(script.program.ops, answer.register, chosen=True)
    if not isinstance(answer, Register):
        raise KDError("it answers the same to everything, or with several things")
    return Followed(script.program.ops, answer.name, chosen=False)


class _Script:
    """The code of a file that is being followed.

    Args:
        checkpoint: The file.
    """

    def __init__(self, checkpoint: Checkpoint) -> None:
        self.checkpoint = checkpoint
        self.program = Program()
        self._files: dict[str, ast.Module] = {}
        self._steps = 0
        self._depth = 0
        self._claimed = 0
        self._overwritten: dict[Register, Any] = {}
        self._arrays: dict[tuple[Stored, str], Array] = {}
        self._constants: Any = ()
        members = checkpoint.members
        if "constants.pkl" in members.names:
            self._constants = read_pickle(members.read("constants.pkl", MAX_BYTES), checkpoint.source)

    def method(self, module: Any, name: str, arguments: list[Any]) -> Any:
        """What a module's method gives."""
        if not isinstance(module, Built):
            raise KDError("its code calls something that is no module")
        path = f"{module.name.module}.{module.name.name}"
        return self._follow(self._definition(path, name), [module, *arguments])

    def _definition(self, path: str, method: str | None) -> ast.FunctionDef:
        """The text of a function, or of a class's method."""
        module, _, name = path.rpartition(".")
        parts = self._file(module).body
        if method is not None:
            classes = [part for part in parts if isinstance(part, ast.ClassDef) and part.name == name]
            parts = classes[0].body if classes else []
            name = method
        for part in parts:
            if isinstance(part, ast.FunctionDef) and part.name == name:
                return part
        raise KDError(f"its code of {path} is missing")

    def _file(self, module: str) -> ast.Module:
        if module not in self._files:
            name = f"code/{module.replace('.', '/')}.py"
            raw = self.checkpoint.members.read(name, MAX_CODE)
            self._files[module] = ast.parse(raw.decode())
        return self._files[module]

    def _follow(self, function: ast.FunctionDef, arguments: list[Any]) -> Any:
        """What a function gives; of its arguments, those that are not given have defaults."""
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise KDError(f"its code is nested deeper than {MAX_DEPTH} calls")
        names = [argument.arg for argument in function.args.args]
        defaults = function.args.defaults
        for default in defaults[len(defaults) - (len(names) - len(arguments)) :] if len(names) > len(arguments) else []:
            arguments = [*arguments, self._value(default, {})]
        if len(names) != len(arguments):
            raise KDError(f"its {function.name} takes {len(names) - 1} inputs, one is the observation")
        _, result = self._lines(function.body, dict(zip(names, arguments, strict=True)))
        self._depth -= 1
        return result

    def _lines(self, lines: list[ast.stmt], names: dict[str, Any]) -> tuple[bool, Any]:
        """Follow lines; whether one of them returned, and what."""
        for line in lines:
            if isinstance(line, ast.Return):
                return True, None if line.value is None else self._value(line.value, names)
            if isinstance(line, ast.Assign) and len(line.targets) == 1 and isinstance(line.targets[0], ast.Name):
                names[line.targets[0].id] = self._value(line.value, names)
            elif isinstance(line, ast.If):
                test = self._value(line.test, names)
                if not isinstance(test, bool):
                    raise KDError("its code depends on what it observes")
                returned, result = self._lines(line.body if test else line.orelse, names)
                if returned:
                    return True, result
            elif not isinstance(line, ast.Pass):
                raise KDError(f"its code has a line {ast.unparse(line)[:60]!r}, which no operation does")
        return False, None

    def _value(self, node: ast.expr, names: Mapping[str, Any]) -> Any:
        """The value of an expression."""
        self._steps += 1
        if self._steps > MAX_STEPS:
            raise KDError("its code is longer than a policy's")
        if isinstance(node, ast.Constant):
            return node.value
        if isinstance(node, ast.Name):
            return names[node.id]
        if isinstance(node, ast.List | ast.Tuple):
            return [self._value(part, names) for part in node.elts]
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
            return -self._value(node.operand, names)
        if isinstance(node, ast.Attribute):
            path = _dotted(node)
            if path is not None and path.startswith(_OWN):
                return _Function(path)
            if isinstance(node.value, ast.Name) and node.value.id == "CONSTANTS":
                return self._constant(self._constants[int(node.attr.removeprefix("c"))], "constants")
            return self._part(self._value(node.value, names), node.attr)
        if isinstance(node, ast.Call):
            return self._call(node, names)
        raise KDError(f"its code has {ast.unparse(node)[:60]!r}, which no operation does")

    def _part(self, module: Any, name: str) -> Any:
        """A module's part: another module, a constant array, or a plain value."""
        if not isinstance(module, Built) or not isinstance(module.state, dict):
            raise KDError("its code reads a part of something that is no module")
        value = module.state.get(name)
        return self._constant(value, "data")

    def _constant(self, value: Any, folder: str) -> Any:
        stored = tensor_of(value)
        if stored is None:
            return value
        if (stored, folder) not in self._arrays:
            self._arrays[stored, folder] = self.checkpoint.array(stored, "a tensor", folder)
        return self._arrays[stored, folder]

    def _call(self, node: ast.Call, names: Mapping[str, Any]) -> Any:
        function = node.func
        path = _dotted(function)
        if path == "getattr":
            return self._part(self._value(node.args[0], names), ast.literal_eval(node.args[1]))
        if path in ("annotate", "unchecked_cast"):
            return self._value(node.args[1], names)
        arguments = [self._value(argument, names) for argument in node.args]
        alias = names.get(path or "")
        if isinstance(alias, _Function):
            path = alias.path
        if path is not None and path.startswith(_OWN):
            return self._follow(self._definition(path, None), arguments)
        if path is not None and path.startswith("torch."):
            return self._operator(path.removeprefix("torch."), arguments, node, names)
        if not isinstance(function, ast.Attribute):
            raise KDError(f"its code calls {ast.unparse(function)[:60]!r}, which no operation does")
        return self.method(self._value(function.value, names), function.attr, arguments)

    def _operator(self, name: str, arguments: list[Any], node: ast.Call, names: Mapping[str, Any]) -> Any:
        """A function of torch."""
        keywords = {word.arg: self._value(word.value, names) for word in node.keywords if word.arg}
        arguments = [self.current(argument) for argument in arguments]
        writes_into_input = name.endswith("_") and not name.endswith("__")
        operator = OPERATORS.get(name[:-1] if writes_into_input else name)
        before = len(self.program.ops)
        result = None if operator is None else operator(self.program, arguments, keywords)
        if result is None:
            raise KDError(f"its code calls torch.{name}, for which there is no operation that does the same")
        self._claim(self.program.ops[before:])
        if writes_into_input and isinstance(arguments[0], Register):
            self._overwritten[arguments[0]] = result
        return result

    def current(self, value: Any) -> Any:
        """What a register holds now, after functions that wrote into it."""
        while isinstance(value, Register) and value in self._overwritten and self._overwritten[value] != value:
            value = self._overwritten[value]
        return value

    def _claim(self, ops: list[Op]) -> None:
        """Hold the numbers of new operations against those of the file, of which code could make many more."""
        for op in ops:
            self._claimed += sum(tensor.size for tensor in op.tensors.values())
        if self._claimed > self.checkpoint.members.size:
            raise KDError("its code makes more numbers than the file has")


def _dotted(node: ast.expr) -> str | None:
    """A name with its dots; None of any other expression."""
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    if not isinstance(node, ast.Name):
        return None
    return ".".join([node.id, *reversed(parts)])
