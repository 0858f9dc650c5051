"""WebAssembly: the C of the policy, compiled for browsers, Node and every other runtime, and a page that plays it.

The module imports nothing. It exports its `memory` and, each without arguments, where its arrays lie: `obs()`, and
where the policy has them `state()` (the memory, zeros where an episode starts) and `mask()` (a flag an action, at
first all 1). `act()` reads them and answers with the action's number or where the action's floats lie, `params()`
with where the parameters lie. `obs_size()`, `num_params()`, `action_size()` (0 where the action is a number),
`state_size()` and `num_masks()` say how long they are. A policy that is played by samples has `sample()` and
`seed()`, where its generator's word lies.
"""

import importlib.util
import shutil
import sys
import tempfile
from pathlib import Path
from string import Template

from kd_agent.errors import KDError
from kd_agent.export._loops import WRITERS
from kd_agent.export._play import Played, Steps, ran
from kd_agent.export._play_wasm import in_node
from kd_agent.export._wasm_page import page
from kd_agent.export.c import generate
from kd_agent.policies import PolicyGraph
from kd_agent.policies.safe_files import write_atomically

SUFFIX = ".wasm"
OPS = frozenset(WRITERS)
# Freestanding: without it compilers turn loops into calls of memset, and there is no library.
_FLAGS = ("-std=c99", "-O3", "-ffreestanding", "-fno-math-errno", "-nostdlib", "-Wl,--no-entry", "-Wl,--strip-all")
_CLANG = ("--target=wasm32",)
_ZIG = ("-target", "wasm32-freestanding")
_GLUE = Template("""\
#include "policy.c"
#define EXPORT(name) __attribute__((export_name(name)))
static float observation[KD_OBS_SIZE], parameters[KD_NUM_PARAMS];
EXPORT("obs") float *at_obs(void) { return observation; }
EXPORT("obs_size") int size_of_obs(void) { return KD_OBS_SIZE; }
EXPORT("num_params") int number_of_params(void) { return KD_NUM_PARAMS; }
#ifdef KD_STATE_SIZE
static float memory[KD_STATE_SIZE];
#define STATE , memory
EXPORT("state") float *at_state(void) { return memory; }
EXPORT("state_size") int size_of_state(void) { return KD_STATE_SIZE; }
#else
#define STATE
EXPORT("state_size") int size_of_state(void) { return 0; }
#endif
#ifdef KD_NUM_MASKS
static unsigned char flags[KD_NUM_MASKS] = {$allowed};
#define MASK , flags
EXPORT("mask") unsigned char *at_mask(void) { return flags; }
EXPORT("num_masks") int number_of_masks(void) { return KD_NUM_MASKS; }
#else
#define MASK
EXPORT("num_masks") int number_of_masks(void) { return 0; }
#endif
#ifdef KD_NUM_ACTIONS
EXPORT("action_size") int size_of_action(void) { return 0; }
EXPORT("act") int act(void) { return kd_act(observation STATE MASK); }
#else
static float action[KD_ACTION_SIZE];
EXPORT("action_size") int size_of_action(void) { return KD_ACTION_SIZE; }
EXPORT("act") float *act(void) {
    kd_act(observation STATE MASK, action);
    return action;
}
#endif
EXPORT("params") float *params(void) {
    kd_params(observation STATE MASK, parameters);
    return parameters;
}
""")
_SAMPLE = """\
static uint32_t word;
EXPORT("seed") uint32_t *at_seed(void) { return &word; }
#ifdef KD_NUM_ACTIONS
EXPORT("sample") int sample(void) { return kd_sample(observation STATE MASK, &word); }
#else
EXPORT("sample") float *sample(void) {
    kd_sample(observation STATE MASK, action, &word);
    return action;
}
#endif
"""


def write(graph: PolicyGraph, path: Path, *, int8: bool = False) -> list[Path]:
    """Write the module and, beside it, the page, which holds the module too and opens from a disk.

    Args:
        graph: The policy.
        path: The module, `<name>.wasm`.
        int8: Whether linear layers compute with int8 weights.

    Raises:
        KDError: There is no compiler, or it fails.
    """
    beside = path.with_suffix(".html")
    if beside == path:
        raise KDError(f"{path.name}: the page beside the module has this name; let the module end in .wasm")
    header, source = generate(graph, "policy.h", int8=int8)
    flags = graph.head.num_masks if graph.head.expects_masks else 0
    glue = _GLUE.substitute(allowed=", ".join(["1"] * flags))
    if graph.sampled:
        glue += _SAMPLE
    module = _compiled({"policy.h": header, "policy.c": source, "glue.c": glue})
    write_atomically(path, module)
    write_atomically(beside, page(graph, module).encode())
    return [path, beside]


def play(path: Path, graph: PolicyGraph, steps: Steps) -> Played:
    """Play the module in Node.

    Args:
        path: The module.
        graph: The policy.
        steps: What it is asked about.
    """
    return in_node(path, graph, steps)


def _compiled(sources: dict[str, str]) -> bytes:
    """The module of `glue.c`, which includes the others."""
    with tempfile.TemporaryDirectory() as folder:
        for name, text in sources.items():
            (Path(folder) / name).write_text(text)
        ran([*_compiler(), *_FLAGS, "glue.c", "-o", "policy.wasm"], folder=Path(folder))
        return (Path(folder) / "policy.wasm").read_bytes()


def _compiler() -> list[str]:
    """The command of clang, which needs lld beside it, or of pip's ziglang."""
    clang = shutil.which("clang")
    if clang and shutil.which("wasm-ld"):
        return [clang, *_CLANG]
    if importlib.util.find_spec("ziglang"):
        return [sys.executable, "-m", "ziglang", "cc", *_ZIG]
    lacking = "wasm-ld (Debian: lld)" if clang else "clang"
    raise KDError(f"exporting to wasm needs {lacking}, or the Python package ziglang: apt-get install clang lld")
