"""Distillation from an expert whose answers are dear: at most so many questions, environment steps are free.

In the first round the teacher drives. In each further round a committee of students, fitted from different seeds to all
answers so far, takes turns: the teacher drives the head of an episode up to the first critical error, one of the
committee drives on, and of the states that it visits those are asked about on which the committee disagrees (query by
committee, Seung et al. 1992; for DAgger, EnsembleDAgger, Menda et al. 2019). Which final fit is kept is decided by
the students' own returns: the teacher plays no validation.
"""

from collections.abc import Mapping, Sequence
from itertools import permutations

import numpy as np
import torch

from kd_agent.distillation.checks import check_budget
from kd_agent.distillation.collecting import steps_of_round
from kd_agent.distillation.dagger import FINISHED, Rounds
from kd_agent.distillation.final_fits import BEST, FinalFits
from kd_agent.distillation.outcome import Fitted
from kd_agent.distillation.validation import VALIDATION_SEED
from kd_agent.errors import KDError
from kd_agent.evaluation import Episodes
from kd_agent.networks import ActionHead, Student
from kd_agent.policies import Array, Policy
from kd_agent.rollouts import Questions, Rollout, collect_on, hand_over
from kd_agent.rollouts.rollout import TEACHER, in_one_step
from kd_agent.runs import Run, checkpoint_file
from kd_agent.runs.plan import NUMBERS
from kd_agent.settings import DistillConfig

COMMITTEE = 3
"""Students that a round's questions are chosen by."""
_DRIVEN = 1 / 4
"""Share of a round's questions that the teacher may use up while it drives."""
_CHUNK = 4096
"""States that a committee votes on at once."""
_NO_DOUBT = 1e-12


class LabelBudget(FinalFits):
    """The strategy of `--label-budget`."""

    def check(self, config: DistillConfig) -> None:
        """Refuse what asks the teacher beyond the budget, or learns from states that come one after the other."""
        ask = {
            "--realtime": config.realtime,
            "--search-size": config.search_size,
            "--grow": bool(config.grow),
            "--then-ppo": bool(config.then_ppo),
            "--temperature auto": config.temperature == "auto",
        }
        for name, asked in ask.items():
            if asked:
                raise KDError(f"--label-budget and {name} do not go together: that asks the teacher without counting")
        if config.student == "gru":
            raise KDError(
                "--label-budget asks about single states, which a gru is not fitted to; take --student mlp, cnn or tree"
            )
        # What the settings alone tell: a teacher that is still to be trained takes minutes before its plan is known.
        most = config.env_steps or int(NUMBERS["env_steps"])
        check_budget(config.label_budget or 0, config.rounds or 1, config.n_envs or 1, most)

    def collect(self, run: Run) -> "AskedRounds":
        """All rounds; those finished before are read."""
        rounds = AskedRounds([run])
        rounds.read_finished()
        for number in range(len(rounds), run.plan.rounds):
            rounds.collect(rounds.committee() if number else [])
            rounds.keep()
            # The committee is not kept: it is fitted anew to the same answers, to the same bits.
            rounds.save("driver", [], {FINISHED: np.array(number + 1)})
        run.reporter.say(f"label budget: {rounds.asked} questions of {run.config.label_budget} were asked")
        return rounds

    def final_fit(self, rounds: Rounds) -> Fitted:
        """The final fit whose student earns most in episodes of its own.

        Args:
            rounds: The rounds.
        """
        run = rounds.run
        students = [_final_fit(rounds, number) for number in range(run.plan.attempts)]
        played = _read_played(rounds)
        if played is None:
            played = play_off(run, [student.policy() for student in students])
            returns = {f"returns.{number}": np.array(own) for number, own in enumerate(played)}
            rounds.save(BEST, [], returns)
        means = [float(np.mean(own)) for own in played]
        # Who has played longest came furthest.
        best = max(range(len(students)), key=lambda number: (len(played[number]), means[number]))
        # Not what the ledger says, which is of all seeds of a run together.
        drivers = np.concatenate([rollout.driver.ravel() for rollout in rounds.data[0]])
        driven = int((drivers == TEACHER).sum())
        fits = [{"mean": mean, "episodes": len(own)} for mean, own in zip(means, played, strict=True)]
        figures = {"questions": drivers.size, "driven": driven, "kept": best, "fits": fits}
        return Fitted(run, students[best], means[best], figures={"label_budget": figures})


class AskedRounds(Rounds):
    """Rounds whose answers are counted."""

    @property
    def asked(self) -> int:
        """Questions so far."""
        return sum(rollout.driver.size for rollout in self.data[0])

    def typical(self, index: int) -> Rollout:
        """All states so far: those of the first round are too few, and the beginning of an episode.

        Args:
            index: Which task's, of one.
        """
        return in_one_step(self.data[index])

    def committee(self) -> list[Student]:
        """Students fitted to all answers so far, each from initial weights and an order of the states of its own."""
        members = []
        for member in range(COMMITTEE):
            [student] = self.new_students(member)
            number = len(self) * COMMITTEE + member
            name = f"round {len(self) + 1}, member {member + 1}"
            self.fit([student], name=name, steps=self.run.plan.round_steps, number=number)
            members.append(student)
        return members

    def collect(self, drivers: Sequence[Student]) -> None:
        """One more round: its share of the questions, and of the environment's steps.

        Args:
            drivers: The committee; of the first round there is none, and the teacher drives.
        """
        run, number = self.run, len(self)
        budget = run.config.label_budget or 0
        share = budget * (number + 1) // run.plan.rounds - self.asked
        rollout = self._ask(drivers, share) if drivers else self._drive(share)
        run.costs.add("questions", rollout.driver.size)
        self.data[0].append(rollout)

    def _drive(self, share: int) -> Rollout:
        """The teacher drives in all environments; what is left of the share is the next round's."""
        run = self.run
        steps = share // run.plan.n_envs
        with run.reporter.stage("round 1, the teacher drives", steps * run.plan.n_envs, "questions") as advance:
            rollout = collect_on(
                self._episodes[0],
                run.teacher,
                None,
                steps=steps,
                beta=1.0,
                exploration=run.plan.exploration,
                deterministic=not run.config.sampled,
                seed=run.seed("round", 0),
                layer=run.plan.teacher_layer,
                advance=advance,
            )
        run.costs.add("collect_steps", rollout.driver.size)
        return rollout

    def _ask(self, committee: Sequence[Student], share: int) -> Rollout:
        """The teacher begins, a student drives on, and the committee chooses what is asked."""
        run, number = self.run, len(self)
        plan = run.plan
        members = [student.policy() for student in committee]
        questions = Questions(run.teacher, share, plan.teacher_layer)
        steps = steps_of_round(plan.env_steps, plan.rounds, plan.n_envs)
        with run.reporter.stage(f"round {number + 1}", steps * plan.n_envs, "steps") as advance:
            states = hand_over(
                self._episodes[0],
                members[number % len(members)],
                questions,
                run.teacher.head,
                most=int(_DRIVEN * share),
                steps=steps,
                exploration=plan.exploration,
                deterministic=not run.config.sampled,
                seed=run.seed("round", number),
                advance=advance,
            )
        run.costs.add("collect_steps", steps * plan.n_envs)
        doubt = disagreement(run.teacher.head, members, states)
        chosen = choose(doubt, questions.left, run.seed("questions", number))
        questions.ask({key: array[chosen] for key, array in states.items()})
        return questions.answers()


def disagreement(head: ActionHead, committee: Sequence[Policy], states: Mapping[str, Array]) -> Array:
    """How far the members of a committee are apart in each state, `[S]`: the root of the mean KL of two of them.

    Args:
        head: Their action head.
        committee: Two members or more.
        states: Observations `[S, *O]` by key.
    """
    count = len(next(iter(states.values())))
    parts = []
    for first in range(0, count, _CHUNK):
        chunk = {key: array[first : first + _CHUNK] for key, array in states.items()}
        size = min(_CHUNK, count - first)
        rows = [torch.from_numpy(member.step_batch(chunk, None, np.zeros(size, bool))[0]) for member in committee]
        divergences = [head.kl(one, other) for one, other in permutations(rows, 2)]
        parts.append(torch.stack(divergences).mean(0).clamp(min=0).sqrt())
    apart: Array = torch.cat(parts).numpy()
    return apart


def choose(doubt: Array, count: int, seed: int) -> Array:
    """Different states, drawn one after the other with probabilities in proportion to the doubt in them.

    Not the most doubtful: those are like each other, and off all paths. On LunarLander 300 of them came to a KL of .04
    and .13, drawn ones to .01.

    Args:
        doubt: Of each state, `[S]`, not negative.
        count: How many to choose, all where there are fewer.
        seed: Entropy of the draw.

    Returns:
        Their indices `[count]`.
    """
    # Gumbel-top-k (Kool et al. 2019). A doubt of nowhere more than 0 leaves all states alike.
    noise = np.random.default_rng(seed).gumbel(size=len(doubt))
    keys = np.log(doubt.astype(np.float64) + _NO_DOUBT) + noise
    return np.argsort(-keys, kind="stable")[:count]


def play_off(run: Run, policies: Sequence[Policy]) -> list[list[float]]:
    """Returns of each of several policies in the episodes that it was let play, `[n]` of each.

    Sequential halving (Karnin et al. 2013): all play a few, the better half twice as many, until one is left. One alone
    plays all episodes too: several seeds are chosen among by what their students earned.

    Args:
        run: The run.
        policies: The policies.
    """
    episodes = Episodes.of(run, first_seed=VALIDATION_SEED, stage="validation of", purpose="validation_steps")
    returns: list[list[float]] = [[] for _ in policies]
    field = list(range(len(policies)))
    # The last two play all episodes, and so does one alone.
    for halvings in reversed(range(max(1, (len(field) - 1).bit_length()))):
        total = max(1, run.plan.exam_episodes >> halvings)
        for number in field:
            played = len(returns[number])
            returns[number] += episodes.play(policies[number], f"fit {number + 1}", total - played, played)
        field.sort(key=lambda number: -float(np.mean(returns[number])))
        field = field[: (len(field) + 1) // 2]
    return returns


def _final_fit(rounds: Rounds, number: int) -> Student:
    """A final fit, or the one that was kept of a run that goes on."""
    name = f"fit-{number}"
    arrays = rounds.load(name)
    if arrays is not None:
        [student] = rounds.load_students(arrays, number)
        return student
    plan = rounds.run.plan
    [student] = rounds.new_students(number)
    stage = f"final fit {number + 1}"
    rounds.fit([student], name=stage, steps=plan.final_steps, number=plan.rounds * COMMITTEE + number)
    rounds.save(name, [student], {})
    return student


def _read_played(rounds: Rounds) -> list[list[float]] | None:
    """The returns of the play-off of a run that goes on; None where it was not played to its end."""
    arrays = rounds.load(BEST)
    if arrays is None:
        return None
    with rounds.run.folder.reading(checkpoint_file(BEST)):
        return [arrays[f"returns.{number}"].tolist() for number in range(rounds.run.plan.attempts)]
