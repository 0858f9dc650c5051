"""One round: labelled states out of episodes that go on, kept in the run folder and read from there."""

from collections.abc import Sequence

from kd_agent.environments.vector import make_env
from kd_agent.errors import KDError
from kd_agent.evaluation import agreement_on
from kd_agent.networks import Student
from kd_agent.rollouts import Rollout, RunningEpisodes, collect_on, episode_seeds
from kd_agent.runs import Run, checkpoint_file

EXTRA = 8
"""The part of the budget, one in so many, that each round has which is collected beyond it."""


def running_episodes(run: Run, purpose: str) -> RunningEpisodes:
    """The environments of a run, whose episodes go on from round to round.

    Args:
        run: The run.
        purpose: Of the episodes' seeds, of which each environment has a stream of its own.
    """
    streams = [episode_seeds(run.seed(purpose, index)) for index in range(run.plan.n_envs)]
    return RunningEpisodes(make_env(run.recipe, run.plan.n_envs), streams)


def collect_round(run: Run, episodes: RunningEpisodes, student: Student | None, before: Sequence[Rollout]) -> Rollout:
    """One round of labelled states.

    Args:
        run: The run.
        episodes: What goes on in its environments.
        student: Who drives where beta leaves it to a student; None: the teacher drives.
        before: The rounds so far; those from `plan.rounds` on are beyond the budget, and shorter.
    """
    plan = run.plan
    number = len(before)
    parts = plan.rounds
    if number >= plan.rounds:
        parts = EXTRA
    steps = steps_of_round(plan.env_steps, parts, plan.n_envs)
    policy = None
    if student:
        # The student as NumPy runs it: many times faster than torch on single steps.
        policy = student.policy()
    with run.reporter.stage(f"round {number + 1}", steps * plan.n_envs, "steps") as advance:
        rollout = collect_on(
            episodes,
            run.teacher,
            policy,
            before=before,
            steps=steps,
            beta=beta_of(number, plan.rounds * plan.beta_fraction),
            exploration=plan.exploration,
            deterministic=not run.config.sampled,
            seed=run.seed("round", number),
            layer=plan.teacher_layer,
            advance=advance,
        )
    run.costs.add("collect_steps", rollout.driver.size)
    if policy:
        # A student with a memory is asked as if the episodes had begun with the round.
        before_fit = agreement_on(run.teacher, policy, rollout).agreement
        run.events.add_scalar("distill/agreement_before_fit", before_fit, number)
    return rollout


def beta_of(number: int, fading_rounds: float) -> float:
    """Probability that the teacher acts: 1 in round 0, falling in a line to 0 after so many rounds.

    Args:
        number: The round.
        fading_rounds: How many rounds the fall takes.
    """
    # There is no student yet, whatever the fall.
    if number == 0:
        return 1.0
    return max(0.0, 1 - number / max(fading_rounds, 1e-9))


def steps_of_round(env_steps: int, parts: int, n_envs: int) -> int:
    """Steps of each environment in one of several equal parts of a budget, rounded up.

    Args:
        env_steps: The budget, over all environments.
        parts: How many parts.
        n_envs: How many environments.
    """
    return -(-env_steps // (parts * n_envs))


def keep_round(run: Run, number: int, rollout: Rollout, episodes: RunningEpisodes) -> None:
    """Write a round's data into the run folder, and how the episodes came about that go on after it.

    Args:
        run: The run.
        number: The round's.
        rollout: Its data.
        episodes: What it was collected from.
    """
    run.folder.save_arrays(f"episodes-{number}", episodes.arrays())
    run.folder.save_arrays(f"round-{number}", rollout.arrays())


def read_round(run: Run, number: int, episodes: RunningEpisodes) -> Rollout:
    """Inverse of `keep_round`.

    Args:
        run: The run.
        number: The round's.
        episodes: New ones, which go on where the round ended.

    Raises:
        KDError: The round is missing or damaged.
    """
    arrays = run.folder.load_arrays(f"round-{number}")
    if arrays is None:
        raise KDError(f"{run.folder.path}: its checkpoint lacks round-{number}.npz")
    with run.folder.reading(checkpoint_file(f"round-{number}")):
        rollout = Rollout.from_arrays(arrays)
        _check_round(run, rollout)
    running = run.folder.load_arrays(f"episodes-{number}")
    # States that were followed along (`online`) come from no episodes that could go on.
    if running is not None:
        with run.folder.reading(checkpoint_file(f"episodes-{number}")):
            episodes.restore(running)
    return rollout


def _check_round(run: Run, rollout: Rollout) -> None:
    """Require a round that was read to be one of this run's teacher and student."""
    found = {key: array.shape[2:] for key, array in rollout.obs.items()}
    for key, spec in run.observed.items():
        if found[key] != spec.shape:
            raise KDError(f"its observation {key!r} has shape {found[key]}, expected {spec.shape}")
    if rollout.params.shape[2:] != (run.teacher.head.num_params,):
        raise KDError(f"its labels have shape {rollout.params.shape[2:]}, expected ({run.teacher.head.num_params},)")
