"""A student explained beside its teacher: `explanation.json`, `explanation.html` and a short text.

`explanation.json`, format 1:

    env, seed, states, episodes     what was visited: the student's own greedy episodes
    teacher                         source, sha256, algo, parameters, memory (whether it has one)
    student                         file, sha256, parameters, memory
    kl, kl_uniform, agreement       as in result.json
    head, actions                   the action head's kind; names of a Discrete's actions, else null
    saliency
      states, repeats               states measured, permutations of each number (an image's patches are covered once)
      features                      name, key, cell (row and column of a patch, else null), teacher and student: kl,
                                    kl_ci, changed (`explain.Saliency`), or null where it does not see the feature
      rank_correlation              value, ci, features (how many both see); null where it is not defined
    near_ties                       `explain.NearTies` and gap, its bound; null for continuous actions
    disagreements                   `explain.Disagreement`s, the largest KL first
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
from kd_agent.environments import recipe_of, recorded_recipe
from kd_agent.environments.vector import spaces_of
from kd_agent.errors import KDError
from kd_agent.evaluation import agree
from kd_agent.explanations.features import Feature, action_names, features_of
from kd_agent.explanations.saliency import (
    IMAGE_STATES,
    NEAR_TIE,
    REPEATS,
    decision_gap,
    disagreements,
    divergence,
    effects,
    near_ties,
    rank_correlation,
    saliency,
)
from kd_agent.explanations.visited_states import Reading, Visited, read, visit
from kd_agent.loading import load_policy
from kd_agent.networks import ActionHead, Teacher, check_fits
from kd_agent.policies import Array, Policy
from kd_agent.policies.file import MAX_FILE
from kd_agent.policies.safe_files import read_capped
from kd_agent.policies.tree_rules import rules
from kd_agent.runs import Reporter, RunFolder
from kd_agent.settings import DistillConfig, ExplainConfig, validate
from kd_agent.teachers import load_named

_SHOWN = 12
"""Features in the text."""


def explain_file(config: ExplainConfig) -> dict[str, Any]:
    """Explain a saved student beside its teacher and write both files.

    Returns:
        The content of `explanation.json`.

    Raises:
        KDError: Student, teacher and environment do not fit together, or something cannot be read or written.
    """
    student = load_policy(config.student)
    recipe = recipe_of(config.env or recorded_recipe(student.graph) or student.env_id, config.env_kwargs)
    spaces = spaces_of(recipe)
    check_fits(student.graph, spaces, config.student)
    teacher = _teacher(config, student, spaces)
    specs = {**student.graph.observations, **teacher.observations}
    features = features_of(specs, recipe.env_id, config.names)
    folder = _folder(config)
    reporter = Reporter(quiet=config.quiet, progress=config.progress)
    with reporter.stage("playing the student", config.states, "steps") as advance:
        visited = visit(teacher, student, recipe, states=config.states, seed=config.seed, advance=advance)
    readings = {"teacher": read(teacher, visited), "student": read(student, visited)}
    worst = disagreements(readings["teacher"], readings["student"], teacher.head, features, visited, top=config.top)
    raw = read_capped(config.student, MAX_FILE)
    result = {
        "format": 1,
        "env": recipe.env_id,
        "seed": config.seed,
        "states": len(visited.starts),
        "episodes": int(visited.episode.max()) + 1,
        "teacher": {
            "source": teacher.origin.source, "sha256": teacher.origin.sha256, "algo": teacher.origin.algo,
            "parameters": teacher.origin.num_parameters, "memory": teacher.recurrent,
        },
        "student": {
            "file": config.student, "sha256": hashlib.sha256(raw).hexdigest(), "parameters": student.num_parameters,
            "memory": student.recurrent,
        },
        **_difference(readings, teacher.head, visited),
        "head": teacher.head.kind,
        "actions": action_names(recipe.env_id, teacher.head.spec) if teacher.head.kind == "categorical" else None,
        "saliency": _saliency(readings, teacher.head, features, visited, reporter),
        "disagreements": [asdict(found) for found in worst],
        "rules": _rules(student, features, recipe.env_id),
    }  # fmt: skip
    folder.write_json("explanation.json", result)
    plugins.load("report", "explanation").write(folder, result)
    return result


def text(result: dict[str, Any]) -> str:
    """The explanation in some lines."""
    measured, ties = result["saliency"], result["near_ties"]
    features = sorted(measured["features"], key=lambda f: -(f["teacher"] or f["student"])["kl"])
    width = max(len("feature"), *(len(f["name"]) for f in features[:_SHOWN]))
    columns = "KL without it [95 %]"
    lines = [
        f"{result['env']}: {result['states']:,} states of {result['episodes']} episodes that the student plays, "
        f"KL {result['kl']:.3g} (uniform policy {result['kl_uniform']:.3g}), agreement {result['agreement']:.1%}",
        f"{'feature':<{width}}  {'teacher: ' + columns:<32} other action  {'student: ' + columns:<32} other action",
        *(f"{f['name']:<{width}}  {_cells(f['teacher'])}  {_cells(f['student'])}" for f in features[:_SHOWN]),
    ]
    if len(features) > _SHOWN:
        lines.append(f"... and {len(features) - _SHOWN} more")
    if measured["rank_correlation"]:
        rank = measured["rank_correlation"]
        lines.append(f"rank correlation of the two: {rank['value']:.3f} [{rank['ci'][0]:.3f}, {rank['ci'][1]:.3f}]")
    if ties:
        lines.append(
            f"near-ties (decision gap below {ties['gap']}): {ties['states']:.1%} of the states, {_percent(ties['kl'])} "
            f"of the KL, {_percent(ties['disagreements'])} of {ties['differing']:,} disagreements"
        )
    return "\n".join(lines)


def _teacher(config: ExplainConfig, student: Policy, spaces: Any) -> Teacher:
    """The teacher, or several as one, as in the run that the student's file records."""
    recorded = student.graph.provenance.get("config", {})
    asked = {"teacher_keys": config.teacher_keys, "combine": config.combine}
    run = {name: value or recorded[name] for name, value in asked.items() if value or name in recorded}
    given = {name: getattr(config, name) for name in ("teacher", "statistics", "trust_teacher")}
    teacher = load_named(validate(DistillConfig, {"env": student.env_id or "unknown", **given, **run}), spaces)
    assert teacher, "an ExplainConfig names a teacher"
    own, other = student.graph.head.kind, teacher.head.kind
    if own != other:
        raise KDError(f"{config.student}: acts by {own}, but {teacher.origin.source} by {other}: there is no KL "
                      "between them; name the teacher that it was distilled from")  # fmt: skip
    if student.graph.provenance.get("teacher_sha256") not in (None, teacher.origin.sha256):
        warnings.warn(f"{config.student} was distilled from another teacher than {teacher.origin.source}", stacklevel=2)
    return teacher


def _folder(config: ExplainConfig) -> RunFolder:
    path = Path(config.out) if config.out else Path(config.student).absolute().parent
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise KDError(f"{path}: cannot be made ({error.strerror})") from None
    if not os.access(path, os.W_OK):
        raise KDError(f"{path}: cannot be written; choose another --out")
    return RunFolder(path)


def _difference(readings: dict[str, Reading], head: ActionHead, visited: Visited) -> dict[str, Any]:
    """KL, agreement, and how much of both lies in near-ties."""
    p, q = readings["teacher"].rows, readings["student"].rows
    kl, same = divergence(head, p, q), agree(head.spec, p, q)
    gap = decision_gap(head, p, q)
    ties = None if gap is None else {"gap": NEAR_TIE, **asdict(near_ties(gap, kl, ~same, visited.episode))}
    return {
        "kl": float(kl.mean()),
        "kl_uniform": float(divergence(head, p, head.uniform(len(p)).numpy()).mean()),
        "agreement": float(same.mean()),
        "near_ties": ties,
    }


def _saliency(
    readings: dict[str, Reading], head: ActionHead, features: Sequence[Feature], visited: Visited, reporter: Reporter
) -> dict[str, Any]:  # fmt: skip
    n = len(visited.starts)
    at = np.arange(n)
    if any(feature.cell for feature in features) and n > IMAGE_STATES:
        at = np.linspace(0, n - 1, IMAGE_STATES).astype(int)
    moved: dict[str, Array] = {}
    columns: dict[str, list[Any]] = {}
    for name, reading in readings.items():
        with reporter.stage(f"saliency of the {name}", len(features), "features") as advance:
            moved[name], changed = effects(reading, head, features, visited, at, advance=advance)
        found = saliency(moved[name], changed, visited.episode[at])
        columns[name] = [asdict(s) if f.key in reading.keys else None for f, s in zip(features, found, strict=True)]
    both = [i for i, f in enumerate(features) if all(f.key in reading.keys for reading in readings.values())]
    rank = rank_correlation(moved["teacher"][both], moved["student"][both], visited.episode[at])
    return {
        "states": len(at),
        "repeats": REPEATS,
        "features": [
            {"name": f.name, "key": f.key, "cell": f.cell, **{who: column[i] for who, column in columns.items()}}
            for i, f in enumerate(features)
        ],
        "rank_correlation": rank and {"value": rank[0], "ci": rank[1], "features": len(both)},
    }


def _rules(student: Policy, features: Sequence[Feature], env_id: str) -> str | None:
    graph = student.graph
    if all(op.kind != "tree" for op in graph.acting_ops()):
        return None
    (spec, *others), own = graph.observations.values(), [f.name for f in features if f.key in graph.observations]
    named = not others and not spec.categories
    actions = action_names(env_id, graph.head) if graph.head.kind == "categorical" else ()
    return rules(graph, own if named else (), actions)


def _cells(found: dict[str, Any] | None) -> str:
    if not found:
        return f"{'does not see it':<46}"
    low, high = found["kl_ci"]
    return f"{found['kl']:>9.4f} {f'[{low:.4f}, {high:.4f}]':<22} {found['changed']:>12.1%}"


def _percent(share: float | None) -> str:
    return "none" if share is None else f"{share:.1%}"
