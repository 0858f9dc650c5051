"""A classic script: one global, and a page that is opened from a disk runs it, as no page runs a module there."""

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
from exported import needs
from sample_graphs import GRAPHS
from samples import make_graph

from kd_agent import KDError, export
from kd_agent.export.script import _RESERVED
from kd_agent.policies.graph import PolicyGraph
from kd_agent.policies.policy import Policy

OBSERVATION = [0.5, -1.0, 0.25, 2.0]


def evaluated(expression: str, folder: Path, *scripts: str) -> Any:
    """What an expression is in Node, behind scripts in one global scope."""
    needs("node")
    main = 'import fs from "node:fs";\nimport vm from "node:vm";\n'
    for script in scripts:
        main += f'vm.runInThisContext(fs.readFileSync("{script}", "utf8"));\n'
    (folder / "main.mjs").write_text(f"{main}console.log(JSON.stringify({expression}));\n")
    done = subprocess.run(["node", "main.mjs"], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize(
    ("graph", "names"),
    [
        (make_graph(), ["act", "obsSize", "params"]),
        (GRAPHS["gru"](), ["act", "newState", "obsSize", "params"]),
        (make_graph(provenance={"play": "sampled"}), ["act", "obsSize", "params", "sample"]),
    ],
)
def test_the_global_has_what_the_module_exports(graph: PolicyGraph, names: list[str], tmp_path: Path) -> None:
    export(graph, tmp_path / "p.js")
    assert evaluated("Object.keys(kd).sort()", tmp_path, "p.js") == names


def test_it_leaves_nothing_else_behind(tmp_path: Path) -> None:
    before = "Object.getOwnPropertyNames(globalThis).length"
    [path] = export(make_graph(), tmp_path / "p.js")
    assert evaluated(before, tmp_path, "p.js") == evaluated(before, tmp_path) + 1
    assert not re.search(r"^(import|export)\b", path.read_text(), re.MULTILINE)


def test_two_policies_share_a_page_under_names_of_their_own(tmp_path: Path) -> None:
    graphs = {"one": make_graph(), "two": make_graph("diag_gaussian")}
    for name, graph in graphs.items():
        export(graph, tmp_path / f"{name}.js", prefix=name)
    found = evaluated(f"[one.act({OBSERVATION}), two.act({OBSERVATION})]", tmp_path, "one.js", "two.js")
    assert found[0] == Policy(graphs["one"]).act(OBSERVATION)
    assert found[1] == pytest.approx(Policy(graphs["two"]).act(OBSERVATION), abs=1e-5)


@pytest.mark.parametrize("prefix", ["", "1st", "a-b", "a;evil()", "x" * 40])
def test_a_global_that_is_no_name_is_refused(prefix: str, tmp_path: Path) -> None:
    with pytest.raises(KDError, match="is not a JavaScript name"):
        export(make_graph(), tmp_path / "p.js", prefix=prefix)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("prefix", ["class", "await", "null", "undefined"])
def test_a_word_that_javascript_keeps_for_itself_is_refused(prefix: str, tmp_path: Path) -> None:
    with pytest.raises(KDError, match=f"prefix '{prefix}' is a word that JavaScript keeps for itself"):
        export(make_graph(), tmp_path / "p.js", prefix=prefix)
    assert list(tmp_path.iterdir()) == []


def test_every_word_that_node_refuses_is_refused(tmp_path: Path) -> None:
    """Words of its own grammar: whatever strict code cannot declare is in the list."""
    reserved = set(_RESERVED.split())
    words = sorted(reserved | {"kd", "of", "async", "get", "Class"})
    refused = evaluated(
        f"""{json.dumps(words)}.filter((word) => {{
            try {{
                new vm.Script(`"use strict"; var ${{word}} = 1;`).runInNewContext();
                return false;
            }} catch {{
                return true;
            }}
        }})""",
        tmp_path,
    )
    # A script may declare it, a module not.
    assert {*refused, "await"} == reserved


def test_a_page_from_a_disk_runs_it(tmp_path: Path) -> None:
    """Chromium refuses to load a module from `file://`, and runs a script."""
    needs("chromium")
    graph = make_graph()
    export(graph, tmp_path / "policy.js")
    page = f"""<!doctype html><body></body><script src="policy.js"></script>
<script>document.body.textContent = "the action is " + kd.act({OBSERVATION});</script>"""
    (tmp_path / "page.html").write_text(page)
    profile = f"--user-data-dir={tmp_path / 'profile'}"
    flags = ["--headless", "--no-sandbox", "--disable-gpu", profile, "--dump-dom"]
    command = ["chromium", *flags, (tmp_path / "page.html").as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert f"the action is {Policy(graph).act(OBSERVATION)}" in done.stdout, done.stderr
