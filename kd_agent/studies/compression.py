"""The compression triad: distillation, pruning and int8, each alone and combined, in one table.

The states that the distillation collects, with their labels, serve every other fit and the pruning too.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
from torch.utils.tensorboard import SummaryWriter

from kd_agent import plugins
from kd_agent.compress import prune, quantize
from kd_agent.distillation.distill import STUDENT_FILE, check, distill
from kd_agent.distillation.fitting import fit_all
from kd_agent.environments import Recipe
from kd_agent.environments.vector import spaces_of
from kd_agent.errors import KDError
from kd_agent.evaluation import EVALUATION_SEED, Arena, Contest, along, iqm, iqm_interval
from kd_agent.native.latency import c_loop
from kd_agent.networks import GraphStudent
from kd_agent.policies import Array, Policy, PolicyGraph
from kd_agent.policies import file as graph_file
from kd_agent.ppo.teacher import trained_teacher, training_of_teacher
from kd_agent.rollouts import Rollout
from kd_agent.runs import Reporter, RunFolder, next_folder
from kd_agent.runs.plan import effort, settled
from kd_agent.runs.record import Session
from kd_agent.settings import DistillConfig
from kd_agent.teachers import GraphTeacher, load_named, named_recipe

_STATES = 10_000
"""States on which importance and ranges are measured."""
_CAREFUL = 3.0
"""How much smaller the learning rate of an int8-aware fit is: it starts near its goal, and rounding makes it noisy."""


@dataclass(frozen=True)
class Row:
    """One compressed policy and what it is worth.

    Attributes:
        name: What was done.
        file: Where it lies, in the run folder.
        bytes: Of constants in C (int8 weights where it is quantised).
        multiply_adds: Per action.
        microseconds: Median time of one action in a C loop.
        returns: Of each episode, in seed order.
        iqm: Their interquartile mean.
        iqm_ci: Its 95 % interval.
        decision: Against the teacher, on the same seeds.
        kl: Mean KL from the teacher on the states that the student visits, in nats.
        agreement: Share of those states with the teacher's greedy action.
    """

    name: str
    file: str
    bytes: int
    multiply_adds: int
    microseconds: float | None
    returns: list[float]
    iqm: float
    iqm_ci: tuple[float, float]
    decision: str
    kl: float
    agreement: float


def compress(config: DistillConfig) -> list[Row]:
    """Make every combination from one teacher, judge all of them on the same seeds, and write the table.

    Raises:
        KDError: An input is wrong, or the teacher is no network whose layers can be pruned.
    """
    if config.resume or config.render:
        raise KDError("compressing neither resumes nor renders; choose another --out, or evaluate one of its files")
    if config.student == "tree":
        raise KDError("a tree has neither layers to prune nor weights to round; its size is --leaves")
    if config.search_size or config.temperature == "auto":
        raise KDError("compressing takes one size and one temperature: leave out --search-size and --temperature auto")
    if config.hidden == ():
        raise KDError("a linear student gives no size to prune to; name --hidden")
    check(config)
    reporter = Reporter(quiet=config.quiet, progress=config.progress)
    folder = RunFolder(Path(config.out) if config.out else next_folder(config.env))
    config, recipe, teacher = _prepared(config, folder.path / "distilled", reporter)
    distill(config)
    rollouts = _rollouts(RunFolder(folder.path / "distilled"))
    with SummaryWriter(str(folder.path)) as events:
        seen = teacher.observations
        config = settled(config, teacher, seen)
        run = Session(config, effort(config, teacher, seen), recipe, seen, teacher, folder, reporter, events)
        policies = _policies(run, teacher.graph, rollouts)
    rows = _judged(run, policies, rollouts[-1])
    folder.write_json("compression.json", {"format": 1, "env": recipe.env_id, "rows": [asdict(row) for row in rows]})
    folder.write_text("compression.md", table(rows) + "\n")
    return rows


def table(rows: Sequence[Row]) -> str:
    """The rows in Markdown."""
    heads = "policy", "bytes", "multiply-adds", "us in C", "IQM", "95 % interval", "verdict", "KL", "agreement"
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for row in rows:
        time = "" if row.microseconds is None else f"{row.microseconds:.3f}"
        lines.append(f"| {row.name} | {row.bytes:,} | {row.multiply_adds:,} | {time} | {row.iqm:.1f} | "
                     f"{row.iqm_ci[0]:.1f} to {row.iqm_ci[1]:.1f} | {row.decision} | {row.kl:.2g} | "
                     f"{row.agreement:.1%} |")  # fmt: skip
    return "\n".join(lines)


def _prepared(config: DistillConfig, out: Path, reporter: Reporter) -> tuple[DistillConfig, Recipe, GraphTeacher]:
    """The settings of the distillation, and the teacher: the one that is named, or one trained now."""
    recipe = named_recipe(config)
    spaces = spaces_of(recipe)
    source = config.teacher or (str(trained_teacher(training_of_teacher(config, spaces), reporter)),)
    config = replace(config, teacher=source, out=str(out), max_episodes=config.episodes)
    teacher = load_named(config, spaces)
    if not isinstance(teacher, GraphTeacher) or teacher.recurrent or not prune.hidden_layers(teacher.graph):
        raise KDError(f"{source[0]}: pruning needs a teacher read as a network with hidden linear layers, no memory")
    return config, recipe, teacher


def _rollouts(folder: RunFolder) -> list[Rollout]:
    """The labelled states of a finished distillation."""
    names = sorted(folder.path.glob("checkpoint/round-*.npz"), key=lambda path: int(path.stem.partition("-")[2]))
    return [Rollout.from_arrays(folder.load_arrays(path.stem) or {}) for path in names]


def _policies(run: Session, teacher: PolicyGraph, rollouts: list[Rollout]) -> dict[str, PolicyGraph]:
    """Every combination by name."""
    student, seen = graph_file.read(Path(str(run.config.out)) / STUDENT_FILE), _sample(rollouts)
    pruned = prune.compress(teacher, seen, hidden=_sizes(teacher, student))

    def fitted(graph: PolicyGraph, name: str, number: int, *, int8: bool = False) -> PolicyGraph:
        network = GraphStudent(graph, int8=int8)
        rate = run.effort.learning_rate / (_CAREFUL if int8 else 1)
        slower = replace(run, effort=replace(run.effort, learning_rate=rate))
        fit_all(slower, network, rollouts, name=name, steps=run.effort.final_steps, number=1000 + number)
        return network.graph()

    both = fitted(pruned, "fit of the pruned", 0)
    aware = fitted(student, "int8-aware fit", 1, int8=True)
    aware_both = fitted(both, "int8-aware fit of the pruned", 2, int8=True)
    return {
        "teacher": teacher,
        "pruned": pruned,
        "int8": quantize.compress(teacher, seen),
        "pruned, distilled": both,
        "distilled": student,
        "distilled, then int8": quantize.compress(student, seen),
        "distilled, int8-aware": quantize.compress(aware, seen),
        "pruned, distilled, then int8": quantize.compress(both, seen),
        "pruned, distilled, int8-aware": quantize.compress(aware_both, seen),
    }


def _sample(rollouts: Sequence[Rollout]) -> dict[str, Array]:
    """About `_STATES` of the states `[S, *O]` by key, spread over all rounds."""
    flat = {key: np.concatenate([r.obs[key].reshape(-1, *r.obs[key].shape[2:]) for r in rollouts])
            for key in rollouts[0].obs}  # fmt: skip
    return {key: array[:: max(1, len(array) // _STATES)] for key, array in flat.items()}


def _sizes(teacher: PolicyGraph, student: PolicyGraph) -> list[int]:
    """The student's layer sizes, the last repeated where the teacher has more layers."""
    widths = [layer.units for layer in prune.hidden_layers(student)]
    if not widths:
        raise KDError("a linear student gives no size to prune to; name --hidden")
    return [widths[min(index, len(widths) - 1)] for index in range(len(prune.hidden_layers(teacher)))]


def _judged(run: Session, policies: Mapping[str, PolicyGraph], rollout: Rollout) -> list[Row]:
    arena = Arena(run.recipe, first_seed=EVALUATION_SEED, reporter=run.reporter)
    contest = Contest(arena, run.teacher, margin=run.config.margin, episodes=run.config.episodes)
    return [_row(run, name, graph, rollout, contest) for name, graph in policies.items()]


def _row(run: Session, name: str, graph: PolicyGraph, rollout: Rollout, contest: Contest) -> Row:
    file = f"{name.replace(',', '').replace(' ', '-')}.safetensors"
    graph_file.write(replace(graph, provenance={"env": run.recipe.env_id, "made by": name}), run.folder.path / file)
    episodes = run.config.episodes
    returns = contest.teacher(episodes) if name == "teacher" else contest.arena.play(Policy(graph), name, episodes)
    verdict = contest.verdict(returns)
    close = along(run.teacher, Policy(graph), rollout)
    return Row(
        name, file, *_cost(graph, int8="int8" in name), _microseconds(graph, rollout, int8="int8" in name),
        returns, float(iqm(returns)), iqm_interval(returns),
        "" if name == "teacher" else verdict.decision, close.kl, close.agreement,
    )  # fmt: skip


def _cost(graph: PolicyGraph, *, int8: bool) -> tuple[int, int]:
    """Bytes and multiply-adds in C."""
    cost = plugins.load("export", "c").cost(graph, int8=int8)
    return cost.rom, cost.multiply_adds


def _microseconds(graph: PolicyGraph, rollout: Rollout, *, int8: bool) -> float | None:
    """Median time of one action in C; None where it cannot be compiled."""
    first = [rollout.obs[key].reshape(rollout.driver.size, -1)[:1024] for key in graph.observations]
    try:
        run = c_loop(graph, np.concatenate(first, axis=1), int8=int8)
    except KDError:
        return None
    return float(np.median(run())) / 1e3
