"""JavaScript for pages without a server: a classic script, which a browser loads from `file://` too, as no module is.

    <script src="policy.js"></script>
    <script>const action = kd.act(observation);</script>

It defines one global, `kd` by default, with what the module of `javascript` exports.
"""

import re
from pathlib import Path

from kd_agent.errors import KDError
from kd_agent.export import javascript
from kd_agent.export._play import Played, Steps
from kd_agent.export._play_javascript import SCRIPT, in_node
from kd_agent.policies import PolicyGraph
from kd_agent.policies.safe_files import write_atomically

SUFFIX = ".js"
OPS = javascript.OPS
_RESERVED = """
Infinity NaN arguments await break case catch class const continue debugger default delete do else enum eval export
extends false finally for function if implements import in instanceof interface let new null package private protected
public return static super switch this throw true try typeof undefined var void while with yield
"""
"""Words that no variable can be named by, in strict code neither, and the constants that every script has."""
_EXPORT = re.compile(r"^export (?=(?:const|function) (\w+))", re.MULTILINE)
_GLOBAL = re.compile(r"^var (\w+) = ", re.MULTILINE)


def write(graph: PolicyGraph, path: Path, *, prefix: str = "kd") -> list[Path]:
    """Write the script.

    Args:
        graph: The policy.
        path: The file.
        prefix: Name of the global, for several policies on one page.

    Raises:
        KDError: `prefix` is not a name, or JavaScript's own.
    """
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]{0,30}", prefix):
        raise KDError(f"prefix {prefix!r} is not a JavaScript name")
    if prefix in _RESERVED.split():
        raise KDError(f"prefix {prefix!r} is a word that JavaScript keeps for itself; choose another name")
    module = javascript.module(graph)
    names = ", ".join(_EXPORT.findall(module))
    comment, _, body = _EXPORT.sub("", module).partition("\n\n")
    script = f"{comment}\nvar {prefix} = (() => {{\n{body}\nreturn {{ {names} }};\n}})();\n"
    write_atomically(path, script.encode())
    return [path]


def play(path: Path, graph: PolicyGraph, steps: Steps) -> Played:
    """Play the script in Node, in a global scope as a page has it.

    Args:
        path: The file.
        graph: The policy.
        steps: What it is asked about.
    """
    names = _GLOBAL.findall(path.read_text())
    return in_node(SCRIPT, [str(path.absolute()), names[0]], graph, steps)
