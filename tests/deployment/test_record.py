"""`record`: what it writes is read back as it was played, by `--teacher` and by Minari itself."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from recordings import minari_folder
from samples import PROBES, ROOT, Agent, flags, make_graph, settings

from kd_agent import KDError, distill, evaluate, load_teacher
from kd_agent.commands import cli
from kd_agent.deployment import record as recording
from kd_agent.deployment.record import record
from kd_agent.policies import file as graph_file
from kd_agent.runs import RunFolder
from kd_agent.settings import RecordConfig
from kd_agent.teachers import RecordedTeacher

__all__ = ["minari_folder"]
PROBE = PROBES["Discrete"]


def read(source: str, agent: Agent) -> RecordedTeacher:
    teacher = load_teacher(source, env=agent.spaces)
    assert isinstance(teacher, RecordedTeacher)
    return teacher


def test_an_npz_has_the_agents_rows_and_returns(agent: Agent, tmp_path: Path) -> None:
    out = str(tmp_path / "data.npz")
    said = record(RecordConfig(str(agent.path), out, env=agent.env_id, episodes=5, seed=3, quiet=True))
    assert said == f"{out}: 5 episodes, 250 steps in {agent.env_id}"
    found = read(out, agent).recording
    own = load_teacher(str(agent.path), env=agent.spaces)
    np.testing.assert_allclose(found.params, own(found.observations).params.numpy(), atol=1e-5)
    played = evaluate(own, agent.env_id, seeds=range(3, 8), deterministic=True)
    np.testing.assert_allclose(found.returns, played.returns, rtol=1e-6)
    assert found.labels == "distributions"


def test_without_distributions_the_actions_are_the_labels(agent: Agent, tmp_path: Path) -> None:
    out = str(tmp_path / "data.npz")
    record(RecordConfig(str(agent.path), out, env=agent.env_id, episodes=2, params=False, quiet=True))
    teacher = read(out, agent)
    assert teacher.recording.labels == "actions"
    own = load_teacher(str(agent.path), env=agent.spaces)
    spec = teacher.head.spec
    expected = spec.greedy(own(teacher.recording.observations).params.numpy())
    np.testing.assert_allclose(spec.greedy(teacher.recording.params), expected, atol=1e-5)


def test_a_dataset_is_read_by_minari_and_as_a_teacher(agent: Agent, minari_folder: Path) -> None:
    import minari

    record(RecordConfig(str(agent.path), "minari:kd/own-v0", env=agent.env_id, episodes=3, quiet=True))
    dataset = minari.load_dataset("kd/own-v0")
    assert (dataset.total_episodes, dataset.total_steps) == (3, 150)
    assert dataset.spec.env_spec.id == agent.env_id
    own = load_teacher(str(agent.path), env=agent.spaces)
    for episode in dataset:
        assert len(episode.observations) == len(episode) + 1
        assert dataset.observation_space.contains(episode.observations[-1])
        assert all(dataset.action_space.contains(action) for action in episode.actions)
        rows = own({"obs": episode.observations[:-1]}).params.numpy()
        np.testing.assert_allclose(episode.infos["params"], rows, atol=1e-5)
        assert (episode.truncations[-1], episode.terminations[-1]) == (True, False)
    teacher = load_teacher("minari:kd/own-v0")
    assert isinstance(teacher, RecordedTeacher)
    assert len(teacher.recording.returns) == 3
    assert teacher.recording.labels == "distributions"


def test_what_is_there_is_not_written_over(agents: dict[str, Agent], minari_folder: Path) -> None:
    config = RecordConfig(str(agents["Box"].path), "minari:kd/own-v0", env=agents["Box"].env_id, episodes=1, quiet=True)
    record(config)
    with pytest.raises(KDError, match="there is such a dataset already"):
        record(config)


def test_the_rows_of_a_squashed_gaussian_are_read_as_such(minari_folder: Path, tmp_path: Path) -> None:
    student = graph_file.write(make_graph("squashed_gaussian", {"env": PROBES["Box"]}), tmp_path / "s.safetensors")
    for out in (str(tmp_path / "data.npz"), "minari:kd/squashed-v0"):
        record(RecordConfig(str(student), out, episodes=2, quiet=True))
        teacher = load_teacher(out)
        assert isinstance(teacher, RecordedTeacher)
        assert teacher.head.kind == "squashed_gaussian"
        own = load_teacher(str(student))
        expected = own(teacher.recording.observations).params.numpy()
        np.testing.assert_allclose(teacher.recording.params, expected, atol=1e-5)


@pytest.fixture(scope="module")
def run(agents: dict[str, Agent], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A distillation of a few rounds."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    distill(settings(agents["Discrete"], folder, exploration=0.1))
    return folder


def test_the_rollouts_of_a_run_are_a_dataset(run: Path, minari_folder: Path) -> None:
    import minari

    record(RecordConfig(str(run), "minari:kd/run-v0", quiet=True))
    dataset = minari.load_dataset("kd/run-v0")
    rounds = recording._rollouts(RunFolder(run))
    assert len(rounds) >= 3
    states = sum(rollout.driver.size for rollout in rounds)
    running = rounds[0].driver.shape[1]
    assert states - running <= dataset.total_steps <= states
    drivers = np.concatenate([episode.infos["drivers"] for episode in dataset])
    assert set(drivers) == {0, 1, 2}
    first = next(iter(dataset))
    column = [rollout.params[:, 0] for rollout in rounds]
    np.testing.assert_array_equal(first.infos["params"], np.concatenate(column)[: len(first)])
    teacher = load_teacher("minari:kd/run-v0")
    assert isinstance(teacher, RecordedTeacher)
    # Whoever else drove, the labels are the teacher's; the returns of such episodes are not.
    assert len(teacher.recording.returns) < teacher.recording.episodes


def test_the_rollouts_of_a_run_as_an_npz(run: Path, agents: dict[str, Agent], tmp_path: Path) -> None:
    out = str(tmp_path / "run.npz")
    record(RecordConfig(str(run), out, quiet=True))
    teacher = read(out, agents["Discrete"])
    own = load_teacher(str(agents["Discrete"].path), env=agents["Discrete"].spaces)
    seen = teacher.recording.observations
    np.testing.assert_allclose(teacher.recording.params, own(seen).params.numpy(), atol=1e-5)
    assert teacher.recording.returns == () or max(teacher.recording.returns) <= 50


def test_what_holds_no_episodes_is_refused_with_what_to_record_instead(
    agents: dict[str, Agent], tmp_path: Path
) -> None:
    def said(name: str, agent: str = "", **more: Any) -> str:
        given = settings(agents["Discrete"], tmp_path / name)
        distill({**given, **({"teacher": agent} if agent else {}), **more})
        with pytest.raises(KDError) as caught:
            record(RecordConfig(str(tmp_path / name), str(tmp_path / "d.npz"), quiet=True))
        assert not (tmp_path / "d.npz").exists()
        return str(caught.value)

    assert said("asked", label_budget=60, env_steps=200, rounds=2).endswith("student.safetensors"), (
        "answers about single states are no episodes"
    )
    assert said("seeds", seeds=2).endswith(f"name one, {tmp_path / 'seeds' / 'seed-0'}")
    data = str(tmp_path / "data.npz")
    record(RecordConfig(str(agents["Discrete"].path), data, env=PROBES["Discrete"], quiet=True))
    assert "a run that has collected nothing" in said("recorded", data, env="")


def test_what_is_learnt_without_an_environment_plays_in_it(agents: dict[str, Agent], tmp_path: Path) -> None:
    """The actions of a recording need not reach their bounds."""
    out = str(tmp_path / "d.npz")
    record(RecordConfig(str(agents["Box"].path), out, env=PROBES["Box"], quiet=True))
    given = {**settings(agents["Box"], tmp_path / "run"), "teacher": out, "env": ""}
    distill(given)
    student = str(tmp_path / "run" / "student.safetensors")
    assert cli.main(["evaluate", student, "--env", PROBES["Box"], "--episodes", "2", "--quiet"]) == 0


@pytest.mark.parametrize("more", [{"episodes": 5}, {"seed": 1}, {"sampled": True}, {"statistics": "s.npz"}], ids=str)
def test_what_has_been_played_takes_no_settings_of_play(more: dict[str, Any], run: Path, tmp_path: Path) -> None:
    [name] = more
    with pytest.raises(KDError, match=f"--{name} is of a policy that plays"):
        record(RecordConfig(str(run), str(tmp_path / "d.npz"), quiet=True, **more))


def test_a_run_of_an_older_version_is_refused(run: Path, tmp_path: Path) -> None:
    import shutil

    old = Path(shutil.copytree(run, tmp_path / "old"))
    folder = RunFolder(old)
    arrays = folder.load_arrays("round-0")
    assert arrays is not None
    folder.save_arrays("round-0", {name: array for name, array in arrays.items() if name != "action"})
    with pytest.raises(KDError, match="do not tell what was done") as caught:
        record(RecordConfig(str(old), str(tmp_path / "d.npz"), quiet=True))
    assert str(old) in str(caught.value)


def test_settings_of_play_reach_it(agents: dict[str, Agent], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: dict[str, Any] = {}

    class Reached(Exception):
        pass

    def _told(teacher: Any, recipe: Any, **how: Any) -> None:
        told.update(how, recipe=recipe)
        raise Reached

    monkeypatch.setattr(recording, "record_episodes", _told)
    agent = agents["Discrete"]
    more: dict[str, Any] = {"episodes": 3, "seed": 8, "sampled": True, "max_episode_steps": 7, "step_timeout": 2.5}
    with pytest.raises(Reached):
        record(RecordConfig(str(agent.path), str(tmp_path / "d.npz"), env=agent.env_id, quiet=True, **more))
    assert told["seeds"] == range(8, 11)
    assert told["deterministic"] is False
    assert (told["recipe"].max_episode_steps, told["recipe"].step_timeout) == (7, 2.5)


def test_settings_of_reading_reach_it(
    agents: dict[str, Agent], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: dict[str, Any] = {}

    class Reached(Exception):
        pass

    def _told(source: str, *, env: Any, **how: Any) -> None:
        told.update(how)
        raise Reached

    monkeypatch.setattr(recording, "load_teacher", _told)
    source = str(agents["Discrete"].path)
    more = {"statistics": "s.npz", "allow_missing_statistics": True, "trust_teacher": True, "onnx_output": "o"}
    more |= {"teacher_activation": "tanh", "teacher_squash": "clip"}
    with pytest.raises(Reached):
        record(RecordConfig(source, str(tmp_path / "d.npz"), env=PROBE, quiet=True, **more))
    assert told == more


def test_the_command_and_the_script(agents: dict[str, Agent], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli.signal, "signal", lambda *arguments: None)
    monkeypatch.setattr(cli.warnings, "showwarning", cli.warnings.showwarning)
    agent = agents["Discrete"]
    given = {"env": agent.env_id, "episodes": 2, "out": tmp_path / "d.npz", "quiet": True}
    assert cli.run("record", [str(agent.path), *flags(given)]) == 0
    assert (tmp_path / "d.npz").is_file()
    assert 'run("record"' in (ROOT / "scripts" / "record_episodes.py").read_text()
