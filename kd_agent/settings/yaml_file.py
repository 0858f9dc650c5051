"""Reading YAML that may come from anybody: plain data, bounded, no aliases, one harmless tag."""

import os
from typing import Any

import yaml

from kd_agent.errors import KDError
from kd_agent.policies.safe_files import read_capped

MAX_BYTES = 1 << 20
"""A file of settings has some kilobytes."""
MAX_NODES = 5_000
"""Keys and values, of which PyYAML reads some ten thousand a second; a file of settings has a hundred."""
_MAX_NUMBER = 100
"""Characters of what is no text: PyYAML's time grows with the square of a number's length (`1:1:1...`)."""


class _Loader(yaml.SafeLoader):
    """SafeLoader without aliases (an alias bomb is a few lines), with RL Zoo's OrderedDict tag."""

    def __init__(self, stream: str | bytes) -> None:
        super().__init__(stream)
        self._nodes = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        """PyYAML's own hook: called for every node before anything is built from the document.

        Args:
            parent: The node that holds it; None: the document.
            index: Its place there.

        Raises:
            YAMLError: The node is an alias, or one too many.
        """
        self._nodes += 1
        if self._nodes > MAX_NODES:
            raise yaml.YAMLError(f"more than {MAX_NODES:,} keys and values")
        # Where it is refused matters: a bomb explodes while it is built.
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("aliases are not allowed")
        return super().compose_node(parent, index)

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        """PyYAML's own hook: called for every node that is built.

        Args:
            node: The node.
            deep: Whether what it holds is built at once.

        Raises:
            YAMLError: It is not what its tag says, or a number longer than any.
        """
        if not isinstance(node, yaml.ScalarNode):
            return super().construct_object(node, deep)
        kind = node.tag.rpartition(":")[2]
        if kind != "str" and len(node.value) > _MAX_NUMBER:
            raise yaml.YAMLError(f"{node.value[:20]}... is too long for a number")
        try:
            return super().construct_object(node, deep)
        except yaml.YAMLError:
            raise
        except Exception:
            # PyYAML's constructors fail in many ways at what their tags do not fit: `!!bool foo` is a KeyError,
            # `!!timestamp foo` an AttributeError, `!!int ""` an IndexError.
            raise yaml.YAMLError(f"{node.value[:20]!r} is no {kind}") from None


def _ordered_dict(loader: yaml.SafeLoader, node: yaml.Node) -> dict[Any, Any]:
    assert isinstance(node, yaml.SequenceNode)
    # The tag's only argument is the list of pairs.
    (pairs,) = loader.construct_sequence(node, deep=True)
    return dict(pairs)


def _tuple(loader: yaml.SafeLoader, node: yaml.Node) -> list[Any]:
    assert isinstance(node, yaml.SequenceNode)
    return loader.construct_sequence(node, deep=True)


def _refused(loader: yaml.SafeLoader, node: yaml.Node) -> Any:
    raise yaml.YAMLError(f"the tag {node.tag.rpartition(':')[2]} is not allowed")


# What JSON and command lines have no word for cannot be a setting: it could not be kept in a run folder either.
for _tag in ("binary", "set"):
    _Loader.add_constructor(f"tag:yaml.org,2002:{_tag}", _refused)
_Loader.add_constructor("tag:yaml.org,2002:python/object/apply:collections.OrderedDict", _ordered_dict)
_Loader.add_constructor("tag:yaml.org,2002:python/tuple", _tuple)


def read_mapping(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The mapping in a YAML file (empty for an empty file).

    Raises:
        KDError: The file is missing, over 1 MiB, not YAML, not a mapping, or uses tags or aliases.
    """
    raw = read_capped(path, MAX_BYTES)
    try:
        value = read_value(raw)
    except yaml.YAMLError as error:
        raise KDError(f"{path}: not usable as YAML ({' '.join(str(error).split())[:160]})") from None
    if value is None:
        return {}
    if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
        raise KDError(f"{path}: expected a mapping of settings")
    return value


def read_value(text: str | bytes) -> Any:
    """What a YAML text says, as plain data.

    Raises:
        YAMLError: It is not YAML, or uses tags or aliases.
    """
    try:
        return _Loader(text).get_single_data()
    except yaml.YAMLError:
        raise
    except Exception as error:
        # Deep nesting is a RecursionError, bytes that are no text a UnicodeDecodeError, and our tags have their own.
        raise yaml.YAMLError(f"{type(error).__name__}: {error}") from None
