"""Arduino libraries: their example is compiled as an Arduino compiles it and played on an ATmega328P."""

import re
import subprocess
from pathlib import Path

import numpy as np
import pytest
from avr import by_avr, by_sketch
from draws import sampled_graph
from exported import by_arduino, by_numpy, needs
from masked_agents import masked_graph
from sample_graphs import GRAPHS, linear, observations_for
from samples import HEADS, make_graph

from kd_agent import KDError, export
from kd_agent.export.c import cost
from kd_agent.policies.graph import ObservationSpec, PolicyGraph

EVIL = "x\nname=evil\r\n*/ evil(); /* ??/\n#include <evil>"


@pytest.mark.parametrize("int8", [False, True])
@pytest.mark.parametrize("kind", ["categorical", "multi_categorical", "diag_gaussian"])
def test_the_example_answers_on_a_board_as_this_machine_does(kind: str, int8: bool, tmp_path: Path) -> None:
    graph = make_graph(kind, hidden=(8, 8))
    observations = observations_for(graph, 200)
    found = by_sketch(graph, observations, tmp_path, int8=int8)
    expected = by_arduino(graph, observations, tmp_path, int8=int8)
    np.testing.assert_array_equal(found, expected.actions)
    agrees = np.abs(found - by_numpy(graph, observations).actions) < 1e-5
    assert int8 or agrees.all()


@pytest.mark.parametrize("int8", [False, True])
def test_tables_read_from_flash_change_no_answer(int8: bool, tmp_path: Path) -> None:
    graph = make_graph(hidden=(8, 8))
    observations = observations_for(graph, 50)
    in_ram = by_avr(graph, observations, tmp_path, "c99", int8=int8)
    assert _data_bytes(tmp_path) > 300
    in_flash = by_avr(graph, observations, tmp_path, "gnu99", int8=int8)
    assert _data_bytes(tmp_path) < 100
    np.testing.assert_array_equal(in_flash.params, in_ram.params)


def _data_bytes(folder: Path) -> int:
    """Bytes of RAM that a board's program begins with."""
    needs("avr-size")
    done = subprocess.run(["avr-size", "-A", "policy.elf"], cwd=folder, capture_output=True, text=True, check=True)
    return sum(int(size) for size in re.findall(r"^\.data +(\d+)", done.stdout, re.MULTILINE))


def test_working_memory_is_fixed_and_told(tmp_path: Path) -> None:
    export(make_graph(hidden=(8, 8)), tmp_path / "lander.arduino")
    text = (tmp_path / "lander.arduino" / "src" / "lander.c").read_text()
    arrays = re.findall(r"^    (.*)float r\d+\[", text, re.MULTILINE)
    assert len(arrays) > 2
    assert set(arrays) == {"static "}
    assert "RAM: 112 bytes, fixed, no heap" in text


def test_a_library_is_the_folder_that_arduino_expects(tmp_path: Path) -> None:
    [library] = export(make_graph(), tmp_path / "Lander", to="arduino", prefix="land")
    files = sorted(str(path.relative_to(library)) for path in library.rglob("*") if path.is_file())
    assert files == ["examples/Lander/Lander.ino", "library.properties", "src/Lander.c", "src/Lander.h"]
    properties = dict(line.split("=", 1) for line in (library / "library.properties").read_text().splitlines())
    asked = "name version author maintainer sentence paragraph category url architectures includes"
    assert list(properties) == asked.split()
    assert properties["name"] == "Lander"
    assert properties["includes"] == "Lander.h"
    sketch = (library / "examples/Lander/Lander.ino").read_text()
    assert "land_act(obs)" in sketch
    assert "LAND_OBS_SIZE" in sketch


def test_a_second_export_replaces_the_first_and_leaves_other_files(tmp_path: Path) -> None:
    [library] = export(make_graph(), tmp_path / "Lander", to="arduino")
    (library / "keywords.txt").write_text("mine")
    export(make_graph(), library, to="arduino", prefix="other")
    assert (library / "keywords.txt").read_text() == "mine"
    assert "other_act" in (library / "src/Lander.h").read_text()


@pytest.mark.parametrize("name", ["9lives", "a b", "a-b", "l'ander", "a" * 64, "ä", "name=evil\n"])
def test_a_name_that_arduino_or_c_would_not_take_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(KDError, match="an Arduino library's name"):
        export(make_graph(), tmp_path / name, to="arduino")
    assert not list(tmp_path.glob("**/*.c"))


def test_no_string_of_a_file_reaches_the_library(tmp_path: Path) -> None:
    ops = (linear(EVIL, "evil(); //", 5, 4), linear("evil(); //", "params", 4, 5))
    observations = {EVIL: ObservationSpec((4,), "float32")}
    graph = PolicyGraph(observations, ops, HEADS["categorical"].spec, {"env": EVIL})
    [library] = export(graph, tmp_path / "Lander", to="arduino")
    properties = (library / "library.properties").read_text()
    assert len(properties.splitlines()) == 10
    for path in (path for path in library.rglob("*.*") if path.is_file()):
        assert path.read_text().isascii()
        code = re.sub(r"/\*.*?\*/", "", path.read_text(), flags=re.DOTALL)
        assert "evil" not in code.replace(properties.splitlines()[4], "")
    _compiles(library, "Lander")


def test_the_example_hands_on_memory_and_masks(tmp_path: Path) -> None:
    [library] = export(GRAPHS["gru"](), tmp_path / "Walker", to="arduino")
    sketch = (library / "examples/Walker/Walker.ino").read_text()
    assert "static float state[KD_STATE_SIZE];" in sketch
    assert "kd_act(obs, state" in sketch
    _compiles(library, "Walker")
    for name, graph in (
        ("Masked", masked_graph()),
        ("Sampled", sampled_graph()),
        ("Box", sampled_graph("diag_gaussian")),
    ):
        [library] = export(graph, tmp_path / name, to="arduino")
        sketch = (library / f"examples/{name}/{name}.ino").read_text()
        assert ("kd_sample(" in sketch) == graph.sampled
        _compiles(library, name)


def _compiles(library: Path, name: str) -> None:
    """A sketch's calls fit the library's header."""
    needs("g++")
    serial = (
        "#include <stddef.h>\nstruct L { void begin(long) {} void setTimeout(long) {} int available() { return 1; } "
        "float parseFloat() { return 0; } template<class... T> void print(T...) {} "
        "template<class... T> void println(T...) {} } Serial;\n"
    )
    main = f'{serial}#include "{library}/examples/{name}/{name}.ino"\n'
    command = ["g++", "-fsyntax-only", "-Wall", "-Werror", f"-I{library}/src", "-x", "c++", "-"]
    done = subprocess.run(command, input=main, text=True, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_board_that_is_too_small_says_how_many_bytes_are_missing(tmp_path: Path) -> None:
    wide = make_graph(hidden=(128, 128))  # 17,540 numbers
    floats = cost(wide, board=True)
    missing = floats.rom - 32_256
    with pytest.raises(KDError, match=f"'uno' has 32,256 bytes of flash, .* {missing:,} are missing; int8 takes less"):
        export(wide, tmp_path / "Wide", to="arduino", board="uno")
    assert export(wide, tmp_path / "Wide", to="arduino", board="uno", int8=True)
    assert export(wide, tmp_path / "Wide", to="arduino", board="mega")
    long = make_graph(hidden=(600,))
    missing = cost(long, int8=True, board=True).ram + 4 * 4 - 2_048
    assert missing > 0
    with pytest.raises(KDError, match=rf"'nano' has 2,048 bytes of RAM, .* {missing:,} are missing$"):
        export(long, tmp_path / "Long", to="arduino", board="nano", int8=True)
    assert not (tmp_path / "Long").exists()


def test_an_unknown_board_is_answered_with_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(KDError, match=r"unknown board 'unno'.*'uno'"):
        export(make_graph(), tmp_path / "Lander", to="arduino", board="unno")
