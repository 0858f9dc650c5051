"""The small runs of `scripts/golden_runs.py`, how they are recorded, and how they are compared.

Each run uses public names alone (`kd_agent.distill` and the like, or `python -m kd_agent`), so that modules may move
without this file. Compared are the student's tensors and every figure that is no time and names no file. The bits are
those of one machine: on another processor, or with other versions of the libraries, they may differ without a mistake.
"""

import argparse
import hashlib
import json
import multiprocessing
import os
import platform
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import gymnasium as gym
import kd_envs  # noqa: F401 - registers its environments
import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.numpy import load_file
from sb3_contrib import RecurrentPPO
from stable_baselines3 import PPO, SAC

from kd_agent import distill, distill_tasks, load_policy, load_teacher
from kd_agent.runs.costs import ENV_STEPS

ROOT = Path(__file__).resolve().parents[2]
GOLDEN = Path(__file__).resolve().with_name("runs.json")
STUDENT = "student.safetensors"
SHOWN = 3
"""Differences of one run that are printed."""

Figures = dict[str, Any]
"""What a run is known by: nested, JSON-able."""

CARTPOLE, PENDULUM = "CartPole-v1", "Pendulum-v1"
DISCRETE, MULTI_DISCRETE = "kd_envs/ProbeDiscrete-v0", "kd_envs/ProbeMultiDiscrete-v0"
BOX, DICT = "kd_envs/ProbeBox-v0", "kd_envs/ProbeDict-v0"
PIXELS, DRIFT = "golden/Pixels-v0", "golden/Drift-v0"

SMALL: dict[str, Any] = {
    "env_steps": 1200,
    "rounds": 3,
    "n_envs": 4,
    "round_steps": 30,
    "final_steps": 100,
    "attempts": 2,
    "exam_episodes": 4,
    "hidden": [8],
    "episodes": 10,
    "max_episodes": 10,
    "quiet": True,
}
"""The settings of a distillation of a second or two."""

ABLE = 31
"""The seed of an `agent` that happens to balance the pole for a while, so that a student has something to lose."""

SMALL_PPO = {"n_envs": 2, "n_steps": 32, "batch_size": 32, "n_epochs": 2, "hidden": [8], "eval_episodes": 2}
"""The settings of a training by PPO that is as short."""


# Environments


class Pixels(gym.Env[NDArray[np.uint8], np.int64]):
    """A bright square in one quarter of a noisy picture; the best action is the number of the quarter."""

    SIZE = 20

    def __init__(self, render_mode: str | None = None) -> None:
        self.observation_space = gym.spaces.Box(0, 255, (self.SIZE, self.SIZE, 1), np.uint8)
        self.action_space = gym.spaces.Discrete(4)
        self.render_mode = render_mode
        self._quarter = 0

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.uint8], dict[str, Any]]:
        """Draw a picture."""
        super().reset(seed=seed)
        return self._draw(), {}

    def step(self, action: np.int64) -> tuple[NDArray[np.uint8], float, bool, bool, dict[str, Any]]:
        """Reward the quarter and draw the next picture; episodes end by the time limit alone."""
        reward = float(action == self._quarter)
        return self._draw(), reward, False, False, {}

    def _draw(self) -> NDArray[np.uint8]:
        picture = self.np_random.integers(0, 120, (self.SIZE, self.SIZE, 1), dtype=np.uint8)
        self._quarter = int(self.np_random.integers(4))
        half = self.SIZE // 2
        top, left = half * (self._quarter // 2), half * (self._quarter % 2)
        picture[top : top + half, left : left + half] += 100
        return picture


class Drift(gym.ObservationWrapper[Any, Any, Any]):
    """The Discrete probe, whose observations are moved once a number of steps is over."""

    BEGIN = 600

    def __init__(self, render_mode: str | None = None) -> None:
        super().__init__(gym.make(DISCRETE, render_mode=render_mode))
        self.observation_space = gym.spaces.Box(-5, 5, (4,), np.float32)
        self._seen = 0

    def observation(self, observation: NDArray[np.float32]) -> NDArray[np.float32]:
        """The observation as it is, or moved."""
        self._seen += 1
        shift = np.array([-3, -3, -3, 3], np.float32)
        return observation + shift if self._seen > self.BEGIN else observation


gym.register(PIXELS, f"{__name__}:Pixels", max_episode_steps=25)
gym.register(DRIFT, f"{__name__}:Drift")


# Teachers


def agent(algorithm: type[Any], env: str, seed: int = 3, policy: str = "MlpPolicy", **settings: Any) -> str:
    """Save an agent of Stable-Baselines3 whose weights are random, but as large as a trained one's.

    Args:
        algorithm: Its class.
        env: Its environment.
        seed: Of its weights.
        policy: The name of its policy class.
        **settings: More for the algorithm.

    Returns:
        The path of its zip, in the working folder.
    """
    model = algorithm(policy, env, seed=seed, device="cpu", **settings)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.policy.parameters():
            if parameter.ndim == 2:
                fan_in = parameter.shape[1]
                noise = torch.randn(parameter.shape, generator=generator)
                parameter.add_(noise, alpha=1.5 * fan_in**-0.5)
    path = f"{algorithm.__name__}-{seed}.zip"
    model.save(path)
    return path


def function_teacher(function: Callable[[Any], Any], env: str) -> Any:
    """A Python function as a teacher for an environment."""
    made = gym.make(env)
    spaces = made.observation_space, made.action_space
    made.close()
    return load_teacher(function, env=spaces)


def brightest_quarter(pictures: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Logits `[B, 4]` for `Pixels`: how bright each quarter is."""
    half = Pixels.SIZE // 2
    quarters = pictures.reshape(-1, 2, half, 2, half)
    brightness = quarters.astype(np.float32).mean(axis=(2, 4)).reshape(-1, 4)
    return np.divide(brightness, 20, dtype=np.float32)


class Balancer:
    """Logits `[B, 2]` for CartPole: push to where the pole falls.

    Args:
        calls: How many batches it labels before it interrupts the run, as Ctrl-C does; None: all.
    """

    def __init__(self, calls: int | None = None) -> None:
        self._left = calls

    def __call__(self, observations: NDArray[np.float32]) -> NDArray[np.float32]:
        """Label a batch `[B, 4]`."""
        if self._left is not None:
            self._left -= 1
            if self._left < 0:
                raise KeyboardInterrupt
        falling = observations @ np.array([0.1, 0.3, 3, 1.5], np.float32)
        return np.stack([-falling, falling], axis=1)


# Runs: each works in an empty folder, its working folder


def categorical() -> Figures:
    """PPO on CartPole, and what the saved student then says by itself."""
    known = distilled(CARTPOLE, agent(PPO, CARTPOLE, ABLE))
    observations = np.random.default_rng(5).normal(size=(50, 4)).astype(np.float32)
    known["probabilities"] = digest(load_policy(f"run/{STUDENT}").probabilities(observations))
    return known


def gaussian() -> Figures:
    """PPO on Pendulum, the student's size by default."""
    return distilled(PENDULUM, agent(PPO, PENDULUM), hidden=None)


def squashed_gaussian() -> Figures:
    """SAC, by the reverse KL."""
    return distilled(BOX, agent(SAC, BOX, policy_kwargs={"net_arch": [16, 16]}, buffer_size=10), loss=["reverse_kl"])


def multi_discrete() -> Figures:
    """Several choices at once."""
    return distilled(MULTI_DISCRETE, agent(PPO, MULTI_DISCRETE))


def recurrent() -> Figures:
    """A teacher with a memory; rollouts are long enough for windows that begin amid an episode."""
    memory = {"lstm_hidden_size": 8, "net_arch": [8]}
    source = agent(RecurrentPPO, PENDULUM, policy="MlpLstmPolicy", policy_kwargs=memory)
    return distilled(PENDULUM, source, env_steps=2400, rounds=2, round_steps=20, final_steps=60, batch_size=256)


def image() -> Figures:
    """A student with convolutions."""
    teacher = function_teacher(brightest_quarter, PIXELS)
    return distilled(PIXELS, teacher, env_steps=600, round_steps=20, final_steps=60, batch_size=64)


def keys() -> Figures:
    """Teacher and student see different parts of an observation."""
    return distilled(DICT, agent(PPO, DISCRETE), teacher_keys=["all"], student_keys=["half"])


def tree() -> Figures:
    """A decision tree."""
    return distilled(CARTPOLE, agent(PPO, CARTPOLE, ABLE), student="tree", leaves=12, hidden=None)


def several_teachers() -> Figures:
    """Three teachers are examined, the two that can balance are mixed, the third is not heard."""
    unable = 3
    sources = [agent(PPO, CARTPOLE, seed) for seed in (10, 51, unable)]
    return distilled(CARTPOLE, sources, combine="mixture", teacher_gate=True)


def size_search() -> Figures:
    """The smallest size that holds a generous margin."""
    smaller = {"hidden": [6], "attempts": 1, "rounds": 2, "margin": 0.5}
    return distilled(CARTPOLE, agent(PPO, CARTPOLE, ABLE), search_size=True, **smaller)


def regularised() -> Figures:
    """Temperature, dropout, weight decay, beta and exploration, none of them the default."""
    return distilled(
        CARTPOLE,
        agent(PPO, CARTPOLE, ABLE),
        temperature=2.0,
        dropout=0.1,
        l2=0.01,
        beta_fraction=0.8,
        exploration=0.1,
        activation="tanh",
        seed=7,
    )


def rusu() -> Figures:
    """The other convention of temperature, and a weighted sum of losses."""
    return distilled(
        CARTPOLE,
        agent(PPO, CARTPOLE, ABLE),
        temperature=0.5,
        convention="rusu",
        loss=["kl=1", "ce=0.3"],
        batch_size=100,
    )


def layers_and_values() -> Figures:
    """Losses of the teacher's layers and of its critic."""
    loss = ["kl=1", "hint=0.1", "relation=0.1", "value=0.1"]
    return distilled(DISCRETE, agent(PPO, DISCRETE), loss=loss, hidden=[8, 8])


def automatic_temperature() -> Figures:
    """A temperature chosen on held-out environments."""
    return distilled(CARTPOLE, agent(PPO, CARTPOLE, ABLE), temperature="auto", n_envs=6)


def realtime() -> Figures:
    """A student that follows a teacher in training."""
    training = {**SMALL_PPO, "total_steps": 192, "eval_every": 64, "learning_rate": 0.01}
    return distilled(DISCRETE, None, realtime=True, training=training)


def control() -> Figures:
    """The same network trained by PPO, beside the student."""
    return distilled(BOX, agent(PPO, BOX), control=True, training={**SMALL_PPO, "normalize": True})


def interrupted() -> Figures:
    """A run that is interrupted while it collects its second round, and resumed; beside it, one that is not."""
    settings = {**SMALL, "env": CARTPOLE, "out": "run"}
    calls = settings["env_steps"] // settings["n_envs"] // 2
    try:
        distill(settings, teacher=function_teacher(Balancer(calls), CARTPOLE))
    except KeyboardInterrupt:
        pass
    else:
        raise RuntimeError("the run was over before it was interrupted")
    result = distill({**settings, "resume": True}, teacher=function_teacher(Balancer(), CARTPOLE))
    known = figures(result, Path("run"))
    whole = distill({**settings, "out": "whole"}, teacher=function_teacher(Balancer(), CARTPOLE))
    known["uninterrupted"] = figures(whole, Path("whole"))
    return known


def tasks() -> Figures:
    """Two tasks in one student."""
    ids = [CARTPOLE, BOX]
    shared = {name: value for name, value in SMALL.items() if name != "n_envs"}
    sources = [agent(PPO, CARTPOLE, ABLE), agent(PPO, BOX)]
    result = distill_tasks({**shared, "tasks": ids, "teacher": sources, "hidden": [9, 7], "out": "run"})
    known = figures(result, Path("run"))
    known["tasks"] = {task: figures(one) for task, one in result["tasks"].items()}
    return known


def kickstart() -> Figures:
    """PPO under a teacher that fades, by the command line."""
    return kickstarted(DISCRETE, agent(PPO, DISCRETE))


def proximal() -> Figures:
    """Proximal policy distillation with an adaptive fade, by the command line."""
    return kickstarted(PENDULUM, agent(PPO, PENDULUM), method="ppd", fade="adaptive")


def compress() -> Figures:
    """Distillation, pruning and int8 by the command line."""
    source = agent(PPO, DISCRETE, policy_kwargs={"net_arch": [16, 16]})
    command("compress", **{**SMALL, "env": DISCRETE, "teacher": source, "out": "run"})
    rows = read_json("run/compression.json")["rows"]
    return {
        "tensors": tensors(Path("run")),
        "distilled": figures(read_json("run/distilled/result.json"), Path("run/distilled")),
        "rows": {row["name"]: timeless(row) for row in rows},
    }


def follow_drift() -> Figures:
    """A student that goes on learning in a world that changes, by the command line."""
    source = agent(PPO, DISCRETE)
    before = distilled(DISCRETE, source, env_steps=2000, final_steps=400, attempts=1, out="before")
    # The command is another process, which registers DRIFT by importing this module.
    command(
        "follow-drift",
        f"before/{STUDENT}",
        env=f"{Path(__file__).stem}:{DRIFT}",
        teacher=source,
        out="run",
        env_steps=1500,
        reference_episodes=20,
        reservoir=500,
        lesson_steps=40,
        episodes=4,
        max_episodes=4,
        quiet=True,
    )
    result = read_json("run/drift.json")
    if not result["gradient_steps"]:
        raise RuntimeError("no drift was noticed, so that nothing was learnt")
    told = timeless({name: result[name] for name in ("env_steps", "gradient_steps", "changes", "timeline")})
    places = {name: timeless(place) for name, place in result["verdict"].items()}
    return {"before": before, "tensors": tensors(Path("run")), **told, "verdict": places}


RUNS: dict[str, Callable[[], Figures]] = {
    "categorical": categorical,
    "gaussian": gaussian,
    "squashed_gaussian": squashed_gaussian,
    "multi_discrete": multi_discrete,
    "recurrent": recurrent,
    "image": image,
    "keys": keys,
    "tree": tree,
    "several_teachers": several_teachers,
    "size_search": size_search,
    "regularised": regularised,
    "rusu": rusu,
    "layers_and_values": layers_and_values,
    "automatic_temperature": automatic_temperature,
    "realtime": realtime,
    "control": control,
    "interrupted": interrupted,
    "tasks": tasks,
    "kickstart": kickstart,
    "proximal": proximal,
    "compress": compress,
    "follow_drift": follow_drift,
}


# What runs are made of


def distilled(env: str, teacher: Any, **settings: Any) -> Figures:
    """Distil by `SMALL` and tell the figures.

    Args:
        env: The environment.
        teacher: A path, several, a loaded teacher, or None for one that is trained.
        **settings: What differs from `SMALL`.
    """
    given = {**SMALL, "env": env, "out": "run", **settings}
    if isinstance(teacher, str | list):
        result = distill({**given, "teacher": teacher})
    else:
        result = distill(given, teacher=teacher)
    return figures(result, Path(given["out"]))


def kickstarted(env: str, teacher: str, **settings: Any) -> Figures:
    """Kickstart a student by the command line and tell the figures."""
    training = {f"training.{name}": value for name, value in SMALL_PPO.items()}
    shared = {"hidden": [8], "total_steps": 1024, "episodes": 10, "max_episodes": 10, "quiet": True}
    command("kickstart", env=env, teacher=teacher, out="run", **shared, **training, **settings)
    return figures(read_json("run/result.json"), Path("run"))


def command(name: str, *words: str, **settings: Any) -> None:
    """Run `python -m kd_agent` with settings as flags.

    Raises:
        RuntimeError: It failed; with what it said.
    """
    paths = [str(ROOT), str(ROOT / "envs"), str(Path(__file__).resolve().parent)]
    done = subprocess.run(
        [sys.executable, "-m", "kd_agent", name, *words, *flags(settings)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"{name} ended with {done.returncode}: {done.stderr.strip()[-500:]}")


def flags(settings: Mapping[str, Any]) -> list[str]:
    """Settings as words of a command line."""
    words: list[str] = []
    for name, value in settings.items():
        words.append(f"--{name.replace('_', '-')}")
        if isinstance(value, list):
            words.extend(str(part) for part in value)
        elif value is not True:
            words.append(str(value))
    return words


def read_json(path: str) -> dict[str, Any]:
    """The content of a JSON file."""
    content: dict[str, Any] = json.loads(Path(path).read_text())
    return content


SIDES = {
    "teacher": ("returns", "mean", "lower_tail", "parameters"),
    "student": ("returns", "mean", "lower_tail", "parameters", "kl", "kl_uniform", "agreement"),
    "random": ("mean",),
    "verdict": ("decision", "episodes", "mean", "lower_tail", "looks"),
    "cost": ("gradient_steps", *ENV_STEPS),
}
"""The figures that are kept of every result, where it has them."""
EXTRAS = ("teachers", "temperature", "search", "control", "realtime", "kickstart")
"""Parts of a result that only some have; all of their figures are kept."""


def figures(result: Mapping[str, Any], folder: Path | None = None) -> Figures:
    """What a result is known by.

    Args:
        result: Content of `result.json`.
        folder: Where the students lie, if there are some.
    """
    known: Figures = {"tensors": tensors(folder)} if folder else {}
    for side, names in SIDES.items():
        if side in result:
            known[side] = {name: result[side][name] for name in names if name in result[side]}
    for extra in EXTRAS:
        if extra in result:
            known[extra] = timeless(result[extra])
    return known


def timeless(value: Any) -> Any:
    """Figures without times and without what names or measures a file."""
    if isinstance(value, Mapping):
        return {key: timeless(part) for key, part in value.items() if not _passing(key)}
    if isinstance(value, list | tuple):
        return [timeless(part) for part in value]
    return value


def _passing(key: str) -> bool:
    """Whether a figure of this name may differ from run to run, or tells of a file's layout."""
    times = key.endswith("_s") or key in ("seconds", "microseconds")
    return times or key in ("source", "file", "sha256", "bytes", "env")


def tensors(folder: Path) -> dict[str, str]:
    """A hash of the tensors of each student in a folder, by the file's name.

    The metadata are left out: they say where a student comes from, in words that may change.
    """
    return {path.name: digest(load_file(path)) for path in sorted(folder.glob("*.safetensors"))}


def digest(arrays: NDArray[Any] | Mapping[str, NDArray[Any]]) -> str:
    """A sha256 over names, types, shapes and bytes of arrays."""
    named = arrays if isinstance(arrays, Mapping) else {"": arrays}
    found = hashlib.sha256()
    for name in sorted(named):
        array = np.ascontiguousarray(named[name])
        found.update(f"{name} {array.dtype} {array.shape}\n".encode())
        found.update(array.tobytes())
    return found.hexdigest()


# Recording and comparing


def perform(name: str) -> tuple[str, Figures, float]:
    """Make one run in a temporary folder.

    Returns:
        The run's name, its figures as JSON reads them back, and the seconds of CPU that it took. A run that fails
        has one figure, `failed`.
    """
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        try:
            known = json.loads(json.dumps(RUNS[name]()))
        except Exception as error:
            traceback.print_exc()
            known = {"failed": f"{type(error).__name__}: {error}"}
        finally:
            os.chdir(ROOT)
    spent = os.times()
    return name, known, spent.user + spent.system + spent.children_user + spent.children_system


def performed(names: Sequence[str], jobs: int) -> Iterator[tuple[str, Figures, float]]:
    """Make runs, each in a process of its own, so that none can depend on another.

    A fork has the libraries imported already; where there are no forks, each process imports them.
    """
    method = "fork" if "fork" in multiprocessing.get_all_start_methods() else "spawn"
    with multiprocessing.get_context(method).Pool(jobs, maxtasksperchild=1) as pool:
        yield from pool.imap(perform, names, chunksize=1)


def machine() -> dict[str, str]:
    """What the bits may depend on besides the code."""
    packages = ("torch", "numpy", "gymnasium", "stable-baselines3", "sb3-contrib", "scikit-learn")
    return {
        "processor": processor(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "python": platform.python_version(),
        **{package: version(package) for package in packages},
    }


def processor() -> str:
    """The processor's model."""
    listing = Path("/proc/cpuinfo")
    lines = listing.read_text().splitlines() if listing.is_file() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor() or platform.machine()


def leaves(value: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """Every figure by its path, as text, in which NaN equals NaN."""
    if isinstance(value, dict):
        for key, part in value.items():
            yield from leaves(part, f"{path}.{key}" if path else key)
    elif isinstance(value, list) and any(isinstance(part, dict | list) for part in value):
        for index, part in enumerate(value):
            yield from leaves(part, f"{path}[{index}]")
    else:
        yield path, json.dumps(value)


def differences(recorded: Figures, found: Figures) -> list[str]:
    """A line for each figure that is not as recorded."""
    before, now = dict(leaves(recorded)), dict(leaves(found))
    paths = [*before, *(path for path in now if path not in before)]
    changed = [path for path in paths if before.get(path) != now.get(path)]
    return [f"{path} was {shortened(before.get(path))}, is {shortened(now.get(path))}" for path in changed]


def shortened(text: str | None) -> str:
    """A figure as it is printed."""
    if text is None:
        return "absent"
    return text if len(text) <= 60 else f"{text[:57]}..."


def record(names: Sequence[str], jobs: int) -> int:
    """Make runs and write them down; runs that are not among them stay as they were recorded.

    Returns:
        The exit code.
    """
    here = machine()
    known = read_json(str(GOLDEN)) if GOLDEN.is_file() else {"machine": here, "runs": {}}
    missing = set(RUNS) - set(names)
    if missing and known["machine"] != here:
        print("runs.json was recorded elsewhere, so that some runs alone cannot be recorded anew: leave --only out")
        return 1
    runs = {name: figures for name, figures in known["runs"].items() if name in missing}
    for name, found, seconds in performed(names, jobs):
        if "failed" in found:
            print(f"{name}: FAILED: {found['failed']}")
            return 1
        runs[name] = found
        print(f"{name}: recorded ({seconds:.1f} s of CPU)", flush=True)
    ordered = {name: runs[name] for name in RUNS if name in runs}
    GOLDEN.write_text(json.dumps({"machine": here, "runs": ordered}, indent=1) + "\n")
    return 0


def check(names: Sequence[str], jobs: int) -> int:
    """Make runs and compare them with what is recorded.

    Returns:
        The exit code: 1 if any differs.
    """
    known = read_json(str(GOLDEN))
    elsewhere = differences(known["machine"], machine())
    if elsewhere:
        print(f"recorded on another machine: {'; '.join(elsewhere)}")
    differing = 0
    for name, found, seconds in performed(names, jobs):
        wrong = differences(known["runs"].get(name, {}), found)
        more = f"; and {len(wrong) - SHOWN} more figures" if len(wrong) > SHOWN else ""
        said = f"DIFFERS: {'; '.join(wrong[:SHOWN])}{more}" if wrong else "same"
        print(f"{name}: {said} ({seconds:.1f} s of CPU)", flush=True)
        differing += bool(wrong)
    if differing:
        print(f"{differing} of {len(names)} runs differ from {GOLDEN.relative_to(ROOT)}")
    if differing and elsewhere:
        print("The machine is not the one that recorded them: bits may differ there without a mistake in the code.")
        print("Record them here at the commit before the change, and compare with that.")
    return int(differing > 0)


def main() -> int:
    """Record or check; the exit code."""
    parser = argparse.ArgumentParser(description="Make small runs and compare them with what is recorded.")
    parser.add_argument("--record", action="store_true", help="write the results down instead of comparing them")
    parser.add_argument("--only", nargs="+", metavar="NAME", choices=RUNS, default=list(RUNS), help=", ".join(RUNS))
    parser.add_argument("--jobs", type=int, default=1, help="how many runs at once")
    given = parser.parse_args()
    started = time.monotonic()
    act = record if given.record else check
    code = act(given.only, given.jobs)
    print(f"{len(given.only)} runs in {time.monotonic() - started:.0f} s")
    return code
