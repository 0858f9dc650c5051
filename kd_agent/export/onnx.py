"""ONNX: inputs `obs` (or `obs.<key>`), outputs `params` and `action`, any batch size.

A recurrent policy also reads `state.<name>` and writes `state.<name>.next`. One that plays with action masks reads
`action_masks`, bool `[batch, M]`; ONNX has no input that may be left out, and all true allows everything. One that is
played by samples also writes what to draw from: `probabilities`, or `mean` and `std`. It does not draw: ONNX's random
operations cannot be seeded from outside.
"""

import json
from collections.abc import Iterator
from dataclasses import asdict
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

import kd_agent
from kd_agent.errors import KDError
from kd_agent.export._onnx import TREES, WRITERS, Nodes, input_name, type_number, value_info
from kd_agent.export._play import Played, RuntimeMissingError, Steps, all_allowed
from kd_agent.export._program import analyse, environment_of
from kd_agent.policies import MASKED, PARAMS, PLAY, SAMPLED, Array, HeadSpec, PolicyGraph, following
from kd_agent.policies.names import known_actions, number_names
from kd_agent.policies.safe_files import write_atomically

SUFFIX = ".onnx"
OPS = frozenset(WRITERS)
OPSET = 15
"""Of 2021, with the IR of version 8: onnxruntime from 1.10 on loads it, and so do the engines that lag behind."""
MASKS = "action_masks"
"""The input of what is allowed: sb3_contrib's word."""


def write(graph: PolicyGraph, path: Path, *, opset: int | None = None) -> list[Path]:
    """Write the model.

    Args:
        graph: The policy.
        path: The file.
        opset: Version of the operator set; default: `OPSET`, which runtimes of years ago load.

    Raises:
        KDError: The operator set is unknown, or too old for the policy's operations.
    """
    write_atomically(path, build(graph, opset).SerializeToString())
    return [path]


def play(path: Path, graph: PolicyGraph, steps: Steps) -> Played:
    """Play the model in onnxruntime: one batch, or step by step where it has a memory.

    Args:
        path: The file.
        graph: The policy.
        steps: What it is asked about.

    Raises:
        RuntimeMissingError: onnxruntime is not installed.
    """
    try:
        onnxruntime = import_module("onnxruntime")
    except ImportError:
        raise RuntimeMissingError("onnxruntime is not there") from None
    session = onnxruntime.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])
    feed = feed_of(graph, steps)
    if not graph.states:
        [actions] = session.run(["action"], feed)
        return Played(np.asarray(actions), "in onnxruntime")
    names = [f"state.{name}" for name in sorted(graph.states)]
    outputs = ["action", *(f"{name}.next" for name in names)]
    memory: dict[str, Array] = {}
    rows = []
    for index, starts in enumerate(steps.starts):
        if starts:
            memory = {name: np.zeros((1, *graph.states[name.removeprefix("state.")]), np.float32) for name in names}
        step = {key: array[index : index + 1] for key, array in feed.items()}
        action, *following = session.run(outputs, {**step, **memory})
        memory = dict(zip(names, following, strict=True))
        rows.append(action)
    return Played(np.concatenate(rows), "in onnxruntime")


def feed_of(graph: PolicyGraph, steps: Steps) -> dict[str, Array]:
    """The model's inputs but for the memory, `[B, ...]` by name.

    Args:
        graph: The policy.
        steps: What it is asked about.
    """
    feed: dict[str, Array] = {}
    for key, spec in graph.observations.items():
        # As `Nodes.observation` declares it.
        dtype = "float32" if np.dtype(spec.dtype).kind == "f" else spec.dtype
        feed[input_name(graph, key)] = np.asarray(steps.observations[key], dtype)
    if graph.head.expects_masks:
        feed[MASKS] = all_allowed(graph, steps)
    return feed


def build(graph: PolicyGraph, opset: int | None = None) -> Any:
    """The model, checked.

    Args:
        graph: The policy.
        opset: Version of the operator set; default: `OPSET`.
    """
    import onnx

    newest = onnx.defs.onnx_opset_version()
    asked = OPSET if opset is None else opset
    if not 1 <= asked <= newest:
        raise KDError(f"opset {asked} is unknown to the onnx package that is installed, which knows 1 to {newest}")
    model = _model(graph, asked)
    reason = _fault(model)
    if not reason:
        return model
    for later in range(asked + 1, newest + 1):
        if not _fault(_model(graph, later)):
            raise KDError(f"opset {asked} cannot express this policy; the first that can is {later}")
    raise KDError(f"no opset can express this policy: {reason}")


def _fault(model: Any) -> str:
    """What the checker of the onnx package says of a model, in one line; nothing of a good one."""
    from onnx import checker, shape_inference

    try:
        checker.check_model(model, full_check=True)
    except (checker.ValidationError, shape_inference.InferenceError) as error:
        return " ".join(str(error).split())[:200]
    return ""


def _model(graph: PolicyGraph, opset: int) -> Any:
    """The model, unchecked."""
    from onnx import helper

    program = analyse(graph)
    nodes = Nodes(program)
    inputs = [nodes.observation(key) for key in graph.observations]
    inputs += [nodes.state(name) for name in sorted(graph.states)]
    for op in graph.ops:
        nodes.registers[op.output] = WRITERS[op.kind](nodes, op)
    head = graph.head
    row = nodes.registers[program.row]
    if head.expects_masks:
        inputs.append(value_info(MASKS, "bool", (head.num_masks,)))
        row = _masked(nodes, row, head)
        nodes.registers[PARAMS] = row
    outputs = [nodes.result(PARAMS, nodes.registers[PARAMS], "float32", (head.num_params,))]
    outputs.append(nodes.result("action", _action(nodes, row, head), head.dtype, head.shape))
    if graph.sampled:
        outputs += _distribution(nodes, nodes.registers[PARAMS], head)
    for name in sorted(graph.states):
        source = nodes.registers[following(name)]
        outputs.append(nodes.result(f"state.{name}.next", source, "float32", graph.states[name]))
    versions = [helper.make_opsetid("", opset)]
    if any(op.kind == "tree" for op in graph.ops):
        versions.append(helper.make_opsetid(TREES, 1))
    model = helper.make_model(
        helper.make_graph(nodes.nodes, "policy", inputs, outputs, nodes.constants),
        opset_imports=versions,
        # The oldest that these operators allow: runtimes refuse files that are newer than they are.
        ir_version=helper.find_min_ir_version_for(versions),
        producer_name="kd_agent",
        producer_version=kd_agent.__version__,
        doc_string=_description(graph),
    )
    helper.set_model_props(model, _metadata(graph))
    return model


def _description(graph: PolicyGraph) -> str:
    """What the model is, in some sentences for whoever finds the file."""
    sentences = [
        f"A policy for {environment_of(graph)}, written by kd_agent {kd_agent.__version__}.",
        "Inputs are observations as the environment gives them, any number at a time: the normaliser is inside.",
        f"`params` are the parameters of its distribution of actions ({graph.head.kind}),",
        "`action` is the greedy action in the environment's units.",
    ]
    if graph.sampled:
        sentences.append(f"It was judged by samples: draw its actions, from {_drawn_from(graph.head)}.")
    if graph.states:
        sentences.append("It has a memory: `state.*` are zeros where an episode starts, then what `state.*.next` were.")
    return " ".join(sentences)


def _drawn_from(head: HeadSpec) -> str:
    if not head.is_gaussian:
        return "`probabilities`, laid out as `params`"
    if head.kind == "squashed_gaussian":
        return "the Gaussian of `mean` and `std`, then tanh and the action space's bounds"
    return "the Gaussian of `mean` and `std`, clipped to the action space's bounds"


def _metadata(graph: PolicyGraph) -> dict[str, str]:
    """The environment, what goes in and comes out, and what its documentation calls the numbers of both."""
    env_id = str(graph.provenance.get("env", ""))
    observations = {key: asdict(spec) for key, spec in graph.observations.items()}
    features: dict[str, tuple[str, ...]] = {}
    for key, spec in graph.observations.items():
        features[key] = number_names(env_id, spec.shape)
    play = {PLAY: SAMPLED} if graph.sampled else {}
    return {
        "env": env_id,
        **play,
        "observations": json.dumps(observations),
        "features": json.dumps(features),
        "head": json.dumps(graph.head.to_json()),
        "actions": json.dumps(known_actions(env_id, graph.head)),
    }


def _masked(n: Nodes, row: str, head: HeadSpec) -> str:
    """The row under the mask: `HeadSpec.where_allowed`."""
    least = n.constant(MASKED)
    if head.kind != "bernoulli":
        return n.add("Where", MASKS, row, least)
    no = n.add("Gather", MASKS, n.whole(*range(0, head.num_masks, 2)), axis=1)
    yes = n.add("Gather", MASKS, n.whole(*range(1, head.num_masks, 2)), axis=1)
    lifted = n.add("Where", yes, n.constant(-MASKED), n.constant(0.0))
    forced = n.add("Where", no, least, lifted)
    return n.add("Where", n.add("And", no, yes), row, forced)


def _distribution(n: Nodes, row: str, head: HeadSpec) -> list[Any]:
    """Outputs that a sampled action is drawn from, of the whole row."""
    if head.is_gaussian:
        size = head.num_acting
        mean = n.result("mean", n.columns(row, 0, size), "float32", (size,))
        return [mean, n.result("std", n.add("Exp", n.columns(row, size, 2 * size)), "float32", (size,))]
    if head.kind == "bernoulli":
        share = n.add("Sigmoid", row)
    else:
        share = n.add("Concat", *[n.add("Softmax", part, axis=-1) for part in _parts(n, row, head)], axis=-1)
    return [n.result("probabilities", share, "float32", (head.num_params,))]


def _action(n: Nodes, row: str, head: HeadSpec) -> str:
    """The greedy action `[B, *A]` of the register's value `row`."""
    if head.kind == "categorical":
        return n.add("Cast", _best(n, row, head.start[0], keepdims=0), to=type_number(head.dtype))
    if head.kind == "multi_categorical":
        flat = n.add("Concat", *_best_of_each(n, row, head), axis=-1)
    elif head.kind == "bernoulli":
        flat = n.add("Greater", row, n.constant(0.0))
    else:
        # `row` may hold log standard deviations behind the means.
        flat = _to_box(n, n.columns(row, 0, head.num_acting), head)
    return n.add("Reshape", n.add("Cast", flat, to=type_number(head.dtype)), n.whole(-1, *head.shape))


def _best_of_each(n: Nodes, row: str, head: HeadSpec) -> list[str]:
    """The best category of each part, `[B, 1]`."""
    parts: list[str] = []
    for logits, start in zip(_parts(n, row, head), head.start, strict=True):
        parts.append(_best(n, logits, start, keepdims=1))
    return parts


def _parts(n: Nodes, row: str, head: HeadSpec) -> Iterator[str]:
    """The logits `[B, n]` of each part, added one by one."""
    first = 0
    for count in head.nvec:
        yield n.columns(row, first, first + count)
        first += count


def _best(n: Nodes, logits: str, start: int, keepdims: int) -> str:
    return n.add("Add", n.add("ArgMax", logits, axis=-1, keepdims=keepdims), n.constant(start, "int64"))


def _to_box(n: Nodes, latent: str, head: HeadSpec) -> str:
    low = np.asarray(head.low, np.float32)
    high = np.asarray(head.high, np.float32)
    if head.kind == "squashed_gaussian":
        unit = n.add("Add", n.add("Tanh", latent), n.constant(1.0))
        return n.add("Add", n.add("Mul", unit, n.constant(0.5 * (high - low))), n.constant(low))
    # Not Clip, whose bounds are single numbers.
    return n.add("Min", n.add("Max", latent, n.constant(low)), n.constant(high))
