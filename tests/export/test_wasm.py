"""WebAssembly: one module that imports nothing, a page that holds it, and one line where there is no compiler."""

import base64
import json
import re
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from compilers import without_compiler
from draws import sampled_graph
from exported import by_c, by_numpy, by_wasm, needs
from masked_agents import masked_graph
from sample_graphs import GRAPHS, linear, observations_for
from samples import HEADS, make_graph

from kd_agent import KDError, export
from kd_agent.export import wasm
from kd_agent.policies.graph import ObservationSpec, PolicyGraph


def evaluated(graph: PolicyGraph, expression: str, folder: Path) -> Any:
    """What an expression of `policy`, the module's exports, is in Node."""
    needs("node")
    export(graph, folder / "policy.wasm")
    main = f"""
import fs from "node:fs";
const module = new WebAssembly.Module(fs.readFileSync("policy.wasm"));
const policy = new WebAssembly.Instance(module).exports;
const floats = (at, size) => new Float32Array(policy.memory.buffer, at, size);
console.log(JSON.stringify({expression}));
"""
    (folder / "main.mjs").write_text(main)
    done = subprocess.run(["node", "main.mjs"], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(autouse=True)
def _compiler() -> None:
    needs("clang")
    needs("wasm-ld")


def test_the_module_imports_nothing_and_exports_what_a_caller_needs(tmp_path: Path) -> None:
    names = "[WebAssembly.Module.imports(module), Object.keys(policy).sort()]"
    (tmp_path / "gru").mkdir()
    sizes = ["action_size", "num_masks", "num_params", "obs_size", "state_size"]
    always = {"act", "memory", "obs", "params", *sizes}
    assert evaluated(make_graph(), names, tmp_path) == [[], sorted(always)]
    assert evaluated(GRAPHS["gru"](), names, tmp_path / "gru") == [[], sorted({*always, "state"})]


def test_int8_answers_bit_for_bit_as_c_does(tmp_path: Path) -> None:
    graph = make_graph("diag_gaussian", hidden=(8, 8))
    observations = observations_for(graph, 500)
    found = by_wasm(graph, observations, tmp_path, int8=True)
    expected = by_c(graph, observations, tmp_path, int8=True)
    np.testing.assert_array_equal(found.params.view(np.int32), expected.params.view(np.int32))
    floats = by_wasm(graph, observations, tmp_path)
    assert (floats.params != found.params).any()


def test_a_mask_forbids_the_best_action(tmp_path: Path) -> None:
    graph = masked_graph()
    steps = """(() => {
        const first = policy.act();
        const flags = new Uint8Array(policy.memory.buffer, policy.mask(), policy.num_masks());
        const all = [...flags];
        flags[first] = 0;
        return [first, all, policy.act()];
    })()"""
    first, flags, second = evaluated(graph, steps, tmp_path)
    assert flags == [1] * graph.head.num_masks
    assert first != second


def test_a_sampled_policy_draws_by_its_seed(tmp_path: Path) -> None:
    graph = sampled_graph()
    steps = """[1, 1, 2].map((seed) => {
        new Uint32Array(policy.memory.buffer, policy.seed(), 1)[0] = seed;
        return Array.from({ length: 40 }, () => policy.sample());
    })"""
    first, same, other = evaluated(graph, steps, tmp_path)
    assert first == same != other
    assert len(set(first)) > 1


def script(page: str) -> str:
    """The one script of a page."""
    [text] = re.findall(r"<script>(.*?)</script>", page, re.DOTALL)
    return str(text)


def test_the_page_holds_the_module_and_names_what_it_shows(tmp_path: Path) -> None:
    module, page = export(make_graph(), tmp_path / "policy.wasm")
    text = page.read_text()
    assert page.name == "policy.html"
    [encoded] = re.findall(r'atob\("(.*?)"\)', text)
    assert base64.b64decode(encoded) == module.read_bytes()
    assert "pole angular velocity" in text  # CartPole's, by its documentation
    # From a disk a browser fetches nothing, and a server may forbid what comes from elsewhere.
    assert not re.search(r"(?:src|href)=|import |fetch\(|https?:", text)


# Of a browser only what the page asks for: elements with an id, made ones, and no more.
DOM = """
const elements = {};
const make = () => ({ append() {}, replaceChildren() {} });
globalThis.document = { getElementById: (id) => (elements[id] ??= make()), createElement: make };
"""


@pytest.mark.parametrize("name", ["categorical", "diag_gaussian", "gru", "pixels"])
def test_the_page_shows_the_action_of_what_its_inputs_say(name: str, tmp_path: Path) -> None:
    needs("node")
    graph = GRAPHS[name]()
    _, page = export(graph, tmp_path / "policy.wasm")
    ask = "elements.draw.onclick(); elements.step?.onclick?.(); console.log(elements.action.value, obs.length);"
    main = DOM + script(page.read_text()) + ask
    done = subprocess.run(["node", "--input-type=module", "-"], input=main, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert re.fullmatch(r"(\S+ ?)+ \d+\n", done.stdout)
    assert "NaN" not in done.stdout


@pytest.mark.parametrize("kind", ["categorical", "diag_gaussian"])
def test_a_slider_moves_what_is_observed(kind: str, tmp_path: Path) -> None:
    needs("node")
    graph = make_graph(kind)
    _, page = export(graph, tmp_path / "policy.wasm")
    ask = """
const seen = [];
for (let k = 0; k < 60; k++) {
    const [slider, number] = sliders[k % 4];
    const from = k % 2 ? slider : number;
    from.valueAsNumber = from.value = 3 * Math.sin(k);
    from.oninput();
    seen.push([[...obs], elements.action.value, (k % 2 ? number : slider).value]);
}
console.log(JSON.stringify(seen));
"""
    main = DOM + script(page.read_text()) + ask
    done = subprocess.run(["node", "--input-type=module", "-"], input=main, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout)
    observations = np.float32([row[0] for row in seen])
    actions = by_numpy(graph, {"obs": observations}).actions
    shown = [
        ", ".join(f"{number:.3f}" if kind != "categorical" else str(int(number)) for number in row) for row in actions
    ]
    assert [row[1] for row in seen] == shown
    assert len(set(shown)) > 1
    for k, row in enumerate(seen):
        assert observations[k, k % 4] == np.float32(row[2])


def test_no_string_of_a_file_reaches_the_page(tmp_path: Path) -> None:
    evil = "</script><script>alert(1)</script><img src=x onerror=alert(2)>${alert(3)}"
    ops = (linear(evil, "params", 4, 4),)
    graph = PolicyGraph({evil: ObservationSpec((4,), "float32")}, ops, HEADS["categorical"].spec, {"env": evil})
    _, page = export(graph, tmp_path / "policy.wasm")
    text = page.read_text()
    assert text.count("<script>") == 1
    assert "<img" not in text
    assert "$" not in text
    assert text.isascii()


def test_without_a_compiler_one_line_says_what_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    without_compiler(tmp_path, monkeypatch)
    with pytest.raises(KDError, match=r"wasm needs clang, .*ziglang: apt-get install clang lld"):
        export(make_graph(), tmp_path / "policy.wasm")
    (tmp_path / "empty" / "clang").write_text("#!/bin/sh\n")
    (tmp_path / "empty" / "clang").chmod(0o755)
    with pytest.raises(KDError, match=r"wasm needs wasm-ld \(Debian: lld\)"):
        export(make_graph(), tmp_path / "policy.wasm")
    assert not list(tmp_path.glob("policy.*"))


def test_a_compiler_that_fails_is_quoted_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wasm, "_GLUE", wasm.Template("int evil(void) { return nonsense; }\n"))
    with pytest.raises(KDError, match=r"clang failed: .*nonsense") as caught:
        export(make_graph(), tmp_path / "policy.wasm")
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []
