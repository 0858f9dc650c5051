"""Generated C, compiled and played: a main program that asks it step by step."""

import math
import re
import tempfile
from pathlib import Path
from string import Template

from kd_agent.export._play import Played, Steps, c_compiler, piped, ran
from kd_agent.policies import PolicyGraph

# Letters of the template: what begins with $ is put in; it comes from the policy's sizes and from checked names.
_MAIN = Template("""\
#include <stdio.h>
#include <string.h>
#include "$header"
static float row[$columns], state[$memory], action[$size];
static unsigned char mask[$masks];
static double answer[$size];
int main(void) {
    while (fread(row, sizeof row, 1, stdin) == 1) {
        int i;
        if (row[0] != 0.0f) memset(state, 0, sizeof state);
        for (i = 0; i < $masks; i++) mask[i] = row[$columns - $masks + i] != 0.0f;
        $ask
        fwrite(answer, sizeof answer, 1, stdout);
    }
    return 0;
}
""")


def compiled(path: Path, graph: PolicyGraph, steps: Steps) -> Played:
    """Compile a written policy into a program in a folder of its own, and ask it.

    Args:
        path: The source file; its header lies beside it.
        graph: The policy.
        steps: What it is asked about.

    Raises:
        RuntimeMissingError: There is no C compiler.
        KDError: The compiler or the program fails.
    """
    compiler = c_compiler()
    with tempfile.TemporaryDirectory() as folder:
        main, program = Path(folder) / "main.c", Path(folder) / "main"
        main.write_text(_main(graph, path.with_suffix(".h")))
        # The language is said, because a file's name may not say it.
        ran([*compiler, "-std=c99", "-O2", f"-I{path.parent}", "-x", "c", main, path, "-o", program])
        actions = piped([program], graph, steps)
    return Played(actions, f"compiled by {Path(compiler[0]).name}")


def _main(graph: PolicyGraph, header: Path) -> str:
    """The main program."""
    prefixes = re.findall(r"(\w+)_act\(", header.read_text())
    arguments = ["row + 1"]
    if graph.states:
        arguments.append("state")
    masks = 0
    if graph.head.expects_masks:
        arguments.append("mask")
        masks = graph.head.num_masks
    size = math.prod(graph.head.shape)
    if graph.head.kind == "categorical":
        ask = f"answer[0] = {prefixes[0]}_act({', '.join(arguments)});"
    else:
        call = f"{prefixes[0]}_act({', '.join([*arguments, 'action'])});"
        ask = f"{call} for (i = 0; i < {size}; i++) answer[i] = action[i];"
    observed = sum(math.prod(spec.shape) for spec in graph.observations.values())
    # C has no arrays of length 0.
    return _MAIN.substitute(
        header=header.name,
        columns=1 + observed + masks,
        memory=sum(map(math.prod, graph.states.values())) or 1,
        masks=masks or 1,
        size=size,
        ask=ask,
    )
