"""Contract of every teacher plug-in: it is never changed, always in eval mode, and refuses junk in one line."""

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import onnx_models
import pytest
import torch
import yaml
from recordings import arrays, saved
from samples import SPACES, make_graph
from saved_policies import BY_FILE
from saved_policies import CHOICE as PAIR
from small_agents import BOX, CHOICE, VECTOR, VECTORS, trained
from stable_baselines3.common.policies import BasePolicy
from zoo_folders import zoo

from kd_agent import KDError, export, load_teacher, plugins
from kd_agent.networks.base import Teacher
from kd_agent.policies import file as graph_file

NAMES = plugins.names("teachers")


@dataclass(frozen=True)
class Sample:
    """A source that one plug-in reads, of observations `[4]`, and the action space that it fits."""

    source: Any
    action_space: gym.Space[Any]

    def load(self) -> Teacher:
        return load_teacher(self.source, env=(VECTOR, self.action_space))

    def content(self) -> list[bytes]:
        """Every bit that the teacher consists of."""
        if isinstance(self.source, torch.nn.Module):
            return [tensor.numpy().tobytes() for tensor in self.source.state_dict().values()]
        path = Path(self.source)
        files = sorted(path.rglob("*.*")) if path.is_dir() else [path]
        return [file.read_bytes() for file in files]


def sb3_zip(folder: Path) -> Sample:
    """CrossQ normalises by batches while it trains."""
    return Sample(str(shutil.copy(trained("crossq")[2], folder / "agent.zip")), BOX)


def zoo_folder(folder: Path) -> Sample:
    run = zoo(folder / "run", {"normalize": False})
    shutil.copy(trained("ppo discrete")[2], run / "CartPole-v1.zip")
    return Sample(str(run), CHOICE)


def onnx(folder: Path) -> Sample:
    return Sample(str(onnx_models.save_linear(folder / "policy.onnx")), CHOICE)


def leapp(folder: Path) -> Sample:
    """A graph that ends with its model's digest: a byte less, and it is another one."""
    path = export(make_graph(), folder / "policy.yaml")[0]
    told = yaml.safe_load(path.read_text())
    parameters = told["models"]["policy"]["parameters"]
    parameters["sha256sum"] = parameters.pop("sha256sum")
    told["models"] = told.pop("models")
    path.write_text(yaml.safe_dump(told, sort_keys=False).rstrip())
    return Sample(str(path), SPACES["Discrete"])


def student(folder: Path) -> Sample:
    return Sample(str(graph_file.write(make_graph(), folder / "student.safetensors")), SPACES["Discrete"])


def function(folder: Path) -> Sample:
    """A module that is being trained: it drops units, and normalises by the batch."""
    layers = torch.nn.Linear(4, 8), torch.nn.BatchNorm1d(8), torch.nn.Dropout(0.5), torch.nn.Linear(8, 4)
    return Sample(torch.nn.Sequential(*layers).train(), CHOICE)


def sb3_model(folder: Path) -> Sample:
    """The policy of a model; CrossQ normalises by batches while it trains."""
    return Sample(trained("crossq")[0].policy, BOX)


def saved_by(file: str, actions: gym.Space[Any]) -> Callable[[Path], Sample]:
    """What another library saved, of observations `[4]`."""

    def sample(folder: Path) -> Sample:
        path = BY_FILE[file].path
        return Sample(str(shutil.copy(path, folder / path.name)), actions)

    return sample


def recording(folder: Path) -> Sample:
    """Recorded data, which cannot be asked: of this contract it keeps what is not of questions."""
    data = {**arrays(), "actions": arrays()["actions"] % CHOICE.n}
    return Sample(saved(folder / "data.npz", data), CHOICE)


SAMPLES: dict[str, Callable[[Path], Sample]] = {
    "cleanrl": saved_by("cleanrl/dqn.cleanrl_model", PAIR),
    "flax": saved_by("flax/choice.msgpack", PAIR),
    "imitation": saved_by("imitation/bc_saved.pt", PAIR),
    "rl_games": saved_by("rl_games/cartpole.pth", PAIR),
    "rsl_rl": saved_by("rsl_rl/model_mlp.pt", BOX),
    "skrl": saved_by("skrl/agent_discrete.pt", PAIR),
    "torchscript": saved_by("torchscript/choice.pt", PAIR),
    "function": function,
    "leapp": leapp,
    "onnx": onnx,
    "recording": recording,
    "sb3_model": sb3_model,
    "sb3_zip": sb3_zip,
    "student": student,
    "zoo_folder": zoo_folder,
}


@pytest.fixture(params=NAMES)
def name(request: pytest.FixtureRequest) -> str:
    """Each plug-in in turn."""
    return str(request.param)


@pytest.fixture
def sample(name: str, tmp_path: Path) -> Sample:
    """A source that the plug-in reads."""
    assert name in SAMPLES, f"kd_agent/teachers/{name}.py is new: SAMPLES needs a source that it reads"
    return SAMPLES[name](tmp_path)


@pytest.fixture
def asked(name: str, sample: Sample) -> Sample:
    """A source of a teacher that answers."""
    if name == "recording":
        pytest.skip("a recording cannot be asked: tests/teachers/test_recording.py")
    return sample


def test_a_source_has_one_reader(name: str, sample: Sample) -> None:
    readers = [other for other in NAMES if plugins.load("teachers", other).accepts(sample.source)]
    assert readers == [name]


@pytest.mark.parametrize("source", [None, 3, "", "README.md", "teacher.tar", b"agent.zip"])
def test_what_is_no_teacher_has_no_reader(name: str, source: Any) -> None:
    assert not plugins.load("teachers", name).accepts(source)


def test_a_batch_gets_rows_that_nothing_differentiates(asked: Sample) -> None:
    teacher = asked.load()
    params = teacher(VECTORS).params
    assert params.shape == (6, teacher.head.num_params)
    assert params.dtype == torch.float32
    assert params.isfinite().all()
    assert not params.requires_grad
    assert np.ptp(params.numpy(), axis=0).max() > 0
    assert {key: spec.shape for key, spec in teacher.observations.items()} == {"obs": (4,)}
    actions, _ = teacher.predict(VECTORS["obs"], deterministic=True)
    assert all(asked.action_space.contains(action) for action in actions)


def test_a_teacher_is_bit_identical_before_and_after_queries(asked: Sample) -> None:
    before = asked.content()
    teacher = asked.load()
    batch = {"obs": VECTORS["obs"].copy()}
    first = teacher(batch).params.clone()
    for size in (1, 3, 6):
        teacher({"obs": 9 * VECTORS["obs"][:size]})
    teacher.predict(VECTORS["obs"])
    assert torch.equal(teacher(batch).params, first)
    assert torch.equal(asked.load()(batch).params, first)
    np.testing.assert_array_equal(batch["obs"], VECTORS["obs"])
    assert asked.content() == before


def test_a_teacher_is_in_eval_mode(asked: Sample) -> None:
    """An answer depends neither on chance nor on who else is in the batch."""
    teacher = asked.load()
    torch.manual_seed(0)
    together = teacher(VECTORS).params
    torch.manual_seed(1)
    assert torch.equal(teacher(VECTORS).params, together)
    alone = torch.cat([teacher({"obs": VECTORS["obs"][i : i + 1]}).params for i in range(6)])
    torch.testing.assert_close(alone, together, atol=1e-5, rtol=1e-5)


def test_the_origin_names_the_teacher_and_is_the_same_each_time(sample: Sample) -> None:
    origin = sample.load().origin
    assert origin == sample.load().origin
    assert len(origin.sha256) == 64
    # Of whoever was recorded nobody knows the size.
    assert origin.algo == "recording" if origin.num_parameters is None else origin.num_parameters > 0
    assert origin.algo
    if isinstance(sample.source, str):
        assert origin.source.startswith(sample.source)


def test_actions_of_another_space_are_refused(sample: Sample) -> None:
    with pytest.raises(KDError) as caught:
        load_teacher(sample.source, env=(VECTOR, gym.spaces.Discrete(5)))(VECTORS)
    assert "\n" not in str(caught.value)


JUNK = (b"", b"\0" * 100, b"{}", b"PK\x03\x04 and no more", np.random.default_rng(0).bytes(1000))
ANSWERS = (None, "text", [], [1.5], np.zeros((6, 7)), [[None] * 4] * 6, [["a"] * 4] * 6, np.full((6, 4), np.nan))


def broken(source: Any) -> Iterator[Any]:
    """The source with junk in the place of what it was: its bytes, its agent's, or a function's answers."""
    if callable(source):
        for answer in ANSWERS:
            yield lambda observations, answer=answer: answer
        return
    path = Path(source)
    file = next(path.glob("*.zip")) if path.is_dir() else path
    raw = file.read_bytes()
    for junk in (*JUNK, raw[: len(raw) // 2], raw[:-1]):
        file.write_bytes(junk)
        yield source


def test_junk_is_refused_in_one_line(sample: Sample) -> None:
    for source in broken(sample.source):
        with pytest.raises(KDError) as caught:
            load_teacher(source, env=(VECTOR, sample.action_space))(VECTORS)
        message = str(caught.value)
        assert "\n" not in message
        assert getattr(source, "__qualname__", source) in message


def test_what_is_not_there_is_refused_in_one_line(sample: Sample) -> None:
    if isinstance(sample.source, BasePolicy):
        pytest.skip("it is here, and knows its spaces")
    if callable(sample.source):
        with pytest.raises(KDError, match="give the environment's spaces"):
            load_teacher(sample.source)
        return
    path = Path(sample.source)
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    with pytest.raises(KDError) as caught:
        sample.load()
    message = str(caught.value)
    assert message.startswith(sample.source)
    assert "\n" not in message
