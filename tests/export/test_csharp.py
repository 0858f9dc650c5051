"""C#: a static class of C# 7 without dependencies, compiled and run by Mono; it allocates nothing."""

import subprocess
from pathlib import Path

import pytest
from masked_agents import masked_graph
from played import needs
from sample_graphs import GRAPHS
from samples import make_graph

from kd_agent import KDError, export


def printed(main: str, folder: Path, *sources: str) -> str:
    """What a program prints that has `main` beside exported files."""
    needs("mcs")
    needs("mono")
    (folder / "main.cs").write_text(f"using System;\nstatic class Program {{ static void Main() {{ {main} }} }}\n")
    command = ["mcs", "-langversion:7", "-warn:4", "-warnaserror", "-out:main.exe", "main.cs", *sources]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    done = subprocess.run(["mono", "main.exe"], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize(
    ("call", "words"),
    [
        ("Policy.Act(new float[3])", "obs has 3 numbers, expected 4"),
        ("Policy.Act(new[] { 0, float.NaN, 0, 0 })", "obs[1] is not a finite number"),
        ("Policy.Act(new[] { 0, 0, 0, 1 / 0f })", "obs[3] is not a finite number"),
        ("Policy.Act(new float[4], new bool[2])", "mask has 2 numbers, expected 4"),
        ("Policy.Params(new float[4], new float[5])", "output has 5 numbers, expected 4"),
    ],
)
def test_what_does_not_fit_is_refused(call: str, words: str, tmp_path: Path) -> None:
    export(masked_graph(), tmp_path / "policy.cs")
    main = f"try {{ {call}; }} catch (ArgumentException error) {{ Console.WriteLine(error.Message); }}"
    assert printed(main, tmp_path, "policy.cs").strip() == words


@pytest.mark.parametrize(
    ("call", "words"),
    [
        ("Memory.Params(new float[4], new float[9], new float[4])", "state has 9 numbers, expected 10"),
        ("Box.Act(new float[4], new float[1])", "action has 1 numbers, expected 2"),
    ],
)
def test_arrays_of_the_caller_s_are_of_the_sizes_that_the_class_names(call: str, words: str, tmp_path: Path) -> None:
    export(GRAPHS["lstm"](), tmp_path / "memory.cs")
    export(make_graph("diag_gaussian"), tmp_path / "box.cs")
    main = f"try {{ {call}; }} catch (ArgumentException error) {{ Console.WriteLine(error.Message); }}"
    assert printed(main, tmp_path, "memory.cs", "box.cs").strip() == words


def test_several_policies_fit_into_one_program_by_the_names_of_their_files(tmp_path: Path) -> None:
    export(make_graph(), tmp_path / "walk.cs")
    export(make_graph(), tmp_path / "Run_away.v2.cs")
    main = "Console.WriteLine(Walk.ObsSize + Run_away.NumActions);"
    assert printed(main, tmp_path, "walk.cs", "Run_away.v2.cs").strip() == "8"


def test_a_file_named_by_a_word_of_the_language_names_a_class_that_is_none(tmp_path: Path) -> None:
    """Every keyword begins with a small letter, and every class with a large one."""
    words = ["class", "int", "static", "string", "var"]
    for word in words:
        export(make_graph(), tmp_path / f"{word}.cs")
    main = f"Console.WriteLine({' + '.join(f'{word.capitalize()}.ObsSize' for word in words)});"
    assert printed(main, tmp_path, *(f"{word}.cs" for word in words)).strip() == "20"


@pytest.mark.parametrize("name", ["3d.cs", "my-policy.cs", ".cs", "$prelude.cs", "Act.cs", "math.cs", "System.cs"])
def test_a_name_that_no_class_can_have_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(KDError, match="the file's name is the class's"):
        export(make_graph(), tmp_path / name, "csharp")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["categorical", "squashed_gaussian", "lstm", "trees", "pixels"])
def test_it_allocates_nothing(name: str, tmp_path: Path) -> None:
    graph = GRAPHS[name]()
    export(graph, tmp_path / "policy.cs")
    arguments = ["new float[Policy.ObsSize]"]
    if graph.states:
        arguments.append("new float[Policy.StateSize]")
    if graph.head.kind != "categorical":
        arguments.append("new float[Policy.ActionSize]")
    names = [f"a{k}" for k in range(len(arguments))]
    declared = " ".join(f"var {name} = {text};" for name, text in zip(names, arguments, strict=True))
    call = f"Policy.Act({', '.join(names)});"
    # A word of 16 bytes a call would fill the nursery of 4 MiB once.
    main = f"""{declared} {call}
        GC.Collect();
        int before = GC.CollectionCount(0);
        for (int i = 0; i < {30_000 if name == "pixels" else 300_000}; i++) {{ {call} {{}} }}
        Console.WriteLine(GC.CollectionCount(0) - before);"""
    assert printed(main, tmp_path, "policy.cs").strip() == "0"


def test_an_action_is_computed_without_the_standard_deviations(tmp_path: Path) -> None:
    text = export(GRAPHS["state-dependent noise"](), tmp_path / "policy.cs")[0].read_text()
    assert text.count("Run(obs, row, false);") == text.count("Run(obs, row, true);") == 1
