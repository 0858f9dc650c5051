"""Generated Python, played by a Python of its own."""

import sys
import tempfile
from pathlib import Path

from kd_agent.export._play import Played, Steps, piped
from kd_agent.policies import PolicyGraph

_MAIN = """\
import importlib.machinery
import importlib.util
import struct
import sys

loader = importlib.machinery.SourceFileLoader("policy", sys.argv[1])  # whatever the file's name ends in
spec = importlib.util.spec_from_loader("policy", loader)
policy = importlib.util.module_from_spec(spec)
spec.loader.exec_module(policy)
masks = getattr(policy, "NUM_MASKS", 0)
end = 1 + policy.OBS_SIZE
state = []
for start, *numbers in struct.iter_unpack(f"={end + masks}f", sys.stdin.buffer.read()):
    arguments = [numbers[: policy.OBS_SIZE]]
    if hasattr(policy, "new_state"):
        state = policy.new_state() if start else state
        arguments.append(state)
    if masks:
        arguments.append([flag != 0 for flag in numbers[policy.OBS_SIZE :]])
    action = policy.act(*arguments)
    answer = action if isinstance(action, list) else [action]
    sys.stdout.buffer.write(struct.pack(f"={len(answer)}d", *answer))
"""


def in_python(path: Path, graph: PolicyGraph, steps: Steps) -> Played:
    """What a Python answers that knows of nothing but the file.

    Args:
        path: The file.
        graph: The policy.
        steps: What it is asked about.

    Raises:
        KDError: It fails.
    """
    with tempfile.TemporaryDirectory() as folder:
        main = Path(folder) / "main.py"
        main.write_text(_MAIN)
        actions = piped([sys.executable, main, path.absolute()], graph, steps)
    return Played(actions, "in Python")
