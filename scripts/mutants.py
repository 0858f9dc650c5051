"""Break the wiring on purpose, one place at a time, and require the wiring tests to notice.

Each mutation replaces a text that is found exactly once in a file; the tests run on a copy of the checkout. The exit
code is 1 where a mutation survives, where its text is not found exactly once any more, or where the tests fail without
one.
"""

import argparse
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from multiprocessing import get_context
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
os.environ["OMP_NUM_THREADS"] = "1"
COPIED = ("kd_agent", "envs", "configs", "tests", "pyproject.toml")
TESTS = ("tests/test_wiring.py", "tests/test_wiring_settings.py", "tests/test_wiring_others.py")
LIBRARIES = ("torch", "torch.utils.tensorboard", "stable_baselines3", "sb3_contrib", "gymnasium", "scipy.stats",
             "pydantic", "jinja2", "rich.progress", "yaml", "safetensors.numpy")  # fmt: skip
TIMEOUT_S = 120

ROUNDS = "kd_agent/rounds.py"
ATTEMPTS = "kd_agent/attempts.py"
FITTING = "kd_agent/fitting.py"
GRADIENT = "kd_agent/learners/gradient.py"
BATCHES = "kd_agent/learners/_batches.py"
OBJECTIVE = "kd_agent/objective.py"
KL = "kd_agent/losses/kl.py"
ACTIONS = "kd_agent/actions.py"
ROLLOUTS = "kd_agent/rollouts.py"
CONTEST = "kd_agent/contest.py"
JUDGE = "kd_agent/judge.py"
DISTILL = "kd_agent/distill.py"
CONTROL = "kd_agent/control.py"
TEMPERATURE = "kd_agent/temperature.py"
GIVEN = "kd_agent/given.py"
GATE = "kd_agent/gate.py"
TASKS = "kd_agent/tasks.py"
SIZE = "kd_agent/size_search.py"
KICKSTART = "kd_agent/kickstart.py"
TRAIN = "kd_agent/train.py"

MUTATIONS = (
    # The loop.
    ("beta is always 1: no DAgger", ROUNDS,
     "beta = max(0.0, 1 - number / max(rounds * config.beta_fraction, 1e-9)) if number else 1.0", "beta = 1.0"),
    ("beta falls over half of the rounds, whatever was asked for", ROUNDS, "rounds * config.beta_fraction",
     "rounds * 0.5"),
    ("nothing is explored", ROUNDS, "exploration=config.exploration", "exploration=0.0"),
    ("all rounds have the same seed", ROUNDS, "seed=(config.seed, number)", "seed=(config.seed, 0)"),
    ("rounds do not follow from the run's seed", ROUNDS, "seed=(config.seed, number)", "seed=(0, number)"),
    ("the teacher's layer is not kept", ROUNDS, "layer=config.teacher_layer", "layer=None"),
    ("no fit between rounds", ROUNDS,
     'fit_all(run, driver, rollouts, name=f"fit {number + 1}", steps=run.effort.round_steps, number=number)', "pass"),
    ("a fit between rounds sees the last round only", ROUNDS, 'fit_all(run, driver, rollouts, name=f"fit',
     'fit_all(run, driver, rollouts[-1:], name=f"fit'),
    ("an unfitted student drives", ROUNDS, 'fit_all(run, driver, rollouts, name=f"fit',
     'fit_all(run, build_student(run, rollouts[0], 0), rollouts, name=f"fit'),
    ("the driver begins anew each round", ROUNDS, "driver = driver or build_student(run, rollouts[0], 0)",
     "driver = build_student(run, rollouts[0], 0)"),
    ("fits between rounds are as long as last fits", ROUNDS, "steps=run.effort.round_steps",
     "steps=run.effort.final_steps"),
    ("fits between rounds share a seed", ROUNDS, "steps=run.effort.round_steps, number=number",
     "steps=run.effort.round_steps, number=0"),
    ("extra rounds are as long as the others", ROUNDS, "rounds if number < rounds else EXTRA", "rounds"),
    ("the budget ignores the number of environments", ROUNDS, "(parts * run.effort.n_envs)", "parts"),
    ("nobody but the teacher drives", ROUNDS, "policy = student.policy() if student else None", "policy = None"),
    ("a resumed run repeats its last round", ROUNDS, 'finished = int(arrays.pop(_FINISHED)) if arrays else 0',
     'finished = int(arrays.pop(_FINISHED)) - 1 if arrays else 0'),
    ("a resumed run has lost its driver", ROUNDS,
     "driver = load_student(run, rollouts[0], 0, arrays) if arrays else None",
     "driver = build_student(run, rollouts[0], 0) if arrays else None"),
    ("a last fit sees the last round only", ATTEMPTS, 'fit_all(run, student, rollouts, name=f"last',
     'fit_all(run, student, rollouts[-1:], name=f"last'),
    ("all attempts have the same initial weights", ATTEMPTS, "student = build_student(run, rollouts[0], tried)",
     "student = build_student(run, rollouts[0], 0)"),
    ("an attempt is normalised by the last round", ATTEMPTS, "student = build_student(run, rollouts[0], tried)",
     "student = build_student(run, rollouts[-1], tried)"),
    ("last fits are as short as those between rounds", ATTEMPTS, "steps=run.effort.final_steps",
     "steps=run.effort.round_steps"),
    ("all last fits share a seed", ATTEMPTS, "number=run.effort.rounds + tried)", "number=run.effort.rounds)"),
    ("the exam is played on the verdict's seeds", ATTEMPTS, "EXAM_SEED = 10_000", "EXAM_SEED = 20_000"),
    ("the last attempt is kept, not the best", ATTEMPTS,
     "winner = self if other is None or self.score > other.score else other", "winner = self"),
    ("no extra round before a further attempt", ATTEMPTS, "        if best:\n            rollouts.append(",
     "        if False:\n            rollouts.append("),
    ("the last attempt drives the extra round, not the best", ATTEMPTS,
     "collect_round(run, env, best.student, len(rollouts))", "collect_round(run, env, student, len(rollouts))"),
    ("attempts go on though one holds", ATTEMPTS, "(best.holds or best.tried", "(best.tried"),
    ("the exam has a margin of its own", ATTEMPTS, "margin=run.config.margin", "margin=0.05"),
    ("the exam has a length of its own", ATTEMPTS, "total = run, run.effort.exam_episodes", "total = run, 4"),
    # Settings on their way to student, loss and learner.
    ("--temperature reaches no loss", FITTING, "Softening(config.temperature, config.convention)",
     "Softening(1.0, config.convention)"),
    ("--convention reaches no loss", FITTING, "Softening(config.temperature, config.convention)",
     "Softening(config.temperature)"),
    ("--student-layer reaches no loss", FITTING, ", config.student_layer)", ")"),
    ("the weights of the losses are lost", FITTING, "Objective(config.loss,",
     "Objective(dict.fromkeys(config.loss, 1.0),"),
    ("--l2 reaches no learner", FITTING, "l2=config.l2", "l2=0.0"),
    ("--dropout reaches no student", FITTING, "config.dropout", "0.0"),
    ("--activation reaches no student", FITTING, "config.activation", '"silu"'),
    ("--hidden reaches no student", FITTING, '{"hidden": config.hidden', '{"hidden": (16, 16)'),
    ("--batch-size reaches no learner", FITTING, "batch_size=run.effort.batch_size", "batch_size=512"),
    ("--learning-rate reaches no learner", FITTING, "learning_rate=run.effort.learning_rate", "learning_rate=5e-3"),
    ("fits do not follow from the run's seed", FITTING, "seed=run.config.seed * 1_000 + number)", "seed=number)"),
    ("weights do not follow from the run's seed", FITTING, "seed=run.config.seed * 1_000 + attempt)", "seed=attempt)"),
    ("--device reaches no student", FITTING, "student.to(run.config.device)", "student"),
    ("--student-keys reach no student", FITTING, "new_student(run.config, run.teacher, run.seen,",
     "new_student(run.config, run.teacher, run.teacher.observations,"),
    # The learner.
    ("the rate stays as it is", GRADIENT, "            schedule.step()\n", ""),
    ("the learner has a rate of its own", GRADIENT, "lr=learning_rate, fused", "lr=5e-3, fused"),
    ("weight decay reaches no optimiser", GRADIENT, '"weight_decay": l2', '"weight_decay": 0.0'),
    ("biases decay too", GRADIENT, '"weight_decay": 0.0', '"weight_decay": l2'),
    ("dropout stays on after a fit", GRADIENT, "    student.eval()\n", ""),
    ("dropout is off in a fit", GRADIENT, "    student.train()\n", ""),
    ("the learner ignores its seed", GRADIENT, "torch.manual_seed(seed)", "torch.manual_seed(0)"),
    ("a state's weight does not count", GRADIENT, "(batch.weight * losses).sum() / batch.weight.sum()",
     "losses.mean()"),
    ("burn-in counts in the loss", BATCHES, 'window["weight"][:BURN_IN] = 0', 'window["weight"][:BURN_IN] = 1'),
    ("every batch holds all states", BATCHES, "min(size, count)", "count"),
    ("the loss compares the student's last layer only", OBJECTIVE,
     "objective.student_layer or list(output.features)[-1]", "list(output.features)[-1]"),
    ("the losses are not weighted", OBJECTIVE, "self.objective.weights[name] * loss", "loss"),
    ("KL lacks the factor T^2", KL, "scale * head.kl(p, q)", "head.kl(p, q)"),
    ("KL is reversed", KL, "head.kl(p, q)", "head.kl(q, p)"),
    ("hinton lacks the factor T^2", ACTIONS, "t * t", "1.0"),
    ("rusu softens the student too", ACTIONS, "return student, head.soften(teacher, t), 1.0",
     "return head.soften(student, t), head.soften(teacher, t), 1.0"),
    # Collecting.
    ("the student labels what it drives", ROLLOUTS,
     "chosen, memory = student.step_batch(observations, memory, starts)",
     "params, memory = chosen, _ = student.step_batch(observations, memory, starts)"),
    ("teacher and student change places", ROLLOUTS, "rng.random(n) < beta", "rng.random(n) >= beta"),
    ("the share of random actions is lost", ROLLOUTS, "rng.random(n) < exploration", "rng.random(n) < 0.0"),
    ("the student's actions are not taken", ROLLOUTS, "_overwrite(actions, driver == STUDENT,",
     "_overwrite(actions.copy(), driver == STUDENT,"),
    # The verdict, the control, the temperature, several teachers.
    ("the verdict has a margin of its own", JUDGE, "margin=config.margin, episodes=config.episodes)",
     "margin=0.05, episodes=config.episodes)"),
    ("--max-episodes reaches no verdict", JUDGE, "doublings(config.episodes, config.max_episodes)",
     "doublings(config.episodes, config.episodes)"),
    ("--episodes reaches no verdict", JUDGE, "doublings(config.episodes, config.max_episodes)",
     "doublings(5, config.max_episodes)"),
    ("teacher and student play other seeds", CONTEST, '"the teacher", missing, len(self._returns))',
     '"the teacher", missing, len(self._returns) + 1)'),
    ("a verdict that goes on plays the same episodes again", CONTEST,
     "self.arena.play(player, name, episodes - len(returns), len(returns))",
     "self.arena.play(player, name, episodes - len(returns))"),
    ("no gate", DISTILL, "teacher = weighed(teacher, config, recipe, folder, reporter)", "pass"),
    ("the control has the teacher's size", CONTROL, "actor=config.hidden", "actor=None"),
    ("the control trains for the rounds alone", CONTROL,
     'result["cost"]["env_steps"] + result["cost"]["exam_steps"]', 'result["cost"]["env_steps"]'),
    ("the control has another activation", CONTROL, ", activation=config.activation)", ")"),
    ("the control plays other seeds", CONTROL, "first_seed=EVALUATION_SEED", "first_seed=EVALUATION_SEED + 1"),
    ("--choose-by reaches no choice", TEMPERATURE, "by = run.config.choose_by", 'by = "kl"'),
    ("what is held out is shown", TEMPERATURE, "if n % folds != fold", "if n % folds != -1"),
    ("a chosen temperature is not used", TEMPERATURE, 'temperature=record["chosen"]', "temperature=1.0"),
    ("--combine reaches no ensemble", GIVEN, "for source in config.teacher], config.combine)",
     "for source in config.teacher])"),
    ("the gate hears everybody", GATE, '"weight": 0.0 if verdict == "inferior" else 1 / heard', '"weight": 1 / heard'),
    # Several tasks, the search for a size.
    ("all tasks have the first one's loss", TASKS, "objective_of(each.config)", "objective_of(run.config)"),
    ("the tasks share nothing", TASKS, "        tie(students)\n", ""),
    ("all attempts at tasks have the same initial weights", TASKS, "together.build(tried)", "together.build(0)"),
    ("the last attempt at tasks is kept", TASKS, "max(best, together.grade(students, tried), key=_held_or_later)",
     "together.grade(students, tried)"),
    ("the teachers drive all rounds of tasks", TASKS, "students.get(task), number)", "None, number)"),
    ("joint fits share a seed", TASKS, "seed=run.config.seed * 1_000 + number,", "seed=run.config.seed * 1_000,"),
    ("extra rounds of tasks share a seed", TASKS, "config.rounds + tried - 1)", "config.rounds)"),
    ("joint fits see the last round only", TASKS, "fit_together(students, self.rollouts,",
     "fit_together(students, {t: r[-1:] for t, r in self.rollouts.items()},"),
    ("a search fits its largest size", SIZE, "best = last_fits(sized,", "best = last_fits(run,"),
    ("a search judges under the largest size's name", SIZE, "judged(sized, best.student)", "judged(run, best.student)"),
    # PPO.
    ("--weight reaches no kickstart", KICKSTART, "return Fade(config.fade, config.weight, over)\n",
     "return Fade(config.fade, 1.0, over)\n"),
    ("--fade-fraction reaches no kickstart", KICKSTART, "(config.fade_fraction - config.critic_warmup)",
     "(0.9 - config.critic_warmup)"),
    ("--critic-warmup reaches no kickstart", KICKSTART, "round(config.critic_warmup * config.total_steps)", "0"),
    ("the guidance fades during the warm-up", KICKSTART, "self.num_timesteps - self._warmup", "self.num_timesteps"),
    ("--method reaches no kickstart", KICKSTART, 'config.method == "ppd"', "False"),
    ("a kickstart's first states have always the same seed", KICKSTART, "seed=(self._config.seed,)", "seed=(0,)"),
    ("a kickstart's weights have always the same seed", KICKSTART, "            seed=config.seed,\n",
     "            seed=0,\n"),
    ("PPO's seed is always the same", TRAIN, "seed=config.seed, device", "seed=0, device"),
    ("PPO's discount is its own", TRAIN, '"gamma": settings.gamma,', '"gamma": 0.99,'),
    ("PPO's rate is its own", TRAIN, "else rate,", "else 3e-4,"),
    ("PPO trains for a time of its own", TRAIN, "model.learn(settings.total_steps,", "model.learn(1_000_000,"),
)  # fmt: skip
"""Name, file, the exact text, what takes its place."""
UNCHANGED = ("no mutation", KL, "head.kl(p, q)", "head.kl(p, q)")


@dataclass(frozen=True)
class Outcome:
    """What became of a mutation.

    Attributes:
        name: Its name.
        word: "killed", "SURVIVED", "STALE" or "BROKEN".
        by: The test that noticed, or what is wrong.
    """

    name: str
    word: str
    by: str


def tried(name: str, file: str, old: str, new: str) -> Outcome:
    """Run the wiring tests on a copy with one text replaced."""
    found = (ROOT / file).read_text().count(old) if (ROOT / file).is_file() else 0
    if found != 1:
        return Outcome(name, "STALE", f"{file}: its text is found {found} times")
    with tempfile.TemporaryDirectory(prefix="mutant-") as folder:
        copy = copied(Path(folder))
        path = copy / file
        path.write_text(path.read_text().replace(old, new))
        code, output = tested(copy)
    if code == 0:
        return Outcome(name, "SURVIVED", "")
    failures = [line for line in output.splitlines() if line.startswith(("FAILED ", "ERROR "))]
    if code == 1 and failures:
        return Outcome(name, "killed", failures[0].partition("::")[2][:160])
    return Outcome(name, "BROKEN", f"pytest exits with {code}: {output.strip()[-200:]}")


def _tried(mutation: Sequence[str]) -> Outcome:
    return tried(*mutation)


def copied(folder: Path) -> Path:
    """A copy of what the tests need."""
    for part in COPIED:
        source = ROOT / part
        if source.is_dir():
            shutil.copytree(source, folder / part, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, folder / part)
    return folder


def tested(copy: Path) -> tuple[int, str]:
    """Exit code and output of the wiring tests in a copy, within this process, which is good for nothing afterwards."""
    os.chdir(copy)
    os.environ["PYTHONPATH"] = os.pathsep.join([str(copy), str(copy / "envs")])
    sys.path[:0] = [str(copy), str(copy / "envs")]
    sys.dont_write_bytecode = True
    signal.signal(signal.SIGALRM, _too_long)
    signal.alarm(TIMEOUT_S)
    with (copy / "output.txt").open("w") as output:
        for stream in (1, 2):
            os.dup2(output.fileno(), stream)
        code = int(pytest.main(["-x", "-q", "-p", "no:cacheprovider", *TESTS]))
        sys.stdout.flush()
    signal.alarm(0)
    return code, (copy / "output.txt").read_text()


def _too_long(*_: object) -> None:
    raise TimeoutError(f"no end after {TIMEOUT_S} s")


def warmed_up() -> None:
    """Import what is slow and not of this package, so that the processes that are forked need not."""
    for library in LIBRARIES:
        import_module(library)
    assert not [name for name in sys.modules if name.partition(".")[0] in ("kd_agent", "kd_envs")]


def main(argv: Sequence[str] | None = None) -> int:
    """Try all mutations, or those whose name has a word; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--jobs", type=int, default=2, help="processes at a time")
    parser.add_argument("--only", default="", help="only mutations whose name contains this")
    asked = parser.parse_args(argv)
    chosen = [mutation for mutation in MUTATIONS if asked.only in mutation[0]]
    outcomes: list[Outcome] = []
    warmed_up()
    with get_context("fork").Pool(asked.jobs, maxtasksperchild=1) as pool:
        without = pool.apply(tried, UNCHANGED)
        if without.word != "SURVIVED":
            print(f"without a mutation the tests fail already: {without.word} [{without.by}]")
            return 1
        for outcome in pool.imap(_tried, chosen, chunksize=1):
            outcomes.append(outcome)
            print(f"{outcome.word:<8} {outcome.name}  [{outcome.by}]", flush=True)
    bad = [outcome for outcome in outcomes if outcome.word != "killed"]
    print(f"{len(outcomes) - len(bad)} of {len(outcomes)} killed")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
