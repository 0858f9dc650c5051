"""How often the verdict errs, how many episodes it takes, and whether its intervals cover what they say.

    OMP_NUM_THREADS=1 python benchmarks/verdict.py --studies 10000 --jobs 2 --write docs/verdict.md
    python benchmarks/verdict.py --record FOLDER      # plays the pools anew; FOLDER: the public agents

A study is one sequence of looks (`looks.VERDICT`) on paired returns drawn from a pool. The pools are returns
that a teacher earned (verdict_pools.json), and made-up ones of a teacher that crashes. A student is a copy of its
teacher that earns the same in a share of the episodes (the paired correlation) and something else from the pool in the
others; then it is made worse: by a whole margin in every episode; by crashes that cost a margin; by half of each; by 5,
10 or 15 % of crashes. Bounds of many studies are computed together, by the same weights as `compare`; `--studies 20
--check` holds them against `compare` itself. Only the mean ends a study as "inferior" here: the tail's upper bound is
dear, and a student that goes on can only be called non-inferior more often.
"""

import argparse
import json
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from kd_agent import compare, evaluate
from kd_agent.evaluation.looks import VERDICT
from kd_agent.evaluation.non_inferiority import FEWEST_TO_PASS, _weights
from kd_agent.evaluation.statistics import TAIL, iqm_interval, mean_interval, weighted_tails

POOLS = Path(__file__).with_name("verdict_pools.json")
AGENTS = {
    "LunarLander-v3": ("ppo-LunarLander-v2", 1000),
    "BipedalWalker-v3": ("ppo-BipedalWalker-v3", 1000),
    "CartPole-v1": ("ppo-CartPole-v1", 400),
    "MountainCar-v0": ("trpo-MountainCar-v0", 1000),
    "HalfCheetah-v5": ("ppo-HalfCheetah-v3", 400),
}
CRASHES = (2, 5, 10, 20)
EPISODES, MOST = 90, 1000
CORRELATION = 0.8
MARGIN = 0.05
AT_MARGIN = ("a margin in every episode", "a margin by crashes", "half a margin in each way")
CRASHING = ("5 %", "10 %", "15 %")
KINDS = (*AT_MARGIN, *CRASHING, "equal")
FEWER = 10
"""Power and crashes need fewer studies than errors of 2.5 %: one in so many."""
MARK = "<!-- tables -->"


@dataclass(frozen=True)
class Pool:
    """Where returns are drawn from.

    Attributes:
        draw: So many returns of the teacher.
        random: Mean of the random policy.
        crash: What a crash earns.
        mean: The teacher's true mean.
    """

    draw: Callable[[np.random.Generator, int], Any]
    random: float
    crash: float
    mean: float

    @property
    def margin(self) -> float:
        """The mean's."""
        return MARGIN * abs(self.mean - self.random)


def pools() -> Iterator[tuple[str, Pool]]:
    """All pools by name."""
    for env, known in json.loads(POOLS.read_text()).items():
        returns = np.array(known["returns"])
        random = float(np.mean(known["random_returns"]))
        yield env, Pool(lambda rng, n, of=returns: rng.choice(of, n), random, random, float(returns.mean()))
    for share in CRASHES:

        def draw(rng: np.random.Generator, n: int, share: int = share) -> Any:
            return np.where(rng.random(n) < share / 100, -200.0, rng.normal(250, 10, n))

        yield f"{share} % crashes", Pool(draw, -180.0, -200.0, 250 - 4.5 * share)


def student_of(pool: Pool, kind: str, teacher: Any, rng: np.random.Generator) -> Any:
    """Returns of a student of a kind, in the teacher's episodes."""
    other = pool.draw(rng, teacher.size).reshape(teacher.shape)
    copy = np.where(rng.random(teacher.shape) < CORRELATION, teacher, other)
    costs = abs(pool.mean - pool.crash)
    crashes, loss = 0.0, 0.0
    if kind == "a margin in every episode":
        loss = pool.margin
    elif kind == "a margin by crashes":
        crashes = pool.margin / costs
    elif kind == "half a margin in each way":
        crashes, loss = pool.margin / 2 / costs, pool.margin / 2
    elif kind != "equal":
        crashes = float(kind.removesuffix(" %")) / 100
    return np.where(rng.random(teacher.shape) < crashes, pool.crash, copy - loss)


class Studies:
    """Many studies of one kind from one pool, look by look."""

    def __init__(self, pool: Pool, kind: str, count: int, seed: int) -> None:
        rng = np.random.default_rng(seed)
        self.random = pool.random
        self.teacher = pool.draw(rng, count * MOST).reshape(count, MOST)
        self.student = student_of(pool, kind, self.teacher, rng)
        self.decision = np.full(count, "undecided", dtype="<U12")
        self.episodes = np.full(count, MOST)

    def run(self) -> None:
        """All looks; who is decided is not looked at again."""
        for look, error in VERDICT.looks(EPISODES, MOST):
            still = np.flatnonzero(self.decision == "undecided")
            for part in np.array_split(still, 1 + len(still) // 500):
                found = self._look(part, look, error)
                self.decision[part] = found
                self.episodes[part] = look

    def _look(self, which: Any, look: int, error: float) -> Any:
        teacher, student = self.teacher[which, :look], self.student[which, :look]
        means = teacher.mean(axis=1)
        scale = np.abs(means - self.random)
        margin = MARGIN * scale
        weights = _weights(look + 1)
        # Half the digits are enough here, and take half the time.
        seen = weights[:, :-1].astype(np.float32) @ (student - teacher).T.astype(np.float32)
        low = _lower(seen - weights[:, -1:] * scale, error)
        high = -_lower(-seen - weights[:, -1:] * scale, error)
        decision = np.full(len(which), "undecided", dtype="<U12")
        for place in range(len(which)):
            lost = means[place] - scale[place]
            holds = look >= FEWEST_TO_PASS and low[place] + margin[place] > 1e-9
            # The tail is the dearer part: it is looked at where the mean holds.
            if holds:
                differences = _tails(weights, teacher[place], student[place], means[place], lost)
                holds = _lower(differences, error) + margin[place] / TAIL > 1e-9
            if holds:
                decision[place] = "non-inferior"
            elif high[place] + margin[place] < -1e-9:
                decision[place] = "inferior"
        return decision


def _lower(values: Any, error: float) -> Any:
    """The quantile of an error along the first axis, the lower of two neighbours."""
    place = int(error * (len(values) - 1))
    return np.partition(values, place, axis=0)[place]


def _tails(weights: Any, teacher: Any, student: Any, one_more: float, of_student: float) -> Any:
    return weighted_tails(weights, np.append(student, of_student)) - weighted_tails(
        weights, np.append(teacher, one_more)
    )


def measured(task: tuple[str, str, int]) -> dict[str, Any]:
    """A row: how the studies of a kind from a pool ended."""
    name, kind, count = task
    pool = dict(pools())[name]
    studies = Studies(pool, kind, count, seed=len(name) + 100 * KINDS.index(kind))
    studies.run()
    passed = studies.decision == "non-inferior"
    failed = studies.decision == "inferior"
    return {
        "pool": name,
        "kind": kind,
        "studies": count,
        "non_inferior": float(passed.mean()),
        "inferior": float(failed.mean()),
        "episodes": float(np.median(studies.episodes)),
        "until_inferior": float(np.median(studies.episodes[failed])) if failed.any() else None,
    }


def coverage(task: tuple[str, int]) -> dict[str, Any]:
    """How often the printed 95 % intervals cover the truth, at the main look."""
    name, count = task
    pool = dict(pools())[name]
    rng = np.random.default_rng(5)
    many = pool.draw(rng, 1_000_000)
    truth = {"mean": float(many.mean()), "iqm": float(np.mean(np.sort(many)[250_000:750_000]))}
    hits = {"mean": 0, "iqm": 0, "difference of means": 0, "difference of tails": 0}
    for _ in range(count):
        teacher = pool.draw(rng, EPISODES)
        student = student_of(pool, "equal", teacher, rng)
        for statistic, interval in (("mean", mean_interval(teacher)), ("iqm", iqm_interval(teacher))):
            hits[statistic] += interval[0] <= truth[statistic] <= interval[1]
        verdict = compare(teacher, student, pool.random)
        for statistic, part in (("difference of means", verdict.mean), ("difference of tails", verdict.lower_tail)):
            hits[statistic] += part.difference_ci[0] <= 0 <= part.difference_ci[1]
    return {"pool": name, "studies": count, **{key: hit / count for key, hit in hits.items()}}


def check(count: int) -> None:
    """Hold the bounds of many studies against `compare`, study by study."""
    for name, pool in pools():
        studies = Studies(pool, "5 %", count, seed=1)
        studies.run()
        for place in range(count):
            expected, looks = "undecided", VERDICT.looks(EPISODES, MOST)
            for look, error in looks:
                own = studies.teacher[place, :look], studies.student[place, :look]
                verdict = compare(*own, pool.random, margin=MARGIN, error=error)
                expected = "undecided"
                if verdict.non_inferior or verdict.mean.decision == "inferior":
                    expected = "non-inferior" if verdict.non_inferior else "inferior"
                if expected != "undecided":
                    break
            if expected != studies.decision[place] or look != studies.episodes[place]:
                raise SystemExit(f"{name}, study {place}: {studies.decision[place]}, compare says {expected}")
    print("the same as compare()")


def record(folder: Path) -> None:
    """Play the pools anew."""
    from kd_agent.distillation.problem import Problem  # noqa: PLC0415 - of --record alone
    from kd_agent.settings import DistillConfig, resolve  # noqa: PLC0415

    known = json.loads(POOLS.read_text())
    for env, (agent, episodes) in AGENTS.items():
        problem = Problem.of(resolve(DistillConfig, {"env": env, "teacher": [str(folder / agent)]}))
        first = known[env]["first_seed"]
        played = evaluate(problem.teacher, problem.recipe, seeds=range(first, first + episodes))
        random = evaluate(None, problem.recipe, seeds=range(first, first + 200))
        known[env]["returns"] = np.round(played.returns, 1).tolist()
        known[env]["random_returns"] = np.round(random.returns, 1).tolist()
        print(f"{env}: {np.mean(played.returns):.1f}, random {np.mean(random.returns):.1f}", flush=True)
    lines = [f"{json.dumps(env)}: {json.dumps(pool)}" for env, pool in known.items()]
    POOLS.write_text("{\n" + ",\n".join(lines) + "\n}\n")


def tables(rows: list[dict[str, Any]], covers: list[dict[str, Any]]) -> str:
    """The figures in Markdown."""
    names = [name for name, _ in pools()]
    by = {(row["pool"], row["kind"]): row for row in rows}
    lines = [f"| wrongly non-inferior, % | {' | '.join(AT_MARGIN)} |", "|---" * 4 + "|"]
    for name in names:
        cells = [f"{100 * by[name, kind]['non_inferior']:.2f}" for kind in AT_MARGIN]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    heads = [f"{kind} crashes: non-inferior, % (episodes to inferior)" for kind in CRASHING]
    lines += ["", f"| a student that crashes | {' | '.join(heads)} |", "|---" * 4 + "|"]
    for name in names:
        cells = []
        for kind in CRASHING:
            row = by[name, kind]
            cells.append(f"{100 * row['non_inferior']:.2f} ({row['until_inferior'] or 0:.0f})")
        lines.append(f"| {name} | {' | '.join(cells)} |")
    lines += ["", "| an equal student | non-inferior, % | inferior, % | episodes, median |", "|---" * 4 + "|"]
    for name in names:
        row = by[name, "equal"]
        lines.append(
            f"| {name} | {100 * row['non_inferior']:.1f} | {100 * row['inferior']:.2f} | {row['episodes']:.0f} |"
        )
    columns = ["mean", "iqm", "difference of means", "difference of tails"]
    lines += ["", f"| coverage of 95 % intervals, {EPISODES} episodes | {' | '.join(columns)} |", "|---" * 5 + "|"]
    for row in covers:
        lines.append(f"| {row['pool']} | " + " | ".join(f"{row[column]:.3f}" for column in columns) + " |")
    return "\n".join(lines)


def draw(path: Path, rows: list[dict[str, Any]]) -> None:
    """The error rates and the episodes as a picture."""
    from matplotlib.figure import Figure  # noqa: PLC0415 - slow to import, needed once

    names = [name for name, _ in pools()]
    by = {(row["pool"], row["kind"]): row for row in rows}
    figure = Figure(figsize=(9, 4), layout="constrained")
    errors, episodes = figure.subplots(1, 2, sharey=True)
    for kind, marker, colour in zip(AT_MARGIN, "os^", ("#0072b2", "#d55e00", "#009e73"), strict=True):
        errors.plot([100 * by[name, kind]["non_inferior"] for name in names], names, marker, color=colour, label=kind)
    errors.axvline(2.5, color="#555555", linewidth=1, linestyle="--", label="promised at most")
    errors.set(xlabel="wrongly non-inferior, % of studies", xlim=(0, 3))
    figure.legend(loc="outside upper center", ncols=4, fontsize=8, frameon=False)
    episodes.barh(names, [by[name, "equal"]["episodes"] for name in names], color="#0072b2")
    episodes.set(xlabel="episodes until the verdict on an equal student, median")
    errors.invert_yaxis()
    figure.savefig(path, dpi=130)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", type=int, default=10_000, help="of each kind from each pool")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--write", type=Path, help="Markdown file whose tables are replaced")
    parser.add_argument("--check", action="store_true", help="hold the bounds against compare()")
    parser.add_argument("--record", type=Path, help="folder of the public agents, to play the pools anew")
    arguments = parser.parse_args()
    if arguments.record:
        record(arguments.record)
    elif arguments.check:
        check(arguments.studies)
    else:
        study(arguments.studies, arguments.jobs, arguments.write)


def study(count: int, jobs: int, write: Path | None) -> None:
    """All pools, all kinds."""
    fewer = -(-count // FEWER)
    names = [name for name, _ in pools()]
    tasks = [(name, kind, count if kind in AT_MARGIN else fewer) for kind in KINDS for name in names]
    with ProcessPoolExecutor(jobs) as workers:
        rows = []
        for row in workers.map(measured, tasks):
            print(json.dumps(row), flush=True)
            rows.append(row)
        covers = list(workers.map(coverage, [(name, fewer) for name in names]))
    text = tables(rows, covers)
    print(text)
    if write:
        head, _, rest = write.read_text().partition(MARK)
        _, _, tail = rest.partition(MARK)
        write.write_text(f"{head}{MARK}\n\n{text}\n\n{MARK}{tail}")
        draw(write.with_suffix(".png"), rows)


if __name__ == "__main__":
    main()
