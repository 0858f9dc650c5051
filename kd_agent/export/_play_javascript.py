"""Generated JavaScript, played by Node: a module as it imports one, a classic script as a page runs it."""

from kd_agent.export._play import Played, Steps, by_node
from kd_agent.policies import PolicyGraph

MODULE = "const policy = await import(pathToFileURL(process.argv[2]).href);"
"""How a module is loaded."""
SCRIPT = """\
vm.runInThisContext(fs.readFileSync(process.argv[2], "utf8"));
const policy = globalThis[process.argv[3]];"""
"""How a classic script is run, which leaves a global behind."""
_IMPORTS = """\
import fs from "node:fs";
import vm from "node:vm";
import { pathToFileURL } from "node:url";
"""
_ASK = """
const raw = fs.readFileSync(0);
const all = new Float32Array(raw.buffer, raw.byteOffset, raw.length / 4);
const masks = policy.numMasks ?? 0;
const columns = 1 + policy.obsSize + masks;
const answers = [];
let state;
for (let i = 0; i < all.length; i += columns) {
    if (all[i] && policy.newState) state = policy.newState();
    const words = [all.subarray(i + 1, i + 1 + policy.obsSize)];
    if (policy.newState) words.push(state);
    if (masks) words.push(Array.from(all.subarray(i + columns - masks, i + columns), Boolean));
    answers.push(...[policy.act(...words)].flat());
}
fs.writeFileSync(1, new Uint8Array(Float64Array.from(answers).buffer));
"""


def in_node(load: str, arguments: list[str], graph: PolicyGraph, steps: Steps) -> Played:
    """What Node answers.

    Args:
        load: `MODULE` or `SCRIPT`.
        arguments: The path of the file, and for a script the name of its global.
        graph: The policy.
        steps: What it is asked about.

    Raises:
        RuntimeMissingError: Node is not there.
        KDError: It fails.
    """
    return by_node(_IMPORTS + load + _ASK, arguments, graph, steps)
