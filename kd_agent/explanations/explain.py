"""A student explained beside its teacher: `explanation.json`, `explanation.html` and a short text.

`explanation.json`, format 1:

    env, seed, states, episodes     what was visited: the student's own episodes
    teacher                         source, sha256, algo, parameters, memory (whether it has one)
    student                         file, sha256, parameters, memory
    kl, kl_uniform, agreement       as in result.json, on the states visited here
    head, actions                   the action head's kind; names of a Discrete's actions, else null
    saliency
      states, repeats               states measured, permutations of each number (an image's patches are covered once)
      features                      name, key, cell (row and column of a patch, else null), teacher and student: kl,
                                    kl_ci, changed (`saliency.Saliency`), or null where it does not see the feature
      rank_correlation              value, ci, features (how many both see); null where it is not defined
    near_ties                       `disagreements.NearTies` and gap, its bound; null for continuous actions
    disagreements                   `disagreements.Disagreement`s, the largest KL first
    rules                           a tree's rules as text, else null
"""

import hashlib
import os
import warnings
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from kd_agent import plugins
from kd_agent.environments import recipe_of_student
from kd_agent.environments.own_wrappers import TypedWrappers
from kd_agent.environments.vector import spaces_of
from kd_agent.errors import KDError
from kd_agent.evaluation import agree
from kd_agent.explanations.disagreements import NEAR_TIE, decision_gap, disagreements, near_ties
from kd_agent.explanations.features import Feature, features_of
from kd_agent.explanations.saliency import (
    IMAGE_STATES,
    REPEATS,
    Saliency,
    divergence,
    effects,
    rank_correlation,
    saliency,
)
from kd_agent.explanations.visited_states import Reading, VisitedStates, read, visit
from kd_agent.loading import load_policy
from kd_agent.networks import ActionHead, Teacher, check_fits
from kd_agent.policies import Array, Policy
from kd_agent.policies.file import MAX_FILE
from kd_agent.policies.names import action_names
from kd_agent.policies.safe_files import read_capped
from kd_agent.policies.tree_rules import rules
from kd_agent.runs import Reporter, RunFolder
from kd_agent.settings import DistillConfig, ExplainConfig, validate
from kd_agent.teachers import RecordedTeacher, asked_by, load_named

_SHOWN = 12
"""Features in the text."""


def explain_file(config: ExplainConfig) -> dict[str, Any]:
    """Explain a saved student beside its teacher and write both files.

    Returns:
        The content of `explanation.json`.

    Raises:
        KDError: Student, teacher and environment do not fit together, or something cannot be read or written.
    """
    student = load_policy(config.student, task=config.task)
    typed = TypedWrappers(config.wrapper, config.teacher_wrapper)
    recipe = typed.around(recipe_of_student(student.graph, config.student, config.env, config.env_kwargs))
    recipe = recipe.limited(config)
    spaces = spaces_of(recipe)
    check_fits(student.graph, spaces, config.student)
    teacher = _teacher(config, student, spaces)
    features = features_of({**student.graph.observations, **teacher.observations}, recipe.env_id, config.names)
    # The last of the checks, because it makes the folder: a wrong input leaves nothing behind.
    folder = _folder(config)
    reporter = Reporter(quiet=config.quiet, progress=config.progress)
    with reporter.stage("playing the student", config.states, "steps") as advance:
        visited = visit(teacher, student, recipe, states=config.states, seed=config.seed, advance=advance)
    readings = {"teacher": read(teacher, visited), "student": read(student, visited)}
    head = teacher.head
    worst = disagreements(readings["teacher"], readings["student"], head, features, visited, top=config.top)
    result = {
        "format": 1,
        "env": recipe.env_id,
        "seed": config.seed,
        "states": len(visited.starts),
        "episodes": int(visited.episode.max()) + 1,
        "teacher": _about_teacher(teacher),
        "student": _about_student(config.student, student),
        **_difference(readings, head, visited),
        "head": head.kind,
        "actions": action_names(recipe.env_id, head.spec) if head.kind == "categorical" else None,
        "saliency": _saliency(readings, head, features, visited, reporter),
        "disagreements": list(map(asdict, worst)),
        "rules": _rules(student, features, recipe.env_id),
    }
    folder.write_json("explanation.json", result)
    plugins.load("report", "explanation").write(folder, result)
    return result


def text(result: dict[str, Any]) -> str:
    """The explanation in some lines."""
    measured = result["saliency"]
    ties = result["near_ties"]
    features = sorted(measured["features"], key=_importance, reverse=True)
    shown = features[:_SHOWN]
    width = max(len("feature"), *(len(feature["name"]) for feature in shown))
    columns = "KL without it [95 %]"
    lines = [
        f"{result['env']}: {result['states']:,} states of {result['episodes']} episodes that the student plays, "
        f"KL {result['kl']:.3g} (uniform policy {result['kl_uniform']:.3g}), agreement {result['agreement']:.1%}",
        f"{'feature':<{width}}  {'teacher: ' + columns:<32} other action  {'student: ' + columns:<32} other action",
    ]
    for feature in shown:
        lines.append(f"{feature['name']:<{width}}  {_cells(feature['teacher'])}  {_cells(feature['student'])}")
    if len(features) > _SHOWN:
        lines.append(f"... and {len(features) - _SHOWN} more")
    if measured["rank_correlation"]:
        rank = measured["rank_correlation"]
        low, high = rank["ci"]
        lines.append(f"rank correlation of the two: {rank['value']:.3f} [{low:.3f}, {high:.3f}]")
    if ties:
        lines.append(
            f"near-ties (decision gap below {ties['gap']}): {ties['states']:.1%} of the states, {_percent(ties['kl'])} "
            f"of the KL, {_percent(ties['disagreements'])} of {ties['differing']:,} disagreements"
        )
    return "\n".join(lines)


def _teacher(config: ExplainConfig, student: Policy, spaces: Any) -> Teacher:
    """The teacher, or several as one, as in the run that the student's file records."""
    recorded = student.graph.provenance.get("config")
    if not isinstance(recorded, dict):
        recorded = {}
    # A DistillConfig has to name some environment; what the teacher is held against are the spaces.
    settings: dict[str, Any] = {"env": student.env_id or "unknown"}
    settings |= {"teacher": config.teacher, **asked_by(config)}
    for name in ("teacher_keys", "combine"):
        value = getattr(config, name) or recorded.get(name)
        if value:
            settings[name] = value
    teacher = load_named(validate(DistillConfig, settings), spaces)
    assert teacher, "an ExplainConfig names a teacher"
    if isinstance(teacher, RecordedTeacher):
        raise teacher.refusal()
    own = student.graph.head.kind
    other = teacher.head.kind
    source = teacher.origin.source
    if own != other:
        raise KDError(
            f"{config.student}: acts by {own}, but {source} by {other}: there is no KL between them; "
            "name the teacher that it was distilled from"
        )
    if student.graph.provenance.get("teacher_sha256") not in (None, teacher.origin.sha256):
        warnings.warn(f"{config.student} was distilled from another teacher than {source}", stacklevel=2)
    return teacher


def _folder(config: ExplainConfig) -> RunFolder:
    path = Path(config.out) if config.out else Path(config.student).absolute().parent
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise KDError(f"{path}: cannot be made ({error.strerror})") from None
    # Asked now, because what is to be written takes minutes to measure.
    if not os.access(path, os.W_OK):
        raise KDError(f"{path}: cannot be written; choose another --out")
    return RunFolder(path)


def _about_teacher(teacher: Teacher) -> dict[str, Any]:
    return {
        "source": teacher.origin.source,
        "sha256": teacher.origin.sha256,
        "algo": teacher.origin.algo,
        "parameters": teacher.origin.num_parameters,
        "memory": teacher.recurrent,
    }


def _about_student(file: str, student: Policy) -> dict[str, Any]:
    return {
        "file": file,
        "sha256": hashlib.sha256(read_capped(file, MAX_FILE)).hexdigest(),
        "parameters": student.num_parameters,
        "memory": student.recurrent,
    }


def _difference(readings: dict[str, Reading], head: ActionHead, visited: VisitedStates) -> dict[str, Any]:
    """KL, agreement, and how much of both lies in near-ties."""
    p = readings["teacher"].rows
    q = readings["student"].rows
    kl = divergence(head, p, q)
    same = agree(head.spec, p, q)
    gap = decision_gap(head, p, q)
    ties = None
    if gap is not None:
        ties = {"gap": NEAR_TIE, **asdict(near_ties(gap, kl, ~same, visited.episode))}
    uniform = head.uniform(len(p)).numpy()
    if visited.masks is not None:
        uniform = head.spec.masked(uniform, visited.masks)
    return {
        "kl": float(kl.mean()),
        "kl_uniform": float(divergence(head, p, uniform).mean()),
        "agreement": float(same.mean()),
        "near_ties": ties,
    }


def _saliency(
    readings: dict[str, Reading],
    head: ActionHead,
    features: Sequence[Feature],
    visited: VisitedStates,
    reporter: Reporter,
) -> dict[str, Any]:
    at = _measured_states(features, len(visited.starts))
    episode = visited.episode[at]
    kl: dict[str, Array] = {}
    columns: dict[str, list[Saliency]] = {}
    for name, reading in readings.items():
        with reporter.stage(f"saliency of the {name}", len(features), "features") as advance:
            kl[name], changed = effects(reading, head, features, visited, at, advance=advance)
        columns[name] = saliency(kl[name], changed, episode)
    rows = []
    seen_by_both = []
    for index, feature in enumerate(features):
        row: dict[str, Any] = {"name": feature.name, "key": feature.key, "cell": feature.cell}
        for name, reading in readings.items():
            row[name] = asdict(columns[name][index]) if feature.key in reading.keys else None
        rows.append(row)
        if row["teacher"] and row["student"]:
            seen_by_both.append(index)
    # A policy has no opinion of what it does not see: a saliency of 0 there would be counted as one.
    rank = rank_correlation(kl["teacher"][seen_by_both], kl["student"][seen_by_both], episode)
    return {
        "states": len(at),
        "repeats": REPEATS,
        "features": rows,
        "rank_correlation": rank and {"value": rank[0], "ci": rank[1], "features": len(seen_by_both)},
    }


def _measured_states(features: Sequence[Feature], states: int) -> Array:
    """Indices of the states on which features are replaced: all, or where there are images some from end to end."""
    if states > IMAGE_STATES and any(feature.cell for feature in features):
        return np.linspace(0, states - 1, IMAGE_STATES).astype(int)
    return np.arange(states)


def _rules(student: Policy, features: Sequence[Feature], env_id: str) -> str | None:
    graph = student.graph
    if not any(op.kind == "tree" for op in graph.acting_ops()):
        return None
    actions = action_names(env_id, graph.head) if graph.head.kind == "categorical" else ()
    spec, *others = graph.observations.values()
    # One category becomes several columns of a tree, and several keys stand side by side: the rules name those.
    if others or spec.categories:
        return rules(graph, (), actions)
    names = [feature.name for feature in features if feature.key in graph.observations]
    return rules(graph, names, actions)


def _importance(feature: dict[str, Any]) -> float:
    """What a feature is ranked by: its saliency for the teacher, or for the student where only that sees it."""
    return float((feature["teacher"] or feature["student"])["kl"])


def _cells(found: dict[str, Any] | None) -> str:
    if not found:
        return f"{'does not see it':<46}"
    low, high = found["kl_ci"]
    return f"{found['kl']:>9.4f} {f'[{low:.4f}, {high:.4f}]':<22} {found['changed']:>12.1%}"


def _percent(share: float | None) -> str:
    return "none" if share is None else f"{share:.1%}"
