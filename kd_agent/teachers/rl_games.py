"""Checkpoints of rl_games (`.pth`): the actor of its PPO, behind its running mean, with its LSTM or GRU."""

from collections.abc import Mapping
from typing import Any

from kd_agent.errors import KDError
from kd_agent.policies import Array, Normalizer
from kd_agent.teachers import _layout
from kd_agent.teachers._checkpoint import Checkpoint, outline_of, read_checkpoint
from kd_agent.teachers._graph_teacher import GraphTeacher
from kd_agent.teachers._layout import Layout, LogStd, ordered
from kd_agent.teachers._request import Request
from kd_agent.teachers._weights import teacher_of

ASSUMED = _layout.ASSUMED
EPSILON, CLIP = 1e-5, 5.0
"""What RunningMeanStd adds to the variance, and where it clips; no file says either."""
_COMPILED = "_orig_mod."
"""What torch.compile puts before the names of what it compiled."""
_MODEL = "model."
_NETWORK = "a2c_network."


def accepts(source: Any) -> bool:
    """Whether this plug-in reads `source`."""
    outline = outline_of(source)
    if outline is None or outline.script:
        return False
    return any(_plain(name).startswith(f"{_MODEL}{_NETWORK}") for name in outline.stored)


def load(source: str, request: Request) -> GraphTeacher:
    """Load a checkpoint.

    Args:
        source: Path of the file.
        request: How it is asked for.

    Raises:
        KDError: It is damaged, of a make that is not known here, or does not fit the environment.
    """
    checkpoint = read_checkpoint(source)
    model = {_plain(name): array for name, array in checkpoint.tensors(_MODEL).items()}
    tensors = {}
    for name, array in model.items():
        if name.startswith(_NETWORK):
            tensors[name.removeprefix(_NETWORK)] = array
    hidden = ordered(tensors, r"actor_mlp\.\d+")
    answer = ordered(tensors, r"logits(\.\d+)?|mu")
    if not answer:
        raise KDError(f"{source}: a checkpoint of rl_games without an actor of its A2C builder")
    memory = next((name for name in ("rnn.rnn", "a_rnn.rnn") if f"{name}.weight_ih_l0" in tensors), None)
    layout = Layout(
        library="rl_games",
        algo="rl_games PPO",
        hidden=hidden,
        answer=answer,
        normalizer=_normalizer(checkpoint, model),
        memory=memory,
        memory_first=memory is not None and _comes_first(tensors, memory, hidden, answer[0], source),
        log_std=_log_std(tensors),
        activation="elu",
        # Its players clip actions to [-1, 1] and scale them to the Box (clip_actions, on by default).
        squash="clip",
        continuous=answer == ("mu",),
        bystanders=r"value(\.|_|$).*|critic_(mlp|cnn)\..*|c_rnn\..*|sigma(\..*)?",
    )
    return teacher_of(layout, tensors, source, checkpoint.sha256, request)


def _plain(name: str) -> str:
    return name.replace(_COMPILED, "")


def _log_std(tensors: Mapping[str, Array]) -> LogStd:
    if "sigma.weight" in tensors:
        return LogStd(layer="sigma")
    return LogStd(tensors.get("sigma"))


def _normalizer(checkpoint: Checkpoint, model: Mapping[str, Array]) -> Normalizer | None:
    """RunningMeanStd, of the model or (before version 1.4) beside it."""
    beside = checkpoint.tensors("running_mean_std.")
    mean = model.get("running_mean_std.running_mean", beside.get("running_mean"))
    var = model.get("running_mean_std.running_var", beside.get("running_var"))
    if mean is None or var is None:
        return None
    return Normalizer(mean.astype("float64"), var.astype("float64"), CLIP, EPSILON)


def _comes_first(tensors: Mapping[str, Array], memory: str, hidden: tuple[str, ...], answer: str, source: str) -> bool:
    """Whether the memory comes before the hidden layers (`before_mlp`), told by what each layer takes.

    Raises:
        KDError: It may be either, or the memory is beside something else (`concat_input`, `concat_output`).
    """
    taken = tensors[f"{memory}.weight_ih_l0"].shape[1]
    units = tensors[f"{memory}.weight_hh_l0"].shape[1]
    if not hidden:
        return True
    first = tensors[f"{hidden[0]}.weight"].shape[1]
    last = len(tensors[f"{hidden[-1]}.weight"])
    read = tensors[f"{answer}.weight"].shape[1]
    before = bool(first == units and read == last)
    after = bool(taken == last and read == units)
    if before == after:
        raise KDError(f"{source}: whether its memory comes before its layers cannot be told by their sizes")
    return before
