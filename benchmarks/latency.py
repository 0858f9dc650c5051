"""How long one action takes: a student in every runtime beside its Stable-Baselines3 teacher, in one run.

    python benchmarks/latency.py --json latency.json [--student FILE] [--teacher ZIP] [--hidden 16 16]

Without files: an untrained 256 x 256 PPO teacher for LunarLander and an 8 -> 16 -> 16 -> 4 student. The
ratios are what counts: the contenders take turns, so a busy machine slows them alike. A batch is timed by the
thread's CPU time, which is too coarse for one action.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import onnxruntime
import torch
from stable_baselines3 import PPO

from kd_agent import export, load_policy
from kd_agent.native.latency import c_loop
from kd_agent.networks.distributions import head_for
from kd_agent.policies.graph import ObservationSpec
from kd_agent.policies.normalizer import Normalizer
from kd_agent.students.mlp import MLP

Call = Callable[[Any], Any]
Clock = Callable[[], int]
BATCH, TURNS, SECONDS = 1024, 5, 0.3
SB3, ONNX = "SB3 predict (teacher)", "onnxruntime"
STARTS = {
    SB3: "from stable_baselines3 import PPO; act = PPO.load({teacher!r}, device='cpu').predict",
    "NumPy act": "from kd_agent import load_policy; act = load_policy({student!r}).act",
    "native act": "from kd_agent import load_policy; act = load_policy({student!r}, backend='native').act",
}


def make_teacher(folder: Path) -> Path:
    torch.set_num_threads(1)
    path = folder / "teacher.zip"
    PPO("MlpPolicy", "LunarLander-v3", policy_kwargs={"net_arch": [256, 256]}, device="cpu", seed=0).save(path)
    return path


def make_student(folder: Path, hidden: Sequence[int]) -> Path:
    rng = np.random.default_rng(0)
    normalizers = {"obs": Normalizer(rng.normal(0, 0.1, 8), rng.uniform(0.1, 1, 8))}
    observations = {"obs": ObservationSpec((8,), "float32")}
    student = MLP(observations, head_for(gym.spaces.Discrete(4)), normalizers, hidden=hidden)
    return student.save(folder / "student.safetensors", {"env": "LunarLander-v3"})


def contenders(teacher: Path, student: Path, folder: Path) -> dict[str, tuple[Call, Call]]:
    """For each name: what answers one observation, and what answers a batch."""
    model = PPO.load(teacher, device="cpu")
    numpy, native = load_policy(student), load_policy(student, backend="native")
    module = numpy.to_torch()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(export(numpy, folder / "student.onnx")[0]), options)

    def eager(x: Any) -> Any:
        with torch.no_grad():
            return module.act(torch.from_numpy(x))

    def predict(policy: Any) -> Call:
        return lambda x: policy.predict(x, deterministic=True)

    return {
        SB3: (predict(model), predict(model)),
        "torch eager": (lambda x: eager(x[None]), eager),
        ONNX: (lambda x: session.run(["action"], {"obs": x[None]}), lambda x: session.run(["action"], {"obs": x})),
        "NumPy predict": (predict(numpy), predict(numpy)),
        "NumPy act": (numpy.act, predict(numpy)),
        "native predict": (predict(native), predict(native)),
        "native act": (native.act, predict(native)),
    }


def sample(call: Call, inputs: Any, seconds: float, clock: Clock = time.perf_counter_ns) -> list[int]:
    """Nanoseconds of single calls, the clock's own time taken off."""
    taken = []
    empty = sorted(-(clock() - clock()) for _ in range(1000))[500]
    stop = clock() + int(seconds * 1e9)
    while clock() < stop:
        for x in inputs:
            start = clock()
            call(x)
            taken.append(max(clock() - start - empty, 1))
    return taken


def summary(nanoseconds: Any) -> dict[str, float]:
    p50, p99 = np.percentile(nanoseconds, [50, 99]) / 1e3
    return {"p50_us": float(p50), "p99_us": float(p99)}


def cold_start(name: str, files: dict[str, str]) -> dict[str, float]:
    """Seconds from the start of a process to its end after one action, and the memory resident then."""
    code = (f"import numpy as np; {STARTS[name].format(**files)}; act(np.zeros(8, np.float32)); "
            "print(next(line for line in open('/proc/self/status') if line.startswith('VmRSS')))")  # fmt: skip
    seconds, memory = [], []
    for _ in range(5):
        start = time.perf_counter()
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        seconds.append(time.perf_counter() - start)
        memory.append(int(done.stdout.split()[-2]) / 1024)
    return {"start_s": float(np.median(seconds)), "memory_mib": float(np.median(memory))}


def measure(teacher: Path, student: Path, folder: Path) -> dict[str, dict[str, float]]:
    rng = np.random.default_rng(1)
    observations = rng.normal(0, 0.7, (BATCH, 8)).astype(np.float32)
    rivals = contenders(teacher, student, folder)
    graph = load_policy(student).graph
    loops = {f"C loop, {kind}": c_loop(graph, observations, int8=kind == "int8") for kind in ("float", "int8")}
    singles: dict[str, list[Any]] = {name: [] for name in (*rivals, *loops)}
    batches: dict[str, list[Any]] = {name: [] for name in rivals}
    for _ in range(TURNS):
        for name, (single, batch) in rivals.items():
            singles[name] += sample(single, observations[:64], SECONDS)
            batches[name] += sample(batch, [observations] * 4, SECONDS / 2, time.thread_time_ns)
        for name, loop in loops.items():
            singles[name] += list(loop())
    result = {name: summary(taken) for name, taken in singles.items()}
    for name, taken in batches.items():
        result[name]["batch_us"] = summary(taken)["p50_us"]
    for name in STARTS:
        result[name] |= cold_start(name, {"teacher": str(teacher), "student": str(student)})
    for figures in result.values():
        figures["times_sb3"] = result[SB3]["p50_us"] / figures["p50_us"]
        figures["times_onnx"] = result[ONNX]["p50_us"] / figures["p50_us"]
        if "batch_us" in figures:
            figures["batch_times_onnx"] = result[ONNX]["batch_us"] / figures["batch_us"]
    return result


def table(result: dict[str, dict[str, float]]) -> str:
    columns = {"p50_us": "p50, us", "p99_us": "p99, us", "times_sb3": "times SB3", "times_onnx": "times onnxruntime",
               "batch_us": f"{BATCH}, us", "batch_times_onnx": f"{BATCH}, times onnxruntime",
               "start_s": "cold start, s", "memory_mib": "memory, MiB"}  # fmt: skip
    lines = ["| one action | " + " | ".join(columns.values()) + " |", "|---" * (len(columns) + 1) + "|"]
    for name, figures in result.items():
        cells = [f"{figures[key]:,.3g}" if key in figures else "" for key in columns]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    parser.add_argument("--student", type=Path, help="a saved student of 8 observations and discrete actions")
    parser.add_argument("--hidden", type=int, nargs="+", default=[16, 16], help="layers of the student made here")
    parser.add_argument("--teacher", type=Path, help="its PPO teacher's zip")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        teacher = arguments.teacher or make_teacher(folder)
        result = measure(teacher, arguments.student or make_student(folder, arguments.hidden), folder)
    print(table(result))
    if arguments.json:
        arguments.json.write_text(json.dumps({"format": 1, "contenders": result}, indent=1) + "\n")


if __name__ == "__main__":
    main()
