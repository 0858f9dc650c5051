"""Every kind of distillation on three tasks, three seeds each: one table.

    OMP_NUM_THREADS=1 python benchmarks/family.py --out runs/family --write docs/family.md

Each cell (task, method, seed) is a run folder below --out; finished cells are not run again, so that a table grows.
All students of a task have one size, one teacher (seed 0 of `configs/`), one budget, eight rounds, and a single last
fit, so that methods are compared and not attempts. Every student plays the verdict's episodes, greedily.
"""

import argparse
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from stable_baselines3 import PPO

from kd_agent import KDError, compare, load_policy, load_teacher
from kd_agent.distillation.distill import distill
from kd_agent.environments.vector import spaces_of
from kd_agent.evaluation.statistics import lower_tail
from kd_agent.evaluation.verdict import EVALUATION_SEED
from kd_agent.kickstarting.kickstart import kickstart
from kd_agent.ppo.teacher import trained_teacher
from kd_agent.rollouts.evaluate import evaluate
from kd_agent.runs.reporter import Reporter
from kd_agent.settings import DistillConfig, config_folder, resolve
from kd_agent.settings.yaml_file import read_mapping

Settings = dict[str, Any]
Cell = Callable[[str, Settings, int, Path], Settings]

SHARED: Settings = {"rounds": 8, "attempts": 1, "episodes": 2, "max_episodes": 2, "quiet": True}
TASKS: dict[str, Settings] = {
    "BipedalWalker-v3": {"env_steps": 30_000, "round_steps": 300, "final_steps": 4_000},
    "LunarLander-v3": {"env_steps": 10_000, "hidden": [8, 8], "round_steps": 200, "final_steps": 3_000},
    "Acrobot-v1": {
        "env_steps": 5_000,
        "hidden": [4, 4],
        "round_steps": 200,
        "final_steps": 3_000,
        "n_envs": 16,
    },
}
COLUMNS = (
    "method",
    "mean, interval, worst tenth",
    "verdict",
    "KL",
    "agreement",
    "parameters",
    "env steps",
    "seconds",
    "against the reference",
)
MEANS = ("parameters", "kl", "agreement", "env_steps", "seconds")
TEACHERS = {"BipedalWalker-v3": 1, "LunarLander-v3": 2, "Acrobot-v1": 2}
"""How many of the seeds of `configs/` make several teachers (one of BipedalWalker takes ten minutes)."""
GUIDED = {"BipedalWalker-v3": 100_000, "LunarLander-v3": 100_000, "Acrobot-v1": 50_000}
"""Steps of PPO under a teacher: more than a distillation has, for PPO needs them."""
EPISODES = {"BipedalWalker-v3": 50, "LunarLander-v3": 100, "Acrobot-v1": 100}
_RESAMPLES = 2_000


def settings_of(**settings: Any) -> Cell:
    """A cell that is an ordinary distillation with other settings."""
    return lambda env, shared, seed, folder: distilled(env, {**shared, **settings}, seed, folder)


def preset(name: str) -> Settings:
    """What `configs/methods/<name>.yaml` says."""
    return dict(read_mapping(config_folder() / "methods" / f"{name}.yaml"))


def beside(name: str) -> Cell:
    """The task's own loss plus what a preset puts beside KL."""
    return with_loss({loss: weight for loss, weight in preset(name)["loss"].items() if loss != "kl"})


def with_loss(extra: Mapping[str, float] | None = None, **settings: Any) -> Cell:
    """The task's own loss plus others."""

    def run(env: str, shared: Settings, seed: int, folder: Path) -> Settings:
        loss = {**own_loss(env), **(extra or {})}
        return distilled(env, {**shared, "loss": loss, **settings}, seed, folder)

    return run


def with_teachers(combine: str) -> Cell:
    """All good teachers that there are of a task, and one that was never trained."""

    def run(env: str, shared: Settings, seed: int, folder: Path) -> Settings:
        teachers = [*(teacher_of(env, number) for number in range(TEACHERS[env])), untrained(env, folder)]
        return distilled(env, {**shared, "teacher": teachers, "combine": combine}, seed, folder)

    return run


def guided(method: str) -> Cell:
    """PPO under a teacher that fades."""

    def run(env: str, shared: Settings, seed: int, folder: Path) -> Settings:
        own = {name: shared[name] for name in ("hidden", "episodes", "max_episodes", "quiet") if name in shared}
        asked = {"env": env, "teacher": [teacher_of(env)], "method": method, "seed": seed, "out": str(folder / "run")}
        result = kickstart({**asked, **own, "total_steps": GUIDED[env]})
        return figures(env, result, folder / "run", result["cost"]["distill_s"])

    return run


def without_teacher(env: str, shared: Settings, seed: int, folder: Path) -> Settings:
    """The same network trained directly by PPO in as many steps."""
    run = {"env": env, "teacher": [teacher_of(env)], "seed": seed, "out": str(folder / "run"), "control": True}
    control = distill({**shared, **run, "episodes": EPISODES[env], "max_episodes": EPISODES[env]})["control"]
    return {**control, "kl": float("nan"), "agreement": float("nan")}


REFERENCE = "KL or MSE, T = 1, eight rounds (the reference)"
METHODS: dict[str, Cell] = {
    REFERENCE: settings_of(),
    "the teacher's states alone (one round)": settings_of(rounds=1),
    "half of the states the teacher's (two rounds)": settings_of(rounds=2, round_steps=2_000),
    "beta to 0 over all rounds": settings_of(beta_fraction=1.0),
    "forward KL": settings_of(loss={"kl": 1.0}),
    "forward KL, T = 0.5": settings_of(loss={"kl": 1.0}, temperature=0.5),
    "forward KL, T = 2": settings_of(loss={"kl": 1.0}, temperature=2.0),
    "forward KL, T = 4": settings_of(loss={"kl": 1.0}, temperature=4.0),
    "forward KL, T = 0.1, teacher alone (rusu)": settings_of(**preset("rusu")),
    "reverse KL": settings_of(loss={"reverse_kl": 1.0}),
    "Jensen-Shannon": settings_of(loss={"js": 1.0}),
    "cross-entropy": settings_of(loss={"ce": 1.0}),
    "cross-entropy + KL (the article's)": settings_of(**preset("article")),
    "MSE of logits or means": settings_of(loss={"mse": 1.0}),
    "+ hint": beside("hint"),
    "+ relation": beside("relation"),
    "+ value": beside("value"),
    "+ ranking": with_loss({"ranking": 1.0}),
    "ranking": settings_of(**preset("ranking")),
    "intuition": settings_of(**preset("intuition")),
    "+ intuition": with_loss({"intuition": 1.0}),
    "+ dropout 0.1": settings_of(dropout=0.1),
    "+ L2 0.01": settings_of(l2=0.01),
    "temperature chosen by itself": settings_of(**preset("temperature_auto")),
    "tree of 64 leaves": settings_of(student="tree", leaves=64),
    "tree of 256 leaves": settings_of(**preset("tree")),
    "mixture of teachers, one of them random": with_teachers("mixture"),
    "product of teachers, one of them random": with_teachers("product"),
    "the most confident of teachers, one of them random": with_teachers("confidence"),
    "routed to teachers, one of them random": with_teachers("routed"),
    "kickstarting": guided("kickstart"),
    "proximal policy distillation": guided("ppd"),
    "no teacher: the control": without_teacher,
}


_GAUSSIAN = {
    **dict.fromkeys(("MSE of logits or means", "temperature chosen by itself"), REFERENCE),
    **dict.fromkeys(("forward KL, T = 0.5", "forward KL, T = 2", "forward KL, T = 4"), "forward KL"),
    **dict.fromkeys(
        (
            method
            for method in METHODS
            if method.partition(" ")[0] in ("product", "the", "routed") and "of them random" in method
        ),
        "mixture of teachers, one of them random",
    ),
}
SAME = {
    "BipedalWalker-v3": _GAUSSIAN,
    "LunarLander-v3": {"forward KL": REFERENCE},
    "Acrobot-v1": {"forward KL": REFERENCE},
}
"""Methods that are another one on a task: its default, a temperature that cancels out in a Gaussian's KL, or a rule
for several teachers where the gate leaves a single one."""


def own_loss(env: str) -> dict[str, float]:
    """What a distillation minimises where nobody says."""
    return {"mse" if hasattr(spaces_of(env)[1], "low") else "kl": 1.0}


def distilled(env: str, settings: Settings, seed: int, folder: Path) -> Settings:
    """One distillation."""
    given = {"env": env, "teacher": [teacher_of(env)], "seed": seed, "out": str(folder / "run"), **settings}
    result = distill(given)
    return figures(env, result, folder / "run", result["cost"]["distill_s"])


def figures(env: str, result: Mapping[str, Any], run: Path, seconds: float) -> Settings:
    """A run's student: its returns, closeness and cost."""
    student, cost = result["student"], result["cost"]
    return {
        "returns": played(load_policy(run / "student.safetensors"), env),
        "parameters": student["parameters"],
        "kl": student["kl"],
        "agreement": student["agreement"],
        "env_steps": sum(cost[name] for name in ("collect_steps", "validation_steps", "selection_steps")),
        "seconds": seconds,
    }


def untrained(env: str, folder: Path) -> str:
    """A PPO agent of the teachers' size that was never trained, as a zip."""
    path = folder / "untrained.zip"
    folder.mkdir(parents=True, exist_ok=True)
    PPO("MlpPolicy", env, policy_kwargs={"net_arch": [256, 256]}, seed=7, device="cpu").save(path)
    return str(path)


def teacher_of(env: str, seed: int = 0) -> str:
    """The teacher that `configs/` trains."""
    return str(trained_teacher(resolve(DistillConfig, {"env": env, "seed": seed}), Reporter(quiet=True)))


def played(player: Any, env: str) -> list[float]:
    """Returns of the verdict's episodes, in seed order."""
    seeds = range(EVALUATION_SEED, EVALUATION_SEED + EPISODES[env])
    return [float(x) for x in evaluate(player, env, seeds=seeds).returns]


def baselines(env: str, out: Path) -> dict[str, list[float]]:
    """Returns of the teacher and of the random policy, played once."""
    file = out / env / "baselines.json"
    if not file.is_file():
        teacher = load_teacher(teacher_of(env), env=spaces_of(env))
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps({"teacher": played(teacher, env), "random": played(None, env)}))
    found: dict[str, list[float]] = json.loads(file.read_text())
    return found


def cell_file(env: str, method: str, seed: int, out: Path) -> Path:
    """Where a cell's figures lie."""
    name = "".join(c if c.isalnum() or c in ".+" else "-" for c in SAME[env].get(method, method))
    return out / env / name / str(seed) / "cell.json"


def cell(env: str, method: str, seed: int, out: Path) -> Settings:
    """A cell's figures, from its file or from a run; `refused` says why a method does not serve a task."""
    method = SAME[env].get(method, method)
    file = cell_file(env, method, seed, out)
    folder = file.parent
    if not file.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        try:
            found = METHODS[method](env, {**SHARED, **TASKS[env]}, seed, folder)
        except KDError as error:
            found = {"refused": str(error)}
        file.write_text(json.dumps(found))
        print(f"{env}, {method}, seed {seed}: {shown(found)}", flush=True)
    kept: Settings = json.loads(file.read_text())
    return kept


def shown(found: Settings) -> str:
    """A cell in one line."""
    if "refused" in found:
        return f"refused: {found['refused']}"
    return f"mean {np.mean(found['returns']):.1f}, KL {found['kl']:.2g}, {found['seconds']:.0f} s"


def resampled(*scores: np.ndarray) -> list[np.ndarray]:
    """Means `[resamples]` of each of `scores [seeds, episodes]` under a bootstrap of seeds, then of episodes.

    The same seeds and episodes are drawn for all; scores of one seed stand for every seed.
    """
    rng = np.random.default_rng(0)
    seeds, episodes = scores[0].shape
    drawn = rng.integers(seeds, size=(_RESAMPLES, seeds, 1))
    played = rng.integers(episodes, size=(_RESAMPLES, seeds, episodes))
    return [x[drawn % len(x), played].reshape(_RESAMPLES, -1).mean(axis=1) for x in scores]


def interval(values: np.ndarray) -> tuple[float, float]:
    """The middle 95 %."""
    low, high = np.quantile(values, [0.025, 0.975])
    return float(low), float(high)


def row(method: str, cells: list[Settings], reference: np.ndarray, teacher: np.ndarray, chance: np.ndarray) -> str:
    """One line of the table: the method beside the reference."""
    refused = [c["refused"] for c in cells if "refused" in c]
    if refused:
        return f"| {method} | | | | | | | | not served: {refused[0].partition(',')[0]} |"
    scores = np.array([c["returns"] for c in cells])
    own, other = resampled(scores, reference)
    (low, high), (worse, better) = interval(own), interval(own - other)
    effect = "helps" if worse > 0 else "hurts" if better < 0 else "no difference shown"
    verdict = compare(teacher, scores, chance).decision
    tail = np.mean([lower_tail(returns) for returns in scores])
    mean = {name: float(np.mean([c[name] for c in cells])) for name in MEANS}
    close = " | " if np.isnan(mean["kl"]) else f"{mean['kl']:.2g} | {mean['agreement']:.1%}"
    return " | ".join(
        [
            f"| {method}",
            f"{scores.mean():.1f} [{low:.1f}, {high:.1f}], {tail:.1f}",
            verdict,
            close,
            f"{mean['parameters']:.0f}",
            f"{mean['env_steps']:,.0f}",
            f"{mean['seconds']:.0f}",
            f"{scores.mean() - reference.mean():+.1f} [{worse:.1f}, {better:.1f}]: {effect} |",
        ]
    )


def table(env: str, methods: list[str], seeds: list[int], out: Path) -> str:
    """A task's methods, in Markdown."""
    played_by = baselines(env, out)
    teacher, chance = (np.array(played_by[name]) for name in ("teacher", "random"))
    margin = 0.05 * abs(teacher.mean() - chance.mean())
    found = {method: [cell(env, method, seed, out) for seed in seeds] for method in methods}
    reference = np.array([c["returns"] for c in found[methods[0]]])
    lines = [
        f"## {env}",
        "",
        f"Teacher: mean {teacher.mean():.1f}, worst tenth {lower_tail(teacher):.1f}, over {EPISODES[env]} episodes; "
        f"random policy {chance.mean():.1f}; margin {margin:.1f}. Students: seeds {', '.join(map(str, seeds))}, "
        f"{EPISODES[env]} episodes each.",
        "",
        f"| {' | '.join(COLUMNS)} |",
        "|---" * len(COLUMNS) + "|",
        *[row(method, cells, reference, teacher, chance) for method, cells in found.items()],
    ]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("runs/family"))
    parser.add_argument("--write", type=Path, help="Markdown file whose tables are replaced")
    parser.add_argument("--envs", nargs="+", default=list(TASKS), choices=TASKS)
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=METHODS)
    parser.add_argument("--finished", action="store_true", help="only what has been run already")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    given = parser.parse_args()
    torch.set_num_threads(1)
    texts = []
    for env in given.envs:
        done = [all(cell_file(env, m, seed, given.out).is_file() for seed in given.seeds) for m in given.methods]
        methods = [m for m, there in zip(given.methods, done, strict=True) if there or not given.finished]
        texts.append(table(env, methods, given.seeds, given.out))
    text = "\n\n".join(texts)
    print(text)
    if given.write:
        before = given.write.read_text().partition("<!-- tables -->")[0] if given.write.is_file() else ""
        given.write.write_text(f"{before}<!-- tables -->\n\n{text}\n")


if __name__ == "__main__":
    main()
