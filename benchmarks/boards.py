"""What a student costs on a microcontroller: flash, RAM, stack and time an action, beside emlearn's network.

    python benchmarks/boards.py STUDENT.safetensors ... [--observations 16]

Students of a sensible size, each some seconds of training:

    python scripts/distill_policy.py --env LunarLander-v3 --teacher TEACHER --hidden 0 --env-steps 20000
    python scripts/distill_policy.py --env LunarLander-v3 --teacher TEACHER --hidden 4 4 --env-steps 20000
    python scripts/distill_policy.py --env BipedalWalker-v3 --teacher TEACHER --hidden 12 12 --env-steps 50000

It needs avr-gcc, avr-libc, simavr, gcc-arm-none-eabi, libnewlib-arm-none-eabi and qemu-system-arm, and for its rows
`pip install -e '.[boards]'`. Flash and static RAM are those of a program with the policy less those of the same
program without one (its normaliser inside, libraries that it calls included); the stack is painted and looked at
afterwards. Simavr counts cycles. QEMU counts instructions, for it knows no cycles: a Cortex-M0 takes 1.2 to 1.5
cycles for one of them. Emlearn has no normaliser and no SiLU: its network is the student's with the statistics folded
into the first layer, and ReLU, its cheapest activation, in the place of what it lacks. On an AVR its weights lie in
RAM; of fixed-point networks 0.23 has declarations alone. Weights of 4 bits and ternary ones are the
student's rounded after training: what they cost a board does not depend on their fit.
"""

import argparse
import re
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from kd_agent import KDError, export, load_policy
from kd_agent.compress import int4, ternary
from kd_agent.policies import Array, Op, PolicyGraph

HERE = Path(__file__).parent / "boards"
FLAGS = ["-std=gnu11", "-Os", "-ffunction-sections", "-fdata-sections", "-Wl,--gc-sections", "-w"]
NAMES = {"S": "stack", "C": "mean", "W": "worst"}
"""The figures that `play.c` says, by their letters."""


@dataclass(frozen=True)
class Board:
    """How to build for a microcontroller and to run what was built.

    Attributes:
        compiler: First part of the tools' names.
        flags: That choose the processor.
        run: The simulator's command, before the program's name.
        unit: What it counts.
        ram: Bytes of the chip.
    """

    compiler: str
    flags: tuple[str, ...]
    run: tuple[str, ...]
    unit: str
    ram: int


def _qemu(machine: str) -> tuple[str, ...]:
    how = ["-nographic", "-monitor", "none", "-serial", "none", "-icount", "shift=0"]
    return ("qemu-system-arm", "-M", machine, *how, "-semihosting-config", "enable=on,target=native", "-kernel")


_BARE = ("-mthumb", "-nostartfiles", f"-T{HERE}/arm.ld", "-DBOARD=<arm.h>")
# So that what is too large is linked and measured too.
_ROOMY = ("-Wl,--defsym=__DATA_REGION_LENGTH__=60K",)
BOARDS = {
    "ATmega328P": Board(
        "avr-",
        ("-mmcu=atmega328p", "-DBOARD=<avr.h>", *_ROOMY),
        ("simavr", "-m", "atmega328p", "-f", "16000000"),
        "cycles",
        2048,
    ),
    "Cortex-M0": Board(
        "arm-none-eabi-", ("-mcpu=cortex-m0", "-DCLOCK=16000000", *_BARE), _qemu("microbit"), "instructions", 16384
    ),
    "Cortex-M4": Board(
        "arm-none-eabi-",
        ("-mcpu=cortex-m4", "-mfloat-abi=hard", "-mfpu=fpv4-sp-d16", "-DCLOCK=25000000", *_BARE),
        _qemu("mps2-an386"),
        "instructions",
        16384,
    ),
}


def ours(**options: Any) -> Callable[[PolicyGraph, Path], list[str]]:
    """A contender: the Arduino library's source, written with these options."""

    def _write(graph: PolicyGraph, folder: Path) -> list[str]:
        [library] = export(graph, folder / "policy.arduino", **options)
        call = "return (float)kd_act(obs);"
        if graph.head.kind != "categorical":
            call = "static float action[KD_ACTION_SIZE]; kd_act(obs, action); return action[0];"
        _glue(folder, '#include "policy.h"', call)
        return [f"-I{library}/src", f"{library}/src/policy.c"]

    return _write


def rounded(compress: Callable[..., PolicyGraph]) -> Callable[[PolicyGraph, Path], list[str]]:
    """A contender: int8's arithmetic, with the student's weights on a narrower grid."""

    def _write(graph: PolicyGraph, folder: Path) -> list[str]:
        return ours(int8=True)(compress(graph, {}), folder)

    return _write


def emlearn_float(graph: PolicyGraph, folder: Path) -> list[str]:
    """Emlearn's network of the same shape."""
    emlearn = import_module("emlearn")
    generate = import_module("emlearn.net").c_generate_net_loadable
    layers = [op for op in graph.ops if op.kind == "linear"]
    if len(layers) < 2:
        raise KDError("emlearn refuses a network of one layer")
    weights = [op.tensors["weight"].T.astype(float) for op in layers]
    biases = [op.tensors["bias"].astype(float) for op in layers]
    normalise = _normaliser(graph)
    mean, scale = normalise.tensors["mean"], normalise.tensors["scale"]
    biases[0] = biases[0] - (mean * scale) @ weights[0]
    weights[0] = scale[:, None] * weights[0]
    activation = "tanh" if _activation(graph) == "tanh" else "relu"
    activations = [activation] * (len(layers) - 1) + ["identity"]
    (folder / "net.h").write_text(generate(activations, weights, biases, prefix="net"))
    inputs, outputs = len(weights[0]), weights[-1].shape[1]
    call = f"return (float)net_predict(obs, {inputs});"
    if graph.head.kind != "categorical":
        call = f"static float action[{outputs}]; net_regress(obs, {inputs}, action, {outputs}); return action[0];"
    _glue(folder, '#include "net.h"', call)
    return [f"-I{Path(emlearn.__file__).parent}"]


def nothing(graph: PolicyGraph, folder: Path) -> list[str]:
    """The program without a policy."""
    _glue(folder, "", "return obs[0];")
    return []


CONTENDERS: dict[str, Callable[[PolicyGraph, Path], list[str]]] = {
    "float": ours(),
    "int8": ours(int8=True),
    "4-bit": rounded(int4.compress),
    "ternary": rounded(ternary.compress),
    "emlearn, float": emlearn_float,
}


def _normaliser(graph: PolicyGraph) -> Op:
    found = [op for op in graph.ops if op.kind == "normalise"]
    if len(found) != 1 or list(graph.observations) != ["obs"]:
        raise KDError("a board is measured with a student of one observation and a normaliser")
    return found[0]


def _activation(graph: PolicyGraph) -> str:
    return next((str(op.attributes["function"]) for op in graph.ops if op.kind == "activation"), "none")


def _glue(folder: Path, include: str, call: str) -> None:
    text = f"{include}\nstatic __attribute__((noinline)) float answer(const float *obs) {{ {call} }}\n"
    (folder / "policy_under_test.h").write_text(text)


def visited(graph: PolicyGraph, count: int) -> Array:
    """Observations `[count, F]` of which the normaliser's statistics speak."""
    normalise = _normaliser(graph)
    unit = np.random.default_rng(0).normal(size=(count, *graph.observations["obs"].shape))
    return np.asarray(normalise.tensors["mean"] + unit / normalise.tensors["scale"], np.float32)


def table(rows: Array) -> str:
    """A header with observations `[N, F]`."""
    numbers = ["{" + ", ".join(f"{number:.9e}f" for number in row) + "}" for row in rows.tolist()]
    sizes = f"#define ROWS {len(rows)}\n#define OBS_SIZE {rows.shape[1]}\n"
    inner = ",\n".join(numbers)
    return f"{sizes}static const float observations[ROWS][OBS_SIZE] TABLE = {{\n{inner}\n}};\n"


def built(board: Board, sources: list[str], folder: Path) -> dict[str, int]:
    """Bytes of flash and of static RAM of a program, which is left in the folder."""
    command = [f"{board.compiler}gcc", *FLAGS, *board.flags, "-I.", f"-I{HERE}", *sources, str(HERE / "play.c"), "-lm"]
    done = subprocess.run([*command, "-o", "program.elf"], cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr[-800:])
    said = subprocess.run(
        [f"{board.compiler}size", "program.elf"], cwd=folder, capture_output=True, text=True, check=True
    )
    text, data, bss = map(int, said.stdout.splitlines()[1].split()[:3])
    return {"flash": text + data, "ram": data + bss}


def played(board: Board, folder: Path) -> dict[str, int]:
    """What the program says of itself; nothing where it does not get to the end."""
    command = [*board.run, "program.elf"]
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120, check=False)
    except subprocess.TimeoutExpired:
        return {}
    said = dict(re.findall(r"\b([SCW])(\d+)\b", re.sub(r"\x1b\[\d*m", " ", done.stdout + done.stderr)))
    return {NAMES[letter]: int(number) for letter, number in said.items()}


def measured(graph: PolicyGraph, board: Board, write: Callable[..., list[str]], rows: Array) -> dict[str, int]:
    """Flash, static RAM, stack and counts of one contender on one board."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "observations.h").write_text(table(rows))
        empty = built(board, nothing(graph, folder), folder)
        idle = played(board, folder)
        sizes = built(board, write(graph, folder), folder)
        own = {key: sizes[key] - empty[key] for key in sizes}
        if sizes["ram"] >= board.ram:
            return own | {"missing": sizes["ram"] - board.ram}
        found = played(board, folder)
        if "mean" not in found:
            return own
        return own | {key: found[key] - idle[key] for key in found}


def named(graph: PolicyGraph) -> str:
    """A student by its environment and the sizes of its layers."""
    layers = [op.tensors["weight"].shape for op in graph.ops if op.kind == "linear"]
    sizes = [layers[0][1], *[outputs for outputs, _ in layers]]
    return f"{graph.provenance.get('env', 'a student')}, {'-'.join(map(str, sizes))}, {_activation(graph)}"


def row(student: str, board: str, contender: str, found: dict[str, int]) -> str:
    """A line of the table."""
    unit = BOARDS[board].unit
    time = "does not run | "
    if "missing" in found:
        time = f"{found['missing']:,} bytes of RAM are missing | "
    elif "mean" in found:
        time = f"{found['mean']:,} {unit} | {found['worst']:,}"
    stack = f"{found['stack']:,}" if "stack" in found else ""
    return f"| {student} | {board} | {contender} | {found['flash']:,} | {found['ram']:,} | {stack} | {time} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("students", nargs="+", type=Path)
    parser.add_argument("--observations", type=int, default=16, help="how many are answered")
    arguments = parser.parse_args()
    print("| student | board | arithmetic | flash | static RAM | stack | an action | worst |")
    print("|---|---|---|---|---|---|---|---|")
    for path in arguments.students:
        graph = load_policy(path).graph
        rows = visited(graph, arguments.observations)
        for name, board in BOARDS.items():
            for contender, write in CONTENDERS.items():
                try:
                    line = row(named(graph), name, contender, measured(graph, board, write, rows))
                except (KDError, ImportError) as error:
                    line = f"| {named(graph)} | {name} | {contender} | {error} | | | | |"
                print(line, flush=True)


if __name__ == "__main__":
    main()
