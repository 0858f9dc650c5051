"""Recording: what a policy does, or what a run has collected, becomes data that others can learn from."""

from pathlib import Path

from kd_agent.deployment.recording_files import Data, check_target, write_minari, write_npz
from kd_agent.environments import Recipe, recipe_of_student
from kd_agent.environments.own_wrappers import TypedWrappers
from kd_agent.environments.vector import spaces_of
from kd_agent.errors import KDError
from kd_agent.loading import load_policy
from kd_agent.networks import Teacher
from kd_agent.rollouts import Rollout, episodes_of, record_episodes
from kd_agent.runs import STUDENT_FILE, TEACHER_FILE, Reporter, RunFolder, checkpoint_file
from kd_agent.settings import MINARI, RecordConfig
from kd_agent.teachers import RecordedTeacher, asked_by, load_teacher, recipe_for

_FIRST_ROUND = "round-0"
_OF_PLAY = (
    "episodes",
    "seed",
    "sampled",
    "max_episode_steps",
    "step_timeout",
    "statistics",
    "allow_missing_statistics",
    "trust_teacher",
    "onnx_output",
    "teacher_activation",
    "teacher_squash",
)
"""Settings of a policy that plays; a run's rollouts have been played."""


def record(config: RecordConfig) -> str:
    """Write a recording.

    Args:
        config: What is recorded, and where to.

    Returns:
        What was written, in a line.

    Raises:
        KDError: The source cannot be read or played, or the target cannot be written.
    """
    check_target(config.out)
    if RunFolder(Path(config.source)).holds_checkpoint(_FIRST_ROUND):
        return _write_run(config)
    for seed in sorted(Path(config.source).glob("seed-*")):
        if RunFolder(seed).holds_checkpoint(_FIRST_ROUND):
            raise KDError(f"{config.source} is a run of several seeds, each with rollouts of its own: name one, {seed}")
    student = Path(config.source) / STUDENT_FILE
    if student.is_file():
        raise KDError(f"{config.source}: a run that has collected nothing; record what its student plays, {student}")
    teacher, recipe = _player(config)
    reporter = Reporter(quiet=config.quiet, progress=config.progress)
    seeds = range(config.seed, config.seed + config.episodes)
    with reporter.stage("recording", len(seeds), "episodes") as advance:
        episodes = record_episodes(teacher, recipe, seeds=seeds, deterministic=not config.sampled, advance=advance)
    play = "sampled" if config.sampled else "greedy"
    description = f"{teacher.origin.source} plays {play} in {recipe.env_id}, by kd_agent"
    squashed = teacher.head.kind == "squashed_gaussian"
    data = Data(episodes, spaces_of(recipe), recipe, teacher.origin.algo, description, squashed)
    return _write(config, data)


def _player(config: RecordConfig) -> tuple[Teacher, Recipe]:
    """Who plays, and where."""
    typed = TypedWrappers(tuple(config.wrapper))
    if config.source.endswith(".safetensors"):
        graph = load_policy(config.source).graph
        recipe = typed.around(recipe_of_student(graph, config.source, config.env, config.env_kwargs))
    else:
        recipe = recipe_for(config.source, config.env or "", config.env_kwargs, typed)
    recipe = recipe.limited(config)
    teacher = load_teacher(
        config.source,
        env=spaces_of(recipe),
        **asked_by(config),
    )
    if isinstance(teacher, RecordedTeacher):
        raise teacher.refusal()
    return teacher, recipe


def _write_run(config: RecordConfig) -> str:
    """Write the labelled rollouts that a run folder holds."""
    default = RecordConfig(source=config.source, out=config.out)
    for name in _OF_PLAY:
        if getattr(config, name) != getattr(default, name):
            flag = name.replace("_", "-")
            raise KDError(f"--{flag} is of a policy that plays, and {config.source} has been played: leave it out")
    folder = RunFolder(Path(config.source))
    student = folder.path / STUDENT_FILE
    graph = load_policy(student).graph
    typed = TypedWrappers(tuple(config.wrapper))
    recipe = typed.around(recipe_of_student(graph, str(student), config.env, config.env_kwargs))
    rollouts = _rollouts(folder)
    if len(rollouts) > 1 and graph.provenance["config"].get("label_budget"):
        raise KDError(
            f"{config.source} was made under a --label-budget: its answers are about single states, which are no "
            f"episodes; record what its student plays, {student}"
        )
    try:
        episodes = episodes_of(rollouts)
    except KDError as error:
        raise KDError(f"{config.source}: {error}") from None
    algorithm = str(folder.read_json(TEACHER_FILE).get("algo"))
    description = (
        f"labelled rollouts of the distillation in {recipe.env_id}, by kd_agent: infos tell who acted (0 the teacher, "
        "1 a student, 2 chance) and what the teacher says; the observation after an episode's last step is not kept, "
        "and the one before stands in its place"
    )
    squashed = graph.head.kind == "squashed_gaussian"
    return _write(config, Data(episodes, spaces_of(recipe), recipe, algorithm, description, squashed))


def _rollouts(folder: RunFolder) -> list[Rollout]:
    """All rounds of a run."""
    rollouts: list[Rollout] = []
    while folder.holds_checkpoint(f"round-{len(rollouts)}"):
        name = f"round-{len(rollouts)}"
        with folder.reading(checkpoint_file(name)):
            rollouts.append(Rollout.from_arrays(folder.load_arrays(name) or {}))
    return rollouts


def _write(config: RecordConfig, data: Data) -> str:
    """Write episodes where the settings say; what was written, in a line."""
    if config.out.startswith(MINARI):
        write_minari(config.out, data, params=config.params)
    else:
        write_npz(Path(config.out), data, params=config.params)
    steps = sum(map(len, data.episodes))
    return f"{config.out}: {len(data.episodes)} episodes, {steps:,} steps in {data.recipe.env_id}"
