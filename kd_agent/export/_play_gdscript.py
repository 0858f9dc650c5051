"""A generated script, played by Godot: a project of its own without a window, which prints what the policy does."""

import math
import re
import shutil
import tempfile
from pathlib import Path
from string import Template

import numpy as np

from kd_agent.errors import KDError
from kd_agent.export._play import Played, Steps, program, ran, told
from kd_agent.policies import PolicyGraph

_PROJECT = 'config_version=5\n[application]\nconfig/name="policy"\nrun/main_scene="res://main.tscn"\n'
_SCENE = """\
[gd_scene load_steps=2 format=3]
[ext_resource type="Script" path="res://main.gd" id="1"]
[node name="Main" type="Node"]
script = ExtResource("1")
"""
# Letters of the template: what begins with $ is put in; it comes from the policy's sizes. Each action is a line.
_MAIN = Template("""\
extends Node
const Policy = preload("res://policy.gd")
func _ready() -> void:
    var rows := FileAccess.get_file_as_bytes("res://steps.bin").to_float32_array()
    var state := PackedFloat32Array()
    for begin in range(0, rows.size(), $columns):
        if rows[begin] != 0.0:
            $renew
        var obs := rows.slice(begin + 1, begin + 1 + $observed)
        var mask := PackedByteArray(Array(rows.slice(begin + 1 + $observed, begin + $columns)))
        var action: Variant = Policy.act($arguments)
        var numbers := PackedFloat64Array([action] if action is int else Array(action))
        print("action ", numbers.to_byte_array().hex_encode())
    get_tree().quit()
""")


def in_godot(path: Path, graph: PolicyGraph, steps: Steps) -> Played:
    """What Godot answers.

    Args:
        path: The script.
        graph: The policy.
        steps: What it is asked about.

    Raises:
        RuntimeMissingError: Godot is not there.
        KDError: It fails, or says too little.
    """
    godot = program("godot")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        shutil.copyfile(path, folder / "policy.gd")
        (folder / "main.gd").write_text(_main(graph))
        (folder / "main.tscn").write_text(_SCENE)
        (folder / "project.godot").write_text(_PROJECT)
        (folder / "steps.bin").write_bytes(told(graph, steps).tobytes())
        said = ran([godot, "--headless", "--path", folder]).decode(errors="replace")
    lines = re.findall(r"^action ([0-9a-f]+)$", said, re.MULTILINE)
    answers = np.frombuffer(bytes.fromhex("".join(lines)), "<f8")
    shape = len(steps.starts), math.prod(graph.head.shape)
    if answers.size != math.prod(shape):
        raise KDError(f"godot answered with {answers.size} numbers, expected {math.prod(shape)}")
    return Played(answers.reshape(shape), "in Godot")


def _main(graph: PolicyGraph) -> str:
    """The script that asks the policy."""
    arguments = ["obs"]
    renew = "pass"
    if graph.states:
        arguments.append("state")
        renew = "state = Policy.new_state()"
    masks = 0
    if graph.head.expects_masks:
        arguments.append("mask")
        masks = graph.head.num_masks
    observed = sum(math.prod(spec.shape) for spec in graph.observations.values())
    return _MAIN.substitute(
        columns=1 + observed + masks, observed=observed, renew=renew, arguments=", ".join(arguments)
    )
