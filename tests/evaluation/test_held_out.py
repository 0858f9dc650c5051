"""Held out: a student is asked about the episodes that no fit saw, each counted as one."""

from pathlib import Path

import numpy as np
import pytest
from recordings import LENGTH, SPACE, arrays, saved
from samples import HEADS, SPACES, make_student, rows

from kd_agent import load_teacher
from kd_agent.evaluation.held_out import held_out_states, measure_held_out
from kd_agent.policies import Policy
from kd_agent.teachers import RecordedTeacher


def recorded(folder: Path, episodes: int = 20, **more: object) -> RecordedTeacher:
    source = saved(folder / "data.npz", {**arrays(episodes=episodes), **more})
    teacher = load_teacher(source, env=(SPACE, SPACES["Discrete"]))
    assert isinstance(teacher, RecordedTeacher)
    return teacher


@pytest.mark.parametrize("kind", ["mlp", "gru"])
def test_the_figures_are_those_of_the_states_held_out_by_the_runs_seed(kind: str, tmp_path: Path) -> None:
    teacher = recorded(tmp_path, params=rows(HEADS["categorical"], 20 * LENGTH).numpy())
    student = make_student(HEADS["categorical"], kind, hidden=(5,)).policy()
    found = measure_held_out(teacher, student, seed=3)
    chosen = held_out_states(teacher, 3)
    recording = teacher.recording
    said = []
    for number in np.unique(recording.episode[chosen]):
        memory = None
        for observation in recording.observations["obs"][recording.episode == number]:
            row, memory = student.step_batch({"obs": observation[None]}, memory, [memory is None])
            said.append(row[0])
    q = np.exp(said) / np.exp(said).sum(axis=1, keepdims=True)
    labels = recording.params[chosen]
    same = np.argmax(said, axis=1) == labels.argmax(axis=1)
    assert found.agreement.agreement == pytest.approx(same.mean())
    best = q[np.arange(len(q)), labels.argmax(axis=1)]
    assert found.cross_entropy == pytest.approx(-np.log(best).mean(), rel=1e-4)
    assert (found.agreement.agreement_episodes, found.agreement.agreement_states) == (4, 4 * LENGTH)
    assert found.agreement.agreement_steps == 0
    low, high = found.agreement.agreement_ci
    by_episode = same.reshape(4, LENGTH).mean(axis=1)
    # An interval over these four, and over no others that were fitted.
    assert by_episode.min() <= low < found.agreement.agreement < high <= by_episode.max()
    assert measure_held_out(teacher, student, seed=4) != found


def test_what_is_held_out_is_said(tmp_path: Path) -> None:
    student = Policy(make_student(HEADS["categorical"]).graph())
    figures = measure_held_out(recorded(tmp_path), student, 0).figures()
    assert figures["agreement_on"] == "episodes held out of the recording"
    assert {"kl", "kl_ci", "agreement", "agreement_ci", "cross_entropy", "agreement_episodes"} <= set(figures)
