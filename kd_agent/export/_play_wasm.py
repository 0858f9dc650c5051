"""Generated WebAssembly, played by Node."""

from pathlib import Path

from kd_agent.export._play import Played, Steps, by_node
from kd_agent.policies import PolicyGraph

_ASK = """\
import fs from "node:fs";
const module = new WebAssembly.Module(fs.readFileSync(process.argv[2]));
const policy = new WebAssembly.Instance(module).exports;
const view = (kind, at, size) => new kind(policy.memory.buffer, at, size);
const raw = fs.readFileSync(0);
const all = new Float32Array(raw.buffer, raw.byteOffset, raw.length / 4);
const obsSize = policy.obs_size(), masks = policy.num_masks(), size = policy.action_size();
const columns = 1 + obsSize + masks;
const answers = [];
for (let i = 0; i < all.length; i += columns) {
    if (all[i] && policy.state) view(Float32Array, policy.state(), policy.state_size()).fill(0);
    view(Float32Array, policy.obs(), obsSize).set(all.subarray(i + 1, i + 1 + obsSize));
    if (masks) view(Uint8Array, policy.mask(), masks).set(all.subarray(i + 1 + obsSize, i + columns));
    const action = policy.act();
    answers.push(...(size ? view(Float32Array, action, size) : [action]));
}
fs.writeFileSync(1, new Uint8Array(Float64Array.from(answers).buffer));
"""


def in_node(path: Path, graph: PolicyGraph, steps: Steps) -> Played:
    """What Node answers.

    Args:
        path: The module.
        graph: The policy.
        steps: What it is asked about.

    Raises:
        RuntimeMissingError: Node is not there.
        KDError: It fails.
    """
    return by_node(_ASK, [str(path.absolute())], graph, steps)
