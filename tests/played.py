"""Exported policies in processes of their own runtimes, asked line by line: numbers as bytes of float32 in hexadecimal.

A line is a word, an observation and, where there is one, a mask: `params`, `act` and `sample` have a memory each, and
`begin` begins a new episode.
"""

import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import pytest

from kd_agent import export
from kd_agent.policies.graph import PolicyGraph


@dataclass(frozen=True)
class Answers:
    """`params [N, P]` and greedy actions, flat `[N, A]`, one after the other."""

    params: Any
    actions: Any


HERE = Path(__file__).parent
GODOT = "KD_AGENT_GODOT"
"""The environment variable that names a folder with Godot's web build, `index.js` and `index.wasm`."""
PYTHON = """
import random, struct, sys
import policy
random.seed(1)
WORDS = {"params": policy.params, "act": policy.act, "sample": getattr(policy, "sample", None)}
for line in sys.stdin:
    word, *arguments = line.split()
    if word == "begin":
        states = {word: [policy.new_state()] if hasattr(policy, "new_state") else [] for word in WORDS}
        print("", flush=True)
        continue
    raw = bytes.fromhex(arguments[0])
    obs = struct.unpack(f"<{len(raw) // 4}f", raw)
    mask = [[flag != 0 for flag in bytes.fromhex(argument)] for argument in arguments[1:]]
    answer = WORDS[word](obs, *states[word], *mask)
    numbers = answer if isinstance(answer, list) else [answer]
    print(struct.pack(f"<{len(numbers)}f", *numbers).hex(), flush=True)
"""
CSHARP = """
using System;
using System.Collections.Generic;
using System.Linq;
using System.Reflection;
static class Program
{
    static byte[] Bytes(string hex)
    {
        var bytes = new byte[hex.Length / 2];
        for (int i = 0; i < bytes.Length; i++) bytes[i] = (byte)(16 * Digit(hex[2 * i]) + Digit(hex[2 * i + 1]));
        return bytes;
    }
    static int Digit(char letter)
    {
        return letter < 'a' ? letter - '0' : letter - 'a' + 10;
    }
    static int Constant(string name)
    {
        FieldInfo field = typeof(Policy).GetField(name);
        return field == null ? 0 : (int)field.GetValue(null);
    }
    static void Main()
    {
        var states = new Dictionary<string, float[]>();
        var random = new Random(1);
        for (string line = Console.ReadLine(); line != null; line = Console.ReadLine())
        {
            string[] words = line.Split(' ');
            if (words[0] == "begin")
            {
                states.Clear();
                Console.WriteLine();
                continue;
            }
            byte[] raw = Bytes(words[1]);
            float[] obs = new float[raw.Length / 4];
            Buffer.BlockCopy(raw, 0, obs, 0, raw.Length);
            if (!states.ContainsKey(words[0])) states[words[0]] = new float[Constant("StateSize")];
            MethodInfo method = typeof(Policy).GetMethod(char.ToUpper(words[0][0]) + words[0].Substring(1));
            Array output = null;
            object[] arguments = method.GetParameters().Select(parameter =>
            {
                if (parameter.Name == "obs") return obs;
                if (parameter.Name == "state") return states[words[0]];
                if (parameter.Name == "random") return random;
                if (parameter.Name == "mask" && words.Length < 3) return null;
                if (parameter.Name == "mask") return Bytes(words[2]).Select(b => b != 0).ToArray();
                int size = Constant(parameter.Name == "action" ? "ActionSize" : "NumParams");
                output = Array.CreateInstance(parameter.ParameterType.GetElementType(), size);
                return (object)output;
            }).ToArray();
            object returned = method.Invoke(null, arguments);
            IEnumerable<object> numbers = output == null ? new[] { returned } : output.Cast<object>();
            byte[] answer = numbers.SelectMany(number => BitConverter.GetBytes(Convert.ToSingle(number))).ToArray();
            Console.WriteLine(BitConverter.ToString(answer).Replace("-", "").ToLower());
        }
    }
}
"""
GDSCRIPT = """
extends Node
const Policy = preload("res://policy.gd")
func _ready() -> void:
    var policy = Policy.new()
    var random := RandomNumberGenerator.new()
    random.seed = 1
    var states := {}
    while true:
        var line: String = JavaScriptBridge.eval("readLine()", true)
        if not line:
            break
        var words := line.split(" ")
        if words[0] == "begin":
            for word in ["params", "act", "sample"]:
                states[word] = [policy.new_state()] if policy.has_method("new_state") else []
            JavaScriptBridge.eval("writeLine('')", true)
            continue
        var arguments: Array = [words[1].hex_decode().to_float32_array()] + states[words[0]]
        if words[0] == "sample":
            arguments.append(random)
        if words.size() > 2:
            arguments.append(words[2].hex_decode())
        var answer: Variant = policy.callv(words[0], arguments)
        var numbers := PackedFloat32Array([answer] if answer is int else Array(answer))
        JavaScriptBridge.eval("writeLine('%s')" % numbers.to_byte_array().hex_encode(), true)
    get_tree().quit()
"""
PROJECT = 'config_version=5\n[application]\nconfig/name="policy"\nrun/main_scene="res://main.tscn"\n'
SCENE = (
    '[gd_scene load_steps=2 format=3]\n[ext_resource type="Script" path="res://main.gd" id="1"]\n'
    '[node name="Main" type="Node"]\nscript = ExtResource("1")\n'
)


def python(graph: PolicyGraph, folder: Path) -> list[str]:
    """The command that plays the exported file where there is NumPy."""
    export(graph, folder / "policy.py")
    (folder / "main.py").write_text(PYTHON)
    return [sys.executable, str(folder / "main.py")]


def python_alone(graph: PolicyGraph, folder: Path) -> list[str]:
    """Likewise where there is nothing but the standard library."""
    executable, main = python(graph, folder)
    return [executable, "-E", "-S", main]


def csharp(graph: PolicyGraph, folder: Path) -> list[str]:
    needs("mcs")
    needs("mono")
    export(graph, folder / "policy.cs")
    (folder / "main.cs").write_text(CSHARP)
    command = ["mcs", "-langversion:7", "-warn:4", "-warnaserror", "-out:main.exe", "policy.cs", "main.cs"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return ["mono", str(folder / "main.exe")]


def gdscript(graph: PolicyGraph, folder: Path, main: str = GDSCRIPT) -> list[str]:
    """The command that plays the exported script by another one."""
    needs("node")
    engine = os.environ.get(GODOT)
    if not engine:
        pytest.skip(f"{GODOT} names no folder with Godot's web build")
    export(graph, folder / "policy.gd")
    with zipfile.ZipFile(folder / "game.zip", "w") as game:
        game.write(folder / "policy.gd", "policy.gd")
        for name, text in {"main.gd": main, "project.godot": PROJECT, "main.tscn": SCENE}.items():
            game.writestr(name, text)
    return ["node", str(HERE / "godot.js"), engine, str(folder)]


RUNTIMES: dict[str, Callable[[PolicyGraph, Path], list[str]]] = {
    "python": python,
    "python without numpy": python_alone,
    "csharp": csharp,
    "gdscript": gdscript,
}


def by(runtime: str) -> Callable[[PolicyGraph, dict[str, Any], Path], Answers]:
    """What a policy answers in a runtime, one episode where it has a memory."""

    def answers(graph: PolicyGraph, observations: dict[str, Any], folder: Path) -> Answers:
        return ask(runtime, graph, observations, None, folder)

    return answers


def ask(runtime: str, graph: PolicyGraph, observations: dict[str, Any], masks: Any, folder: Path) -> Answers:
    """Parameters and greedy actions of observations `[N, *O]` by key, with masks `[N, M]` or without."""
    flat = [np.asarray(observations[key], np.float32).reshape(len(observations[key]), -1) for key in graph.observations]
    lines = ["begin"]
    for k, row in enumerate(np.concatenate(flat, axis=1)):
        mask = None if masks is None else masks[k]
        lines += [asked("params", row, mask), asked("act", row, mask)]
    command = RUNTIMES[runtime](graph, folder)
    text = "\n".join(lines) + "\n"
    done = subprocess.run(command, input=text, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    rows = [numbers(line) for line in done.stdout.splitlines()[1:]]
    assert len(rows) == len(lines) - 1, done.stdout[-500:] + done.stderr
    return Answers(np.stack(rows[::2]), np.stack(rows[1::2]))


def asked(word: str, observation: Any, mask: Any = None) -> str:
    """A line."""
    line = f"{word} {np.asarray(observation, '<f4').tobytes().hex()}"
    if mask is not None:
        line += f" {(np.asarray(mask, np.uint8)).tobytes().hex()}"
    return line


def numbers(line: str) -> Any:
    return np.frombuffer(bytes.fromhex(line.strip()), "<f4")


def needs(tool: str) -> None:
    if shutil.which(tool) is None:
        pytest.skip(f"{tool} is not installed")


class Process:
    """A policy that is played, as Stable-Baselines3 has them; one environment at a time."""

    def __init__(self, command: Sequence[str]) -> None:
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate(timeout=60)

    def ask(self, line: str) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()
        return numbers(self._process.stdout.readline())
