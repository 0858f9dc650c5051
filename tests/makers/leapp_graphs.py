"""Graphs that leapp 0.7.2 itself writes from torch modules, with its answers to some observations.

    python tests/makers/leapp_graphs.py        writes tests/teachers/data/leapp/NAME/

Each folder has the graph, its ONNX file and, where it has states, their first values, as `leapp.compile_graph` leaves
them, and `answers.npz`: observations of episodes, `starts`, and what `leapp.InferenceManager` answered.
"""

import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import leapp
import numpy as np
import torch
from leapp import InputKindEnum, OutputKindEnum, TensorSemantics, annotate

DATA = Path(__file__).parents[1] / "teachers" / "data" / "leapp"
ONNX = "onnx-torchscript"
"""Of leapp's two ONNX exporters the one that writes no paths of this machine into the file."""
STEPS = 40
EPISODE = 10


def mlp() -> Callable[[], None]:
    """One observation, one action, with meanings."""
    net = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Tanh(), torch.nn.Linear(8, 2))

    def step() -> None:
        names = ["hip", "knee", "hip speed", "knee speed"]
        kind = InputKindEnum.JOINT_POSITION
        ref = torch.randn(1, 4)
        obs = annotate.input_tensors("policy", TensorSemantics(name="joints", ref=ref, kind=kind, element_names=names))
        action = torch.tanh(net(obs))
        kind = OutputKindEnum.JOINT_EFFORT
        told = TensorSemantics(name="actions", ref=action, kind=kind, element_names=["hip", "knee"])
        annotate.output_tensors("policy", told, export_with=ONNX)

    return step


def two_inputs() -> Callable[[], None]:
    """Two observations that the model joins, as Isaac Lab's sensor terms are."""
    net = torch.nn.Linear(5, 2)

    def step() -> None:
        tensors = {"position": torch.randn(1, 3), "command": torch.randn(1, 2)}
        position, command = annotate.input_tensors("policy", tensors)
        action = torch.tanh(net(torch.cat([position, command], dim=-1)))
        annotate.output_tensors("policy", {"actions": action}, export_with=ONNX)

    return step


def gru() -> Callable[[], None]:
    """A memory that does not start at zero."""
    cell = torch.nn.GRUCell(4, 6)
    out = torch.nn.Linear(6, 2)
    start = torch.linspace(-1, 1, 6)[None]

    def step() -> None:
        obs = annotate.input_tensors("policy", {"obs": torch.randn(1, 4)})
        memory = annotate.state_tensors("policy", {"memory": start.clone()})
        after = cell(obs, memory)
        annotate.update_state("policy", {"memory": after})
        annotate.output_tensors("policy", {"actions": torch.tanh(out(after))}, export_with=ONNX)

    return step


def unbatched() -> Callable[[], None]:
    """Without an axis for a batch."""
    weight = torch.randn(4, 2)

    def step() -> None:
        obs = annotate.input_tensors("policy", {"obs": torch.randn(4)})
        annotate.output_tensors("policy", {"actions": torch.tanh(obs @ weight)}, export_with=ONNX)

    return step


def two_models() -> Callable[[], None]:
    """A pipeline of two models."""
    weight = torch.randn(4, 2)

    def step() -> None:
        obs = annotate.input_tensors("prepare", {"obs": torch.randn(1, 4)})
        features = obs - obs.mean()
        annotate.output_tensors("prepare", {"features": features}, export_with=ONNX)
        features = annotate.input_tensors("policy", {"features": features})
        annotate.output_tensors("policy", {"actions": torch.tanh(features @ weight)}, export_with=ONNX)

    return step


def torchscript() -> Callable[[], None]:
    """A model that is no ONNX file."""
    weight = torch.randn(4, 2)

    def step() -> None:
        obs = annotate.input_tensors("policy", {"obs": torch.randn(1, 4)})
        annotate.output_tensors("policy", {"actions": torch.tanh(obs @ weight)}, export_with="jit")

    return step


GRAPHS = (mlp, two_inputs, gru, unbatched, two_models, torchscript)


def answers(path: Path) -> dict[str, np.ndarray]:
    """What leapp's own manager answers, the memory reset where an episode starts."""
    manager = leapp.InferenceManager(str(path))
    starts = np.arange(STEPS) % EPISODE == 0
    found: dict[str, list[np.ndarray]] = {}
    for is_start in starts:
        if is_start:
            manager.reset()
        asked = manager.get_mock_input()
        for name, tensor in asked.items():
            found.setdefault(f"observed.{name.partition('/')[2]}", []).append(tensor.numpy().copy())
        [action] = manager.run_policy(asked).values()
        found.setdefault("actions", []).append(action.numpy().copy())
    return {"starts": starts, **{name: np.stack(rows).reshape(STEPS, -1) for name, rows in found.items()}}


def main() -> None:
    torch.set_num_threads(1)
    for make in GRAPHS:
        torch.manual_seed(0)
        name = make.__name__
        shutil.rmtree(DATA / name, ignore_errors=True)
        step = make()
        leapp.start(name=name, save_path=str(DATA))
        with torch.no_grad():
            for _ in range(2):
                step()
        leapp.stop()
        leapp.compile_graph(visualize=False)
        if name not in ("two_models", "torchscript"):
            np.savez(DATA / name / "answers.npz", **answers(DATA / name / f"{name}.yaml"))
        (DATA / name / "log.txt").unlink()


if __name__ == "__main__":
    sys.exit(main())
