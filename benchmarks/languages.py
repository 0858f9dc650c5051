"""What a student is in each language: bytes of its file, and microseconds an action in the language's own runtime.

    KD_AGENT_GODOT=FOLDER python benchmarks/languages.py [--student FILE] [--json FILE]

Without a file: the untrained 8 -> 16 -> 16 -> 4 student of `latency.py`. Each runtime times its own loops of actions,
so that no pipe is timed; one that is not installed is left out. FOLDER has Godot's web build, `index.js` and
`index.wasm`, which Node runs.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path

from latency import make_student

from kd_agent import export, load_policy

ROOT = Path(__file__).parents[1]
TURNS = 5
NUMPY = "load_policy (NumPy)"
PYTHON = """
import sys, time
{imports}
obs = {obs}
count = 20000
for _ in range(2):
    start = time.perf_counter()
    for _ in range(count):
        act(obs)
    seconds = time.perf_counter() - start
print(seconds / count * 1e6)
"""
CSHARP = """
using System;
using System.Diagnostics;
static class Program
{
    static void Main()
    {
        var obs = new float[Student.ObsSize];
        const int Count = 300000;
        double seconds = 0;
        for (int turn = 0; turn < 2; turn++)
        {
            var watch = Stopwatch.StartNew();
            for (int i = 0; i < Count; i++) Student.Act(obs);
            seconds = watch.Elapsed.TotalSeconds;
        }
        Console.WriteLine(seconds / Count * 1e6);
    }
}
"""
JAVASCRIPT = """
import {act, obsSize} from "./student.mjs";
const obs = new Float32Array(obsSize), count = 300000;
let seconds;
for (let turn = 0; turn < 2; turn++) {
    const start = performance.now();
    for (let i = 0; i < count; i++) act(obs);
    seconds = (performance.now() - start) / 1e3;
}
console.log(seconds / count * 1e6);
"""
GDSCRIPT = """
extends Node
const Student = preload("res://student.gd")
func _ready() -> void:
    var obs := PackedFloat32Array()
    obs.resize(Student.OBS_SIZE)
    var count := 5000
    var begin := Time.get_ticks_usec()
    for i in range(count):
        Student.act(obs)
    JavaScriptBridge.eval("writeLine(%f)" % ((Time.get_ticks_usec() - begin) / float(count)), true)
    get_tree().quit()
"""
PROJECT = 'config_version=5\n[application]\nconfig/name="student"\nrun/main_scene="res://main.tscn"\n'
SCENE = (
    '[gd_scene load_steps=2 format=3]\n[ext_resource type="Script" path="res://main.gd" id="1"]\n'
    '[node name="Main" type="Node"]\nscript = ExtResource("1")\n'
)


def python(folder: Path) -> list[str]:
    text = PYTHON.format(imports="from student import act, OBS_SIZE", obs="[0.0] * OBS_SIZE")
    (folder / "main.py").write_text(text)
    return [sys.executable, str(folder / "main.py")]


def python_alone(folder: Path) -> list[str]:
    executable, main = python(folder)
    return [executable, "-E", "-S", main]


def numpy(folder: Path) -> list[str]:
    student = str(folder / "student.safetensors")
    imports = f"import numpy\nfrom kd_agent import load_policy\nact = load_policy({student!r}).act"
    (folder / "numpy_act.py").write_text(PYTHON.format(imports=imports, obs="numpy.zeros(8, numpy.float32)"))
    return [sys.executable, str(folder / "numpy_act.py")]


def csharp(folder: Path) -> list[str]:
    (folder / "main.cs").write_text(CSHARP)
    sources = [str(folder / name) for name in ("student.cs", "main.cs")]
    subprocess.run(["mcs", "-optimize", f"-out:{folder / 'main.exe'}", *sources], check=True)
    return ["mono", str(folder / "main.exe")]


def javascript(folder: Path) -> list[str]:
    (folder / "main.mjs").write_text(JAVASCRIPT)
    return ["node", str(folder / "main.mjs")]


def gdscript(folder: Path) -> list[str]:
    with zipfile.ZipFile(folder / "game.zip", "w") as game:
        game.write(folder / "student.gd", "student.gd")
        for name, text in {"main.gd": GDSCRIPT, "main.tscn": SCENE, "project.godot": PROJECT}.items():
            game.writestr(name, text)
    return ["node", str(ROOT / "tests" / "godot.js"), os.environ["KD_AGENT_GODOT"], str(folder)]


def there(*programs: str) -> bool:
    return all(map(shutil.which, programs))


CONTENDERS: dict[str, tuple[str, bool, Callable[[Path], list[str]]]] = {
    NUMPY: (".safetensors", True, numpy),
    "python, with NumPy": (".py", True, python),
    "python, alone": (".py", True, python_alone),
    "csharp (mono)": (".cs", there("mcs", "mono"), csharp),
    "javascript (node)": (".mjs", there("node"), javascript),
    "gdscript (Godot's web build in node)": (".gd", there("node") and "KD_AGENT_GODOT" in os.environ, gdscript),
}
"""Suffix, whether it can be run, and the command that prints microseconds an action."""


def measure(folder: Path) -> dict[str, dict[str, float]]:
    """Bytes and the median of microseconds, the contenders taking turns."""
    policy = load_policy(folder / "student.safetensors")
    commands = {}
    for name, (suffix, is_there, command) in CONTENDERS.items():
        if not is_there:
            continue
        if name != NUMPY:
            export(policy, folder / f"student{suffix}")
        commands[name] = command(folder)
    taken: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(TURNS):
        for name, command in commands.items():
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            taken[name].append(float(done.stdout))
    result = {}
    for name, figures in taken.items():
        size = (folder / f"student{CONTENDERS[name][0]}").stat().st_size
        result[name] = {"bytes": size, "us": sorted(figures)[TURNS // 2]}
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--student", type=Path)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if arguments.student:
            shutil.copyfile(arguments.student, folder / "student.safetensors")
        else:
            make_student(folder)
        result = measure(folder)
    print("| runtime | bytes | us an action | times load_policy |")
    print("|---|---|---|---|")
    for name, figures in result.items():
        times = figures["us"] / result[NUMPY]["us"]
        print(f"| {name} | {figures['bytes']:,} | {figures['us']:.3g} | {times:.2g} |")
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
