"""Action masks in a run: who needs them, and who plays without although there are some."""

from stable_baselines3.common.vec_env import VecEnv

from kd_agent.environments import Recipe
from kd_agent.environments.vector import check_masks, has_masks
from kd_agent.errors import KDError
from kd_agent.networks import Teacher
from kd_agent.runs import Run


def check_masked(teacher: Teacher, recipe: Recipe, *, by_command: bool, control: bool) -> None:
    """Require that a teacher with action masks finds them in the environment and in what the command does.

    Args:
        teacher: The teacher.
        recipe: The environment.
        by_command: Whether the command can be taught by such a teacher.
        control: Whether the student's network is trained directly, too.

    Raises:
        KDError: It does not; the message says where.
    """
    # No environment is made for a teacher that would not ask it.
    if not teacher.expects_masks:
        return
    source = teacher.origin.source
    if not by_command:
        raise KDError(f"{source} plays with action masks, which this command knows nothing of; distil it")
    if control:
        raise KDError(f"{source} plays with action masks, and PPO trains --control without: leave it out")
    check_masks(recipe)


def say_unmasked(run: Run, env: VecEnv) -> None:
    """Say so where an environment has action masks and the teacher, as SB3's PPO, knows none.

    Args:
        run: The run.
        env: Its environments.
    """
    if not has_masks(env) or run.teacher.expects_masks:
        return
    origin = run.teacher.origin
    run.reporter.say(
        f"note: {run.recipe.env_id} has action masks, and the teacher {origin.source} ({origin.algo}) was trained "
        "without: teacher and student play without them"
    )
