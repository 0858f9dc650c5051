"""Actions drawn from a WebAssembly module in Node."""

import json
import subprocess
from pathlib import Path
from typing import Any

from draws import DRAWS, OBSERVATION
from exported import needs

from kd_agent import export
from kd_agent.policies.graph import PolicyGraph

WASM = """
import fs from "node:fs";
const policy = new WebAssembly.Instance(new WebAssembly.Module(fs.readFileSync("policy.wasm"))).exports;
const view = (kind, at, size) => new kind(policy.memory.buffer, at, size);
view(Float32Array, policy.obs(), policy.obs_size()).set(OBSERVATION);
if (policy.mask) view(Uint8Array, policy.mask(), policy.num_masks()).set(MASK);
view(Uint32Array, policy.seed(), 1)[0] = 1;
const size = policy.action_size();
const drawn = [];
for (let i = 0; i < DRAWS; i++) {
    const action = policy.sample();
    drawn.push(size ? [...view(Float32Array, action, size)] : action);
}
console.log(JSON.stringify(drawn));
"""


def by_wasm(graph: PolicyGraph, mask: Any, folder: Path) -> Any:
    for tool in ("clang", "wasm-ld", "node"):
        needs(tool)
    export(graph, folder / "policy.wasm")
    text = WASM.replace("DRAWS", str(DRAWS)).replace("OBSERVATION", json.dumps(OBSERVATION.tolist()))
    (folder / "main.mjs").write_text(text.replace("MASK", json.dumps(mask)))
    return json.loads(subprocess.run(["node", "main.mjs"], cwd=folder, capture_output=True, check=True).stdout)
