"""Generated C#, compiled and played by Mono: a main program that asks it step by step."""

import math
import re
import tempfile
from pathlib import Path
from string import Template

from kd_agent.export._play import Played, Steps, piped, program, ran
from kd_agent.policies import PolicyGraph

# Letters of the template: what begins with $ is put in; it comes from the policy's sizes and from a checked name.
_MAIN = Template("""\
using System;
using System.IO;
static class Program
{
    static void Main()
    {
        var obs = new float[$observed];
        var state = new float[$memory];
        var mask = new bool[$masks];
        var action = new $type[$size];
        var bytes = new byte[4 * $columns];
        var row = new float[$columns];
        var input = new BinaryReader(Console.OpenStandardInput());
        var output = new BinaryWriter(Console.OpenStandardOutput());
        while ((bytes = input.ReadBytes(bytes.Length)).Length == 4 * $columns)
        {
            Buffer.BlockCopy(bytes, 0, row, 0, bytes.Length);
            if (row[0] != 0.0f) Array.Clear(state, 0, state.Length);
            Array.Copy(row, 1, obs, 0, $observed);
            for (int i = 0; i < $masks; i++) mask[i] = row[1 + $observed + i] != 0.0f;
            $ask
            for (int i = 0; i < $size; i++) output.Write((double)action[i]);
        }
        output.Flush();
    }
}
""")


def by_mono(path: Path, graph: PolicyGraph, steps: Steps) -> Played:
    """Compile a written class into a program in a folder of its own, and ask it.

    Args:
        path: The file.
        graph: The policy.
        steps: What it is asked about.

    Raises:
        RuntimeMissingError: Mono or its compiler is not there.
        KDError: One of them fails.
    """
    compiler, mono = program("mcs"), program("mono")
    with tempfile.TemporaryDirectory() as folder:
        main, executable = Path(folder) / "main.cs", Path(folder) / "main.exe"
        main.write_text(_main(path, graph))
        ran([compiler, f"-out:{executable}", main, path.absolute()])
        actions = piped([mono, executable], graph, steps)
    return Played(actions, "by mono")


def _main(path: Path, graph: PolicyGraph) -> str:
    """The main program."""
    head = graph.head
    [name] = re.findall(r"^public static class (\w+)", path.read_text(), re.MULTILINE)
    arguments = ["obs"]
    if graph.states:
        arguments.append("state")
    if head.kind != "categorical":
        arguments.append("action")
    masks = 0
    if head.expects_masks:
        arguments.append("mask")
        masks = head.num_masks
    ask = f"{name}.Act({', '.join(arguments)});"
    if head.kind == "categorical":
        ask = f"action[0] = {ask}"
    observed = sum(math.prod(spec.shape) for spec in graph.observations.values())
    return _MAIN.substitute(
        observed=observed,
        columns=1 + observed + masks,
        memory=sum(map(math.prod, graph.states.values())),
        masks=masks,
        size=math.prod(head.shape),
        type="float" if head.is_gaussian else "int",
        ask=ask,
    )
