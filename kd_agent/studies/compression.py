"""The compression study: distillation, pruning and few bits, each alone and combined, in one table.

The states that the distillation collects, with their labels, serve every other fit and the pruning too.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace

import numpy as np

from kd_agent import plugins
from kd_agent.compress import int4, prune, quantize, ternary
from kd_agent.distillation.checks import Use
from kd_agent.distillation.distill import distill
from kd_agent.distillation.fitting import fit
from kd_agent.distillation.problem import Problem
from kd_agent.errors import KDError
from kd_agent.evaluation import PairedComparison, measure_agreement, scores, verdict_episodes
from kd_agent.native.latency import c_loop
from kd_agent.networks import GraphStudent, Teacher
from kd_agent.policies import Array, Policy, PolicyGraph
from kd_agent.policies import file as graph_file
from kd_agent.rollouts import Rollout
from kd_agent.runs import STUDENT_FILE, Run, RunFolder, play_of
from kd_agent.settings import DistillConfig
from kd_agent.teachers import GraphTeacher

_AGAIN = "; choose another --out, or evaluate one of its files"
_ONE = "compressing takes one size and one temperature: leave out --"
_USE = Use(
    refuses={
        "resume": "compressing does not resume" + _AGAIN,
        "render": "compressing does not render" + _AGAIN,
        "realtime": "compressing starts from a finished teacher: leave out --realtime",
        "control": "compressing has no control in its table: leave out --control",
        "search_size": _ONE + "search-size",
        "then_ppo": "compressing compares what was distilled: leave out --then-ppo",
        "label_budget": "compressing asks the teacher without counting: leave out --label-budget",
    },
    resumes=False,
)
_DISTILLED = "distilled"
"""The folder of the distillation, in that of the study."""
_STATES = 10_000
"""States on which importance and ranges are measured."""
_TIMED = 1_024
"""States whose actions are timed: together they fit into a processor's cache."""
_FIRST_FIT = 1_000
"""Number of the study's own fits: those of the distillation count from 0."""
_CAREFUL = 3.0
"""How much smaller the learning rate of an int8-aware fit is: it starts near its goal, and rounding makes it noisy. Of
coarser grids it starts far away."""
_GRIDS = ("int8", "int4", "ternary")
"""What a row's name holds whose weights are stored as whole numbers."""


@dataclass(frozen=True)
class Row:
    """One compressed policy and what it is worth.

    Attributes:
        name: What was done.
        file: Where it lies, in the run folder.
        bytes: Of constants in C (weights of 8 bits or fewer where it is quantised).
        multiply_adds: Per action.
        microseconds: Median time of one action in a C loop.
        returns: Of each episode, in seed order.
        mean: Their mean.
        mean_ci: Its 95 % interval.
        lower_tail: The mean of the worst tenth.
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
    mean: float
    mean_ci: tuple[float, float]
    lower_tail: float
    decision: str
    kl: float
    agreement: float


def compress(config: DistillConfig) -> list[Row]:
    """Make every combination from one teacher, judge all of them on the same seeds, and write the table.

    Raises:
        KDError: An input is wrong, or the teacher is no network whose layers can be pruned.
    """
    _check(config)
    problem = Problem.of(config, use=_USE)
    if problem.teacher:
        check_prunable(problem.teacher)
    with problem.begin() as run:
        # Again: of a teacher that has just been trained nobody could know before.
        teacher = check_prunable(run.teacher)
        out = run.folder.path / _DISTILLED
        # As many episodes for every row of the table, also where one more look might have decided.
        distill(replace(config, out=str(out), max_episodes=config.episodes), run.teacher)
        rollouts = _rollouts(RunFolder(out))
        policies = _policies(run, teacher.graph, rollouts)
        rows = _rows(run, policies, rollouts[-1])
        document = {"format": 1, "env": run.recipe.env_id, "rows": [asdict(row) for row in rows]}
        run.folder.write_json("compression.json", document)
        run.folder.write_text("compression.md", table(rows) + "\n")
    return rows


def check_prunable(teacher: Teacher) -> GraphTeacher:
    """A teacher that can be pruned.

    Raises:
        KDError: It cannot.
    """
    if isinstance(teacher, GraphTeacher) and not teacher.recurrent and prune.hidden_layers(teacher.graph):
        return teacher
    source = teacher.origin.source
    raise KDError(f"{source}: pruning needs a teacher read as a network with hidden linear layers, no memory")


def _check(config: DistillConfig) -> None:
    if config.student == "tree":
        raise KDError("a tree has neither layers to prune nor weights to round; its size is --leaves")
    if config.temperature == "auto":
        raise KDError(_ONE + "temperature auto")
    if config.hidden == ():
        raise KDError("a linear student gives no size to prune to; name --hidden")


def table(rows: Sequence[Row]) -> str:
    """The rows in Markdown."""
    sizes = ["policy", "bytes", "multiply-adds", "us in C"]
    heads = [*sizes, "mean", "95 % interval", "worst tenth", "verdict", "KL", "agreement"]
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for row in rows:
        time = ""
        if row.microseconds is not None:
            time = f"{row.microseconds:.3f}"
        low, high = row.mean_ci
        lines.append(
            f"| {row.name} | {row.bytes:,} | {row.multiply_adds:,} | {time} | {row.mean:.1f} | "
            f"{low:.1f} to {high:.1f} | {row.lower_tail:.1f} | {row.decision} | {row.kl:.2g} | {row.agreement:.1%} |"
        )
    return "\n".join(lines)


def _rollouts(folder: RunFolder) -> list[Rollout]:
    """The labelled states of a finished distillation."""
    # By number: as text round-10 comes before round-2, and the fits would see the states in another order.
    paths = sorted(folder.path.glob("checkpoint/round-*.npz"), key=lambda path: int(path.stem.partition("-")[2]))
    return [Rollout.from_arrays(folder.load_arrays(path.stem) or {}) for path in paths]


def _policies(run: Run, teacher: PolicyGraph, rollouts: list[Rollout]) -> dict[str, PolicyGraph]:
    """Every combination by name."""
    student = graph_file.read(run.folder.path / _DISTILLED / STUDENT_FILE)
    states = _sample(rollouts)
    pruned = prune.compress(teacher, states, hidden=_sizes(teacher, student))
    both = _fitted(run, pruned, rollouts, name="fit of the pruned", number=0)
    aware = _fitted(run, student, rollouts, name="int8-aware fit", number=1, grid="int8")
    aware_both = _fitted(run, both, rollouts, name="int8-aware fit of the pruned", number=2, grid="int8")
    aware4 = _fitted(run, student, rollouts, name="int4-aware fit", number=3, grid="int4")
    aware3 = _fitted(run, student, rollouts, name="ternary-aware fit", number=4, grid="ternary")
    return {
        "teacher": teacher,
        "pruned": pruned,
        "int8": quantize.compress(teacher, states),
        "pruned, distilled": both,
        "distilled": student,
        "distilled, then int8": quantize.compress(student, states),
        "distilled, int8-aware": quantize.compress(aware, states),
        "distilled, then int4": int4.compress(student, states),
        "distilled, int4-aware": int4.compress(aware4, states),
        "distilled, then ternary": ternary.compress(student, states),
        "distilled, ternary-aware": ternary.compress(aware3, states),
        "pruned, distilled, then int8": quantize.compress(both, states),
        "pruned, distilled, int8-aware": quantize.compress(aware_both, states),
    }


def _fitted(
    run: Run, graph: PolicyGraph, rollouts: Sequence[Rollout], *, name: str, number: int, grid: str | None = None
) -> PolicyGraph:
    """A graph fitted to the teacher's labels, on a grid where that is asked for."""
    network = GraphStudent(graph, grid=grid)
    rate = run.plan.learning_rate
    if grid == "int8":
        rate /= _CAREFUL
    slower = run.planned(learning_rate=rate)
    seed = run.seed("fit", _FIRST_FIT + number)
    fit(slower, network, rollouts, name=name, steps=run.plan.final_steps, seed=seed)
    return network.graph()


def _sample(rollouts: Sequence[Rollout]) -> dict[str, Array]:
    """About `_STATES` of the states `[S, *O]` by key, spread over all rounds."""
    sample: dict[str, Array] = {}
    for key in rollouts[0].obs:
        flat = np.concatenate([rollout.obs[key].reshape(-1, *rollout.obs[key].shape[2:]) for rollout in rollouts])
        sample[key] = flat[:: max(1, len(flat) // _STATES)]
    return sample


def _sizes(teacher: PolicyGraph, student: PolicyGraph) -> list[int]:
    """The student's layer sizes, the last repeated where the teacher has more layers."""
    widths = [layer.units for layer in prune.hidden_layers(student)]
    if not widths:
        raise KDError("a linear student gives no size to prune to; name --hidden")
    count = len(prune.hidden_layers(teacher))
    missing = max(0, count - len(widths))
    return (widths + [widths[-1]] * missing)[:count]


def _rows(run: Run, policies: Mapping[str, PolicyGraph], rollout: Rollout) -> list[Row]:
    comparison = verdict_episodes(run)
    return [_row(run, name, graph, rollout, comparison) for name, graph in policies.items()]


def _row(run: Run, name: str, graph: PolicyGraph, rollout: Rollout, comparison: PairedComparison) -> Row:
    file = f"{name.replace(',', '').replace(' ', '-')}.safetensors"
    place = {"env": run.recipe.env_id, "recipe": run.recipe.to_json()}
    provenance = {**place, **play_of(run.config), "made by": name}
    graph_file.write(replace(graph, provenance=provenance), run.folder.path / file)
    episodes = run.config.episodes
    policy = Policy(graph)
    is_teacher = name == "teacher"
    if is_teacher:
        returns = comparison.teacher_returns(episodes)
    else:
        returns = comparison.episodes.play(policy, name, episodes)
    verdict = comparison.verdict(returns)
    figures = scores(returns)
    close = measure_agreement(run.teacher, policy, run.recipe)
    int8 = any(grid in name for grid in _GRIDS)
    rom, multiply_adds = _cost(graph, int8=int8)
    return Row(
        name=name,
        file=file,
        bytes=rom,
        multiply_adds=multiply_adds,
        microseconds=_microseconds(graph, rollout, int8=int8),
        returns=returns,
        mean=figures["mean"],
        mean_ci=figures["mean_ci"],
        lower_tail=figures["lower_tail"],
        decision="" if is_teacher else verdict.decision,  # Against itself it has none.
        kl=close.kl,
        agreement=close.agreement,
    )


def _cost(graph: PolicyGraph, *, int8: bool) -> tuple[int, int]:
    """Bytes and multiply-adds in C."""
    cost = plugins.load("export", "c").cost(graph, int8=int8)
    return cost.rom, cost.multiply_adds


def _microseconds(graph: PolicyGraph, rollout: Rollout, *, int8: bool) -> float | None:
    """Median time of one action in C; None where it cannot be compiled."""
    first = [rollout.obs[key].reshape(rollout.driver.size, -1)[:_TIMED] for key in graph.observations]
    # Not in the way of a study: many machines have no compiler.
    try:
        run = c_loop(graph, np.concatenate(first, axis=1), int8=int8)
    except KDError:
        return None
    return float(np.median(run())) / 1e3
