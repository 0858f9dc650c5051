"""Observations in JSON: their schema, with the names of their numbers, and the arrays that they become.

Letters: `*O` shape of an observation.
"""

import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from kd_agent.errors import KDError, unknown
from kd_agent.policies import OBSERVATION, Array, ObservationSpec
from kd_agent.policies.names import number_names

Schema = dict[str, Any]
"""A JSON Schema."""
_TYPES: dict[str, tuple[type, ...]] = {"f": (int, float), "i": (int, float), "u": (int, float), "b": (bool,)}
"""Python's types for the numbers of JSON, by NumPy's kind of an array; 3.0 is a whole number there too."""
_WORDS = {"f": "a finite number", "i": "a whole number", "u": "a whole number", "b": "true or false"}
_JSON_TYPES = {"f": "number", "i": "integer", "u": "integer", "b": "boolean"}
_SHOWN = 40
"""Characters of a wrong value that a message shows."""


class ArrayReader:
    """One observation array.

    Args:
        label: What messages call it.
        spec: Its shape and type.
        names: Names of its numbers; empty where none are known.
    """

    def __init__(self, label: str, spec: ObservationSpec, names: tuple[str, ...] = ()) -> None:
        self._label = label
        self._spec = spec
        self._names = names
        self._kind = np.dtype(spec.dtype).kind
        low, high = _bounds(spec)
        self._low: list[float] = np.broadcast_to(low, spec.shape).ravel().tolist()
        self._high: list[float] = np.broadcast_to(high, spec.shape).ravel().tolist()

    def schema(self) -> Schema:
        """An array, nested as the shape is, or an object with a number a name."""
        number: Schema = {"type": _JSON_TYPES[self._kind]}
        if self._spec.categories:
            number |= {"minimum": 0, "maximum": int(max(self._high))}
        array = number
        for size in reversed(self._spec.shape):
            array = {"type": "array", "items": array, "minItems": size, "maxItems": size}
        if not self._names:
            return array
        by_name = {
            "type": "object",
            "properties": dict.fromkeys(self._names, number),
            "required": list(self._names),
            "additionalProperties": False,
        }
        return {"anyOf": [by_name, {**array, "description": "the same numbers, in this order"}]}

    def read(self, value: Any) -> Array:
        """The array `[*O]` that a JSON value stands for.

        Args:
            value: Numbers in lists, or by name.

        Raises:
            KDError: It has other names, another length, or something in it is no finite number.
        """
        if isinstance(value, Mapping):
            value = self._in_order(value)
        numbers: list[Any] = []
        self._flatten(value, 0, numbers)
        types = _TYPES[self._kind]
        for index, (number, low, high) in enumerate(zip(numbers, self._low, self._high, strict=True)):
            # NaN is in no range.
            if type(number) not in types or not low <= number <= high:
                raise self._wrong(index, number)
            if self._kind in "iu" and number != int(number):
                raise self._wrong(index, number)
        return np.array(numbers, self._spec.dtype).reshape(self._spec.shape)

    def _in_order(self, value: Mapping[str, Any]) -> list[Any]:
        """The numbers of an object in the order of the array."""
        if not self._names:
            raise KDError(f"{self._label} is an object, but its numbers have no names; expected {self._expected()}")
        for name in value:
            if name not in self._names:
                raise unknown(f"number of the {self._label}", name, self._names)
        for name in self._names:
            if name not in value:
                raise KDError(f"{self._label} lacks {name!r}; expected {self._expected()}")
        return [value[name] for name in self._names]

    def _flatten(self, value: Any, axis: int, numbers: list[Any]) -> None:
        """Append what nested lists hold, whose lengths are those of the shape."""
        shape = self._spec.shape
        if axis == len(shape):
            numbers.append(value)
            return
        if not isinstance(value, list):
            raise KDError(f"{self._label} has {shown(value)} for an array; expected {self._expected()}")
        if len(value) != shape[axis]:
            raise KDError(f"{self._label} has an array of {len(value)}; expected {self._expected()}")
        for part in value:
            self._flatten(part, axis + 1, numbers)

    def _wrong(self, index: int, number: Any) -> KDError:
        """The error for one number."""
        place = list(map(int, np.unravel_index(index, self._spec.shape))) if self._spec.shape else ""
        name = repr(self._names[index]) if self._names else f"number {place}".strip()
        limits = ""
        if self._kind != "b" and (self._spec.categories or self._kind != "f"):
            limits = f" from {self._low[index]} to {self._high[index]}"
        return KDError(f"{self._label}: {name} is {shown(number)}; expected {_WORDS[self._kind]}{limits}")

    def _expected(self) -> str:
        shape = self._spec.shape
        if not shape:
            return _WORDS[self._kind]
        if len(shape) > 1:
            return f"numbers in nested arrays of shape {list(shape)}"
        names = f": {', '.join(self._names)}" if self._names else ""
        return f"{shape[0]} numbers{names}"


class ObservationReader:
    """Everything that a policy observes.

    Args:
        specs: Its observation arrays, by key.
        env_id: Gymnasium id, whose entries may have names.
    """

    def __init__(self, specs: Mapping[str, ObservationSpec], env_id: str) -> None:
        self._by_key = list(specs) != [OBSERVATION]
        self._readers: dict[str, ArrayReader] = {}
        for key, spec in specs.items():
            label = f"observation {key!r}" if self._by_key else "observation"
            self._readers[key] = ArrayReader(label, spec, number_names(env_id, spec.shape))

    def schema(self) -> Schema:
        """The schema of an observation: one array's, or of a Dict an object by key."""
        schemas = {key: reader.schema() for key, reader in self._readers.items()}
        if not self._by_key:
            return schemas[OBSERVATION]
        return {
            "type": "object",
            "properties": schemas,
            "required": list(schemas),
            "additionalProperties": False,
        }

    def read(self, value: Any) -> dict[str, Array]:
        """The arrays `[*O]` by key that a JSON value stands for.

        Args:
            value: The observation.

        Raises:
            KDError: A key is unknown or lacking, or as by `ArrayReader.read`.
        """
        if not self._by_key:
            return {OBSERVATION: self._readers[OBSERVATION].read(value)}
        keys = ", ".join(self._readers)
        if not isinstance(value, Mapping):
            raise KDError(f"observation is {shown(value)}; expected an object with the keys {keys}")
        for key in value:
            if key not in self._readers:
                raise unknown("key of the observation", key, self._readers)
        arrays = {}
        for key, reader in self._readers.items():
            if key not in value:
                raise KDError(f"observation lacks the key {key!r}; expected {keys}")
            arrays[key] = reader.read(value[key])
        return arrays


def shown(value: Any) -> str:
    """A wrong JSON value in a message."""
    if isinstance(value, Mapping):
        return "an object"
    if isinstance(value, list):
        return "an array"
    # Python makes no text of a whole number of thousands of digits.
    if isinstance(value, int) and value.bit_length() > 64:
        return "a very large number"
    text = json.dumps(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


def _bounds(spec: ObservationSpec) -> tuple[Any, Any]:
    """Least and largest number of each entry, `[*O]` or one for all."""
    dtype = np.dtype(spec.dtype)
    if spec.categories:
        return 0, np.reshape(spec.categories, spec.shape) - 1
    if dtype.kind in "iu":
        return np.iinfo(dtype).min, np.iinfo(dtype).max
    # A policy reads float32: what is larger is infinite to it.
    largest = float(np.finfo(np.float32).max)
    return (0, 1) if dtype.kind == "b" else (-largest, largest)
