"""TorchScript followed as text: what becomes of it acts as torch does, and what cannot be followed is named."""

import warnings
import zipfile
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from saved_policies import BY_FILE
from torch import nn
from torch.nn import functional

from kd_agent import KDError, load_teacher
from kd_agent.teachers._script_operators import OPERATORS

VECTOR = gym.spaces.Box(-np.inf, np.inf, (3,), np.float32)
FORCES = gym.spaces.Box(-np.inf, np.inf, (2,), np.float32)
OBSERVATIONS = np.random.default_rng(0).normal(0, 2, (50, 3)).astype(np.float32)

LAYERS: dict[str, nn.Module] = {
    "relu": nn.ReLU(),
    "relu in place": nn.ReLU(inplace=True),
    "tanh": nn.Tanh(),
    "sigmoid": nn.Sigmoid(),
    "elu": nn.ELU(),
    "elu in place": nn.ELU(inplace=True),
    "selu": nn.SELU(),
    "silu": nn.SiLU(),
    "gelu": nn.GELU(),
    "mish": nn.Mish(),
    "softplus": nn.Softplus(),
    "relu6": nn.ReLU6(),
    "leaky relu": nn.LeakyReLU(0.3),
    "hardtanh": nn.Hardtanh(-0.5, 0.7),
    "identity": nn.Identity(),
    "dropout": nn.Dropout(0.5),
    "flatten": nn.Flatten(),
    "no bias": nn.Linear(4, 4, bias=False),
}


class Arithmetic(nn.Module):
    """What people write in a `forward`."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 4)
        self.last = nn.Linear(4, 2)
        self.register_buffer("mean", torch.tensor([[0.1, 0.2, 0.3]]))
        self.register_buffer("std", torch.tensor([1.0, 2.0, 0.5]))
        self.scale = 1.5

    def forward(self, x):
        x = torch.clamp((x - self.mean) / (self.std + 1e-3), min=-2.0)
        x = functional.leaky_relu(self.layer(x), 0.2)
        return self.scale * torch.tanh(self.last(1.0 - x)) + 0.25


class Chosen(nn.Module):
    def __init__(self, branch: bool) -> None:
        super().__init__()
        self.branch, self.layer = branch, nn.Linear(3, 2)

    def forward(self, x):
        return torch.relu(self.layer(x)) if self.branch else torch.tanh(self.layer(x))


class Overwritten(nn.Module):
    """Reads what a function wrote into."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 2)

    def forward(self, x):
        y = self.layer(x)
        functional.relu(y, inplace=True)
        return y * 2.0


class Product(nn.Module):
    """A layer by hand."""

    def __init__(self) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.randn(2, 3)), nn.Parameter(torch.randn(2))

    def forward(self, x):
        return torch.addmm(self.bias, x, self.weight.t())


def saved(module: nn.Module, path: Path, *, trace: bool) -> Path:
    module.eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        script = torch.jit.trace(module, torch.zeros(1, 3)) if trace else torch.jit.script(module)
        script.save(str(path))
    return path


def followed(path: Path) -> np.ndarray:
    teacher = load_teacher(str(path), env=(VECTOR, FORCES))
    return teacher.head.spec.greedy(teacher({"obs": OBSERVATIONS}).params.numpy())


def own(module: nn.Module) -> np.ndarray:
    with torch.no_grad():
        return np.asarray(module(torch.from_numpy(OBSERVATIONS.copy())).numpy())


@pytest.mark.parametrize("trace", [False, True], ids=["script", "trace"])
@pytest.mark.parametrize("name", LAYERS)
def test_layers_act_as_torchs(name: str, trace: bool, tmp_path: Path) -> None:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(3, 4), LAYERS[name], nn.Linear(4, 2))
    np.testing.assert_allclose(followed(saved(module, tmp_path / "a.pt", trace=trace)), own(module), atol=1e-5)


@pytest.mark.parametrize("trace", [False, True], ids=["script", "trace"])
@pytest.mark.parametrize("build", [Arithmetic, lambda: Chosen(True), lambda: Chosen(False), Overwritten, Product])
def test_code_acts_as_torch_runs_it(build: Any, trace: bool, tmp_path: Path) -> None:
    torch.manual_seed(0)
    module = build()
    np.testing.assert_allclose(followed(saved(module, tmp_path / "a.pt", trace=trace)), own(module), atol=1e-5)


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.GRU(3, 2)

    def forward(self, x):
        return self.rnn(x)[0]


class Looping(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 3)

    def forward(self, x):
        for _ in range(3):
            x = self.layer(x)
        return x


class Deciding(nn.Module):
    def forward(self, x):
        if bool(x.sum() > 0):
            return x
        return -x


class Several(nn.Module):
    def forward(self, x, y):
        return x + y


class Constant(nn.Module):
    def forward(self, x):
        return torch.tanh(torch.ones(1, 2))


class Pairs(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 2)

    def forward(self, x):
        return self.layer(x), self.layer(x)


@pytest.mark.parametrize(
    ("module", "says"),
    [
        (Recurrent(), "no operation"),
        (Looping(), "its code has a line 'for"),
        (Deciding(), "no operation"),
        (Several(), "takes 2 inputs"),
        (Constant(), "no operation"),
        (Pairs(), "several things"),
        (nn.Sequential(nn.Linear(3, 2), nn.ELU(alpha=0.5)), r"torch\.elu"),
        (nn.Sequential(nn.Linear(3, 2), nn.Softmax(-1)), r"torch\.softmax"),
        (nn.Sequential(nn.Linear(3, 2), nn.GELU(approximate="tanh")), r"torch\.gelu"),
        (nn.Sequential(nn.Linear(5, 2)), r"\(5,\).*\(3,\)"),
        (nn.Sequential(nn.Linear(3, 5), nn.Tanh()), "answers with 5 numbers, the environment takes 2"),
        (nn.Tanh(), "no linear layer"),
    ],
)
def test_what_cannot_be_followed_is_refused_in_one_line(module: nn.Module, says: str, tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    torch.jit.script(module.eval()).save(str(path))
    with pytest.raises(KDError, match=says) as caught:
        load_teacher(str(path), env=(VECTOR, FORCES))
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


def test_a_policy_that_is_still_being_trained_is_refused(tmp_path: Path) -> None:
    module = nn.Sequential(nn.Linear(3, 4), nn.Dropout(0.5), nn.Linear(4, 2)).train()
    torch.jit.script(module).save(str(tmp_path / "a.pt"))
    with pytest.raises(KDError, match=r"torch\.dropout"):
        load_teacher(str(tmp_path / "a.pt"), env=(VECTOR, FORCES))


def test_a_choice_is_of_actions_that_can_be_listed() -> None:
    saved_choice = BY_FILE["torchscript/choice.pt"]
    with pytest.raises(KDError, match="it chooses among actions"):
        load_teacher(str(saved_choice.path), env=(saved_choice.env[0], FORCES))


def test_observations_of_other_types_are_read_as_floats(tmp_path: Path) -> None:
    module = nn.Sequential(nn.Linear(3, 2))
    path = saved(module, tmp_path / "a.pt", trace=False)
    double = gym.spaces.Box(-1, 1, (3,), np.float64)
    teacher = load_teacher(str(path), env=(double, FORCES))
    params = teacher({"obs": OBSERVATIONS.astype(np.float64)}).params
    np.testing.assert_allclose(params[:, :2].numpy(), own(module), atol=1e-5)


def with_code(path: Path, new: Path, code: str) -> Path:
    """The file with other code for its root module."""
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(new, "w") as out:
        for info in old.infolist():
            raw = old.read(info)
            out.writestr(info.filename, code if b"class Sequential(" in raw else raw)
    return new


HEAD = "class Sequential(Module):\n  def forward(self, x):\n"
HOSTILE = {
    "no python": "class Sequential(",
    "imports": HEAD + "    import os\n    return x\n",
    "calls": HEAD + "    _0 = os.system('touch mark')\n    return x\n",
    "builtins": HEAD + "    _0 = __import__('os').system('touch mark')\n    return x\n",
    "evaluates": HEAD + "    _0 = eval('1')\n    return x\n",
    "attributes": HEAD + "    _0 = x.__class__.__mro__\n    return x\n",
    "parts of parts": HEAD + "    _0 = self.__class__\n    return _0\n",
    "comprehends": HEAD + "    return [y for y in x]\n",
    "recursion": HEAD + "    return self.forward(x)\n",
    "nested": HEAD + "    return " + "(" * 5000 + "x" + ")" * 5000 + "\n",
    "minus": HEAD + "    return " + "-" * 100_000 + "x\n",
    "dots": HEAD + "    return x" + ".a" * 100_000 + "\n",
    "long": HEAD + "".join(f"    x{i} = torch.relu(x)\n" for i in range(30_000)) + "    return x\n",
    "large": HEAD + "    return x\n" + "#" * (2 << 20),
    "another name": HEAD + "    return y\n",
    "no forward": "class Sequential(Module):\n  pass\n",
    "wrong arguments": HEAD + "    return torch.linear()\n",
    "constants": HEAD + "    return CONSTANTS.c7\n",
    "words": HEAD + "    return torch.add(x, 'a')\n",
    "doubles": (
        HEAD + "    _0 = getattr(getattr(self, '0'), 'weight')\n" + "    _0 = torch.add(_0, _0)\n" * 500
        + "    return torch.add(x, _0)\n"
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", HOSTILE)
def test_hostile_code_is_refused_and_not_run(what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = saved(nn.Sequential(nn.Linear(3, 2)), tmp_path / "a.pt", trace=False)
    forged = with_code(path, tmp_path / "forged.pt", HOSTILE[what])
    with pytest.raises(KDError) as caught:
        load_teacher(str(forged), env=(VECTOR, FORCES))
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith(f"{forged}: ")
    assert not (tmp_path / "mark").exists()


def test_code_makes_no_more_numbers_than_the_file_has(tmp_path: Path) -> None:
    path = saved(nn.Sequential(nn.Linear(3, 3000)), tmp_path / "a.pt", trace=False)
    lines = "    x = torch.add(x, _0)\n" * 40
    code = HEAD + "    _0 = getattr(getattr(self, '0'), 'weight')\n" + lines + "    return x\n"
    with pytest.raises(KDError, match="more numbers than the file has"):
        load_teacher(str(with_code(path, tmp_path / "forged.pt", code)), env=(VECTOR, VECTOR))


def test_every_function_of_the_table_is_known_to_torch() -> None:
    own_words = {"__is__", "__isnot__", "__not__", "t", "to", "contiguous"}
    for name in set(OPERATORS) - own_words:
        assert hasattr(torch, name) or hasattr(functional, name), name
