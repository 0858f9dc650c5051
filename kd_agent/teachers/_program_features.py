"""Our own features extractor in a Stable-Baselines3 zip: operations in readable form, their tensors by name."""

import re
from collections.abc import Mapping
from typing import Any

from kd_agent.policies import Op
from kd_agent.teachers._archive import Archive, NotUnderstoodError
from kd_agent.teachers._layers import Program

_OURS = re.compile(r"<class 'kd_agent\.networks\.sb3_features\.ProgramFeatures'>")
_KINDS = frozenset(
    {"activation", "concatenate", "conv2d", "flatten", "linear", "normalise", "scale", "slice", "transpose"}
)
"""What our exports put into a zip. None makes much of little, but for joining, and not what is there with itself."""
_MAX_OPERATIONS = 32
"""A program of ours has five an image; those of a file that joins and joins would fill the memory."""


def is_program(archive: Archive) -> bool:
    """Whether a zip's features extractor is `kd_agent.networks.sb3_features.ProgramFeatures`."""
    return _OURS.fullmatch(str(archive.policy_kwarg("features_extractor_class"))) is not None


def keys_read(archive: Archive) -> set[str]:
    """The observations that the extractor reads, among other registers; nothing of an extractor that is damaged."""
    told = archive.policy_kwarg("features_extractor_kwargs")
    if not isinstance(told, dict):
        return set()
    read = {str(told.get("output"))}
    operations = told.get("operations")
    for plain in operations if isinstance(operations, list) else []:
        if isinstance(plain, dict) and isinstance(plain.get("inputs"), list):
            read.update(map(str, plain["inputs"]))
    return read


def program_features(program: Program, prefix: str, registers: Mapping[str, str]) -> None:
    """The extractor's operations.

    Args:
        program: Gains them; its last register then holds the features `[B, F]`.
        prefix: Name of the extractor among the tensors.
        registers: The register of each key's observation as Stable-Baselines3 shows it.

    Raises:
        NotUnderstoodError: They are no such operations.
    """
    names = dict(registers)
    try:
        told = program.archive.policy_kwarg("features_extractor_kwargs")
        operations = told["operations"]
        if len(operations) > _MAX_OPERATIONS:
            raise ValueError(f"{len(operations)} operations")
        for index, plain in enumerate(operations):
            op = _operation(program, f"{prefix}.ops.{index}", plain, names)
            program.add(op)
            names[plain["output"]] = op.output
        program.last = names[told["output"]]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        reason = f"its features extractor is not what kd_agent writes: {str(error)[:60]}"
        raise NotUnderstoodError(f"{program.source}: {reason}") from None


def _operation(program: Program, name: str, plain: Mapping[str, Any], names: Mapping[str, str]) -> Op:
    """One operation, which writes the register `name`.

    Args:
        program: Whose tensors it has.
        name: What their names begin with.
        plain: Its description.
        names: The program's register of each register that the description may read.
    """
    kind = str(plain["kind"])
    inputs = tuple(names[source] for source in plain["inputs"])
    if kind not in _KINDS or len(set(inputs)) < len(inputs):
        raise ValueError(f"{kind} of {list(inputs)}")
    tensors = {}
    for role, shape in plain["shapes"].items():
        tensors[str(role)] = program.tensor(f"{name}.t_{role}", len(shape))
    return Op(kind, inputs, name, dict(plain["attributes"]), tensors)
