"""Verification: what a run folder says of itself is computed, hashed and played again, claim by claim.

A folder may come from anybody: no file in it decides which code runs.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from kd_agent.environments import Recipe, recipe_of_student
from kd_agent.environments.own_wrappers import TypedWrappers
from kd_agent.environments.vector import spaces_of
from kd_agent.errors import KDError
from kd_agent.evaluation._first_format import WrittenFirst
from kd_agent.evaluation._students import StudentOfRun, students_of
from kd_agent.evaluation._written import Claim, Written, cost_claim
from kd_agent.evaluation._written_recorded import WrittenRecorded, WrittenUnplayed, recording_claims
from kd_agent.evaluation.agreement import measure_agreement
from kd_agent.evaluation.comparison import Episodes, PairedComparison
from kd_agent.evaluation.references import References
from kd_agent.evaluation.statistics import iqm
from kd_agent.evaluation.verdict import EVALUATION_SEED
from kd_agent.loading import load_policy
from kd_agent.networks import Teacher, check_fits
from kd_agent.policies import Policy
from kd_agent.policies.file import MAX_FILE
from kd_agent.policies.safe_files import read_capped
from kd_agent.runs import CONFIG_FILE, RESULT_FILE, STUDENT_FILE, TEACHER_FILE, Reporter, RunFolder
from kd_agent.settings import MINARI, DistillConfig, VerifyConfig, validate
from kd_agent.teachers import RECORDING, EnsembleTeacher, RecordedTeacher, load_named, load_recording

FORMATS: Mapping[Any, type[Written]] = {1: WrittenFirst, 2: Written}
"""Formats of `result.json` that are read."""
_JUDGED = ("env", "seed", "teacher", "episodes", "max_episodes", "margin", "sampled")
"""Settings of a run that its verdict hangs on."""
_OF_TEACHER = (
    "statistics",
    "allow_missing_statistics",
    "onnx_output",
    "teacher_activation",
    "teacher_squash",
    "combine",
    "teacher_keys",
)
"""Settings by which its teacher is read; to trust one is not among them."""


def verify(config: VerifyConfig) -> Iterator[Claim]:
    """What a run folder claims, what costs least to look at first.

    After a claim that does not hold the others mean little: whoever asks may stop there.

    Args:
        config: The folder, and what its files may not say.

    Yields:
        Each claim, and whether it holds.

    Raises:
        KDError: A file is missing or damaged, or the teacher or the environment cannot be had.
    """
    folder = RunFolder(Path(config.run))
    result = folder.read_json(RESULT_FILE)
    with folder.reading(RESULT_FILE):
        parts = students_of(folder, result)
        yield cost_claim(result["cost"])
    for part in parts:
        text = f"{part.name}: {RESULT_FILE}" if part.name else RESULT_FILE
        number = part.result["format"]
        known = number in list(FORMATS)
        yield Claim(f"{text} is of format {number}", "" if known else "only 1 and 2 are known")
        if known:
            yield from _Verification(config, folder, part).claims()
    if "seeds" in result:
        yield from _over_seeds(folder, result)


def _over_seeds(folder: RunFolder, result: Mapping[str, Any]) -> Iterator[Claim]:
    """The claims about the students of several seeds together, after those about each."""
    settings = folder.read_yaml(CONFIG_FILE)
    with folder.reading(RESULT_FILE):
        written = Written(result, settings)
        seeds = [one["seed"] for one in result["seeds"]]
        asked = [settings["seed"] + number for number in range(settings["seeds"])]
    yield written.says(f"the seeds are config.yaml's, {asked}", {"seeds": asked}, {"seeds": seeds})
    with folder.reading(RESULT_FILE):
        returns = [one["student"]["returns"] for one in result["seeds"]]
        text = f"the verdict over {len(returns)} seeds, {result['verdict']['decision']}, follows from the returns"
        verdict = written.says(text, written.verdict_on(returns), result["verdict"])
        [kept] = [one["student"] for one in result["seeds"] if one["seed"] == result["kept_seed"]]
    yield verdict
    yield written.says(f"the student that is written is that of seed {result['kept_seed']}", kept, result["student"])
    yield _file_claim(written, folder.path / STUDENT_FILE)


def _file_claim(written: Written, path: Path) -> Claim:
    raw = read_capped(path, MAX_FILE)
    found = {"file": path.name, "sha256": hashlib.sha256(raw).hexdigest(), "bytes": len(raw)}
    return written.says(f"{path.name} has the sha256 and the bytes", found, written.student)


def _written_of(result: Mapping[str, Any]) -> type[Written]:
    """How a result is read."""
    if result["teacher"]["algo"] != RECORDING:
        return FORMATS[result["format"]]
    return WrittenUnplayed if result["play"] is None else WrittenRecorded


def _of_recording(written: Written, teacher: Teacher, student: Policy) -> Iterator[Claim]:
    """What a recording can be held against; nothing where the teacher is none."""
    if isinstance(teacher, RecordedTeacher):
        yield from recording_claims(written, teacher, student)


class _Verification:
    """The claims about one student.

    Args:
        config: What was asked.
        folder: The run folder.
        part: The student.
    """

    def __init__(self, config: VerifyConfig, folder: RunFolder, part: StudentOfRun) -> None:
        self._config = config
        self._folder = folder
        self._part = part
        settings = part.own.read_yaml(CONFIG_FILE)
        with folder.reading(RESULT_FILE):
            self._written = _written_of(part.result)(part.result, settings, part.name)

    def claims(self) -> Iterator[Claim]:
        """All of them."""
        written, path = self._written, self._part.file
        with self._folder.reading(RESULT_FILE):
            by_themselves = list(written.claims())
        yield from by_themselves
        yield _file_claim(written, path)
        student = load_policy(path, task=self._part.task)
        yield from self._student_claims(student)
        if isinstance(written, WrittenUnplayed):
            recording = self._teacher(Recipe(""))
            yield self._teacher_claim(recording)
            yield from _of_recording(written, recording, student)
            return
        recipe = self._recipe(student, path)
        yield written.says(f"the environment is the student's, {recipe.env_id}", {"env": recipe.env_id}, written.result)
        teacher = self._teacher(recipe)
        yield self._teacher_claim(teacher)
        yield from self._played_again(student, teacher, recipe)
        played = not isinstance(teacher, RecordedTeacher)
        if self._config.episodes is None and written.complete and played:
            yield self._agreement_claim(student, teacher, recipe)

    def _student_claims(self, student: Policy) -> Iterator[Claim]:
        found = {"parameters": student.num_parameters}
        play = {"sampled": student.sampled}
        yield self._written.says("it is played as its file says", play, {"sampled": self._written.sampled})
        yield self._written.says(f"the student has {student.num_parameters:,} parameters", found, self._written.student)
        recorded = student.graph.provenance.get("config")
        if isinstance(recorded, Mapping):
            settings = {name: recorded[name] for name in _JUDGED if name in recorded}
            yield self._written.says(f"{CONFIG_FILE} is as in {STUDENT_FILE}", settings, self._written.settings)

    def _recipe(self, student: Policy, path: Path) -> Recipe:
        """The environment, as the student's file and what is typed have it."""
        config = self._config
        typed = TypedWrappers(config.wrapper, config.teacher_wrapper)
        recipe = typed.around(recipe_of_student(student.graph, str(path), config.env, config.env_kwargs))
        recipe = replace(recipe, step_timeout=config.step_timeout)
        check_fits(student.graph, spaces_of(recipe), str(path))
        return recipe

    def _teacher(self, recipe: Recipe) -> Teacher:
        """The run's teacher, from where it lay or where it is said to lie now."""
        config, settings = self._config, self._written.settings
        # One that was trained is in no setting.
        sources = config.teacher or settings.get("teacher") or [str(self._written.teacher["source"])]
        for source in sources:
            if not (Path(source).exists() or source.startswith(MINARI)):
                raise KDError(f"{source}: the run's teacher is not there; --teacher says where it lies now")
        told = {name: settings[name] for name in _OF_TEACHER if name in settings}
        if config.statistics:
            told["statistics"] = config.statistics
        told |= {"env": recipe.env_id, "teacher": list(sources), "trust_teacher": config.trust_teacher}
        config_then = validate(DistillConfig, told)
        if not recipe.env_id:
            return load_recording(config_then)
        teacher = load_named(config_then, spaces_of(recipe))
        assert teacher, "at least one is named"
        if isinstance(teacher, EnsembleTeacher):
            with self._folder.reading(RESULT_FILE):
                return teacher.with_weights(self._written.result["teachers"])
        return teacher

    def _teacher_claim(self, teacher: Teacher) -> Claim:
        origin = teacher.origin
        text = f"the teacher, {origin.source}, has the sha256 and the parameters"
        # Also whether it is a recording: nobody's episodes are paired with one's.
        found = {"sha256": origin.sha256, "algo": origin.algo, "parameters": origin.num_parameters}
        claim = self._written.says(text, found, self._written.teacher)
        if not claim.holds:
            return claim
        return self._written.says(text, {"sha256": origin.sha256}, self._part.own.read_json(TEACHER_FILE))

    def _played_again(self, student: Policy, teacher: Teacher, recipe: Recipe) -> Iterator[Claim]:
        """Let all play again, with interruptions where there were some."""
        # A product of matrices rounds by the number of its rows, and a chaotic environment makes another return of
        # that: the same episodes have to be played side by side.
        reporter = Reporter(quiet=self._config.quiet, progress=self._config.progress)
        head = teacher.head.spec
        episodes = Episodes(
            recipe,
            first_seed=EVALUATION_SEED,
            reporter=reporter,
            stage="again:",
            head=head,
            deterministic=not self._written.sampled,
        )
        comparison = PairedComparison(episodes, teacher, margin=1.0, random_episodes=self._written.random_episodes)
        returns: list[float] = []
        if self._part.references:
            yield self._returns_claim("random", comparison.random_returns)
        if self._part.references and not isinstance(teacher, RecordedTeacher):
            first = comparison.teacher_returns(self._written.first_episodes)
            if self._written.complete and not self._config.tolerance:
                yield self._worth_claim(teacher, recipe, episodes, first, comparison.random_returns)
        for stop in self._written.stops(self._config.episodes):
            returns += episodes.play(student, "the student", stop - len(returns), len(returns))
            if self._part.references:
                comparison.teacher_returns(stop)
        yield from _of_recording(self._written, teacher, student)
        if self._part.references and not isinstance(teacher, RecordedTeacher):
            yield self._returns_claim("teacher", comparison.teacher_returns(len(returns)))
        yield self._returns_claim("student", returns)

    def _worth_claim(
        self, teacher: Teacher, recipe: Recipe, episodes: Episodes, first: list[float], random: list[float]
    ) -> Claim:
        """What the teacher is worth, beside the random policy and played the other way."""
        sampled = self._written.sampled
        otherwise = episodes.play(teacher, "the teacher, the other way", len(first), deterministic=sampled)
        play = "sampled" if sampled else "greedy"
        worth = References(recipe.env_id, play, first, otherwise, random)
        return self._written.says("teacher: it is worth what is written", worth.figures(), self._written.teacher)

    def _returns_claim(self, who: str, again: Sequence[float]) -> Claim:
        written = self._written.returns(who)
        if not written:
            return self._written.says(
                f"{who}: played again, it has the IQM", {"iqm": float(iqm(again))}, self._written.random
            )
        count = min(len(written), len(again))
        told, found = np.array(written[:count]), np.array(again[:count])
        others = np.flatnonzero(told != found)
        share = self._config.tolerance
        if share:
            text = (
                f"{who}: played again, {count} of {len(written)} episodes have the mean up to {share:g} of "
                f"|teacher - random| ({count - len(others)} have the same return)"
            )
            away = abs(float(found.mean() - told.mean()))
            return self._written.claim(text, f"it is {away:.4g} away" if away > share * self._written.scale else "")
        text = f"{who}: played again, {count} of {len(written)} episodes have the same return"
        if not len(others):
            return self._written.claim(text)
        first = others[0]
        return self._written.claim(
            text,
            f"{len(others)} have another; that of seed {EVALUATION_SEED + first} is written as {told[first]}, found as "
            f"{found[first]} (on another machine or version than the run's: --tolerance)",
        )

    def _agreement_claim(self, student: Policy, teacher: Teacher, recipe: Recipe) -> Claim:
        close = measure_agreement(teacher, student, recipe, deterministic=not self._written.sampled)
        written = self._written.student
        if not self._config.tolerance:
            text = f"student: KL and agreement, measured again on {close.agreement_episodes} episodes, are the same"
            return self._written.says(text, close.figures(), written)
        text = "student: KL and agreement are within the intervals of those measured again"
        for name, (low, high) in (("kl", close.kl_ci), ("agreement", close.agreement_ci)):
            if not low <= written[name] <= high:
                return self._written.claim(text, f"{name} is written as {written[name]}, found in [{low}, {high}]")
        return self._written.claim(text)
