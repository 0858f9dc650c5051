"""Reading YAML that may come from anybody: plain data, bounded, no aliases, one harmless tag."""

import os
from typing import Any

import yaml

from kd_agent.errors import KDError
from kd_agent.policies.safe_files import read_capped

MAX_BYTES = 1 << 20
"""A file of settings has some kilobytes."""


class _Loader(yaml.SafeLoader):
    """SafeLoader without aliases (an alias bomb is a few lines), with RL Zoo's OrderedDict tag."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        """PyYAML's own hook: called for every node before anything is built from the document.

        Args:
            parent: The node that holds it; None: the document.
            index: Its place there.

        Raises:
            YAMLError: The node is an alias.
        """
        # Where it is refused matters: a bomb explodes while it is built.
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("aliases are not allowed")
        return super().compose_node(parent, index)


def _ordered_dict(loader: yaml.SafeLoader, node: yaml.Node) -> dict[Any, Any]:
    assert isinstance(node, yaml.SequenceNode)
    # The tag's only argument is the list of pairs.
    (pairs,) = loader.construct_sequence(node, deep=True)
    return dict(pairs)


def _tuple(loader: yaml.SafeLoader, node: yaml.Node) -> list[Any]:
    assert isinstance(node, yaml.SequenceNode)
    return loader.construct_sequence(node, deep=True)


_Loader.add_constructor("tag:yaml.org,2002:python/object/apply:collections.OrderedDict", _ordered_dict)
_Loader.add_constructor("tag:yaml.org,2002:python/tuple", _tuple)


def read_mapping(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The mapping in a YAML file (empty for an empty file).

    Raises:
        KDError: The file is missing, over 1 MiB, not YAML, not a mapping, or uses tags or aliases.
    """
    raw = read_capped(path, MAX_BYTES)
    try:
        value = _Loader(raw).get_single_data()
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError, ValueError, TypeError, AssertionError) as error:
        raise KDError(f"{path}: not usable as YAML ({' '.join(str(error).split())[:160]})") from None
    if value is None:
        return {}
    if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
        raise KDError(f"{path}: expected a mapping of settings")
    return value
