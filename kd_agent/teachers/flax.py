"""Parameters of Brax's agents and of Flax's modules (`.msgpack`, `.safetensors`, Brax's `.pkl`): layers of `Dense`."""

import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from kd_agent.errors import KDError
from kd_agent.policies import Array, Normalizer
from kd_agent.policies.normalizer import UNBOUNDED
from kd_agent.teachers import _layout
from kd_agent.teachers._flax_file import is_tree, read_tree
from kd_agent.teachers._graph_teacher import GraphTeacher
from kd_agent.teachers._layout import Layout, LogStd, scaled_by
from kd_agent.teachers._request import Request
from kd_agent.teachers._weights import teacher_of

ASSUMED = _layout.ASSUMED
MIN_STD = 0.001
"""What Brax's NormalTanhDistribution adds to a standard deviation."""
_KERNEL = re.compile(r"(?P<module>.*?)(?P<layer>(hidden|Dense)_(?P<number>\d+))\.kernel")
_ACTOR = re.compile(r"(^|.*\.)(actor|policy|pi)(_\w+)?\.$", re.IGNORECASE)
_BRAX = "1.params."
"""The policy of Brax's `(statistics, policy, value)`."""


def accepts(source: Any) -> bool:
    """Whether this plug-in reads `source`."""
    return is_tree(source)


def load(source: str, request: Request) -> GraphTeacher:
    """Load parameters.

    Args:
        source: Path of the file.
        request: How it is asked for.

    Raises:
        KDError: It is damaged, its layers are not understood, or it does not fit the environment.
    """
    arrays, sha256 = read_tree(source)
    is_brax = "0.mean" in arrays and "0.std" in arrays
    module = _BRAX if is_brax else _module(arrays, source)
    tensors = _as_torch(arrays, module)
    if is_brax and any(name.startswith("MLP_0.") for name in tensors):
        raise KDError(f"{source}: of Brax, policies of tanh_normal are read; this one is of its distribution 'normal'")
    layers = _chain(tensors)
    if not layers:
        raise KDError(f"{source}: has no layers that are called hidden_0 or Dense_0")
    if is_brax:
        return teacher_of(_brax_layout(arrays, layers, source), tensors, source, sha256, request)
    return teacher_of(_flax_layout(tensors, layers), tensors, source, sha256, request)


def _brax_layout(arrays: Mapping[str, Array], layers: tuple[str, ...], source: str) -> Layout:
    """Brax's: one layer writes means and deviations, and the means go through tanh."""
    return Layout(
        library="Brax",
        algo="Brax",
        hidden=layers[:-1],
        answer=layers[-1:],
        normalizer=_normalizer(arrays, source),
        log_std=LogStd(layer=layers[-1], softplus=MIN_STD),
        activation="silu",
        squash="tanh",
        continuous=True,
    )


def _flax_layout(tensors: Mapping[str, Array], layers: tuple[str, ...]) -> Layout:
    """A module's of one's own."""
    others = [name for name in _layers(tensors) if name not in layers]
    # A critic ends in one number; what else comes after would act, who knows how.
    has_critic = bool(others) and len(tensors[f"{others[-1]}.weight"]) == 1
    log_std = tensors.get("log_std")
    return Layout(
        library="Flax",
        algo="Flax",
        hidden=layers[:-1],
        answer=layers[-1:],
        log_std=None if log_std is None else LogStd(log_std.ravel()),
        # Flax has no default: these are PureJaxRL's, of actor and critic in one module and of values alone.
        activation="tanh" if has_critic else "relu",
        continuous=None if log_std is None else True,
        bystanders=r"log_std|Dense_\d+\.(weight|bias)" if has_critic else "log_std",
    )


def _module(arrays: Mapping[str, Array], source: str) -> str:
    """What the names of the acting layers begin with."""
    modules = []
    for name in arrays:
        found = _KERNEL.fullmatch(name)
        if found and found["module"] not in modules:
            modules.append(found["module"])
    acting = [module for module in modules if _ACTOR.fullmatch(module)] if len(modules) > 1 else modules
    if len(acting) != 1:
        names = ", ".join(modules[:4]) or "none"
        raise KDError(
            f"{source}: which of its modules acts is not clear ({names}); one would be called actor or policy"
        )
    return acting[0]


def _as_torch(arrays: Mapping[str, Array], module: str) -> dict[str, Array]:
    """The module's arrays as torch has them: kernels turned, and called weights."""
    tensors = {}
    for name in sorted(arrays):
        if name.startswith(module):
            own = name.removeprefix(module)
            is_kernel = own.endswith(".kernel")
            array = np.ascontiguousarray(arrays[name].T) if is_kernel else arrays[name]
            tensors[f"{own.removesuffix('.kernel')}.weight" if is_kernel else own] = array
    return tensors


def _chain(tensors: Mapping[str, Array]) -> tuple[str, ...]:
    """The layers, each of which takes what the last one gave; a critic's come after and begin anew."""
    chain: list[str] = []
    for name in _layers(tensors):
        if chain and tensors[f"{name}.weight"].shape[1] != len(tensors[f"{chain[-1]}.weight"]):
            break
        chain.append(name)
    return tuple(chain)


def _layers(tensors: Mapping[str, Array]) -> list[str]:
    """Names of the linear layers in the order of their numbers."""
    numbered = {}
    for name in tensors:
        found = re.fullmatch(r"(?:hidden|Dense)_(\d+)\.weight", name)
        if found:
            numbered[int(found[1])] = name.removesuffix(".weight")
    return [numbered[number] for number in sorted(numbered)]


def _normalizer(arrays: Mapping[str, Array], source: str) -> Normalizer:
    """Brax's running statistics, which it divides by as they are."""
    if (arrays["0.std"] <= 0).any():
        raise KDError(f"{source}: a standard deviation of its observations is not above 0")
    return scaled_by(arrays["0.mean"], arrays["0.std"], UNBOUNDED)
