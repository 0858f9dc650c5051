"""Wrappers of one's own run because they were typed, whichever folder they lie in, and for no other reason."""

import sys
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from kd_agent import KDError
from kd_agent.environments import Recipe
from kd_agent.environments.own_wrappers import NO_WRAPPERS, TypedWrappers
from kd_agent.environments.vector import make_env, spaces_of, start

ENV = "CartPole-v1"
CODE = '''
import gymnasium as gym
import numpy as np
from pathlib import Path

Path("imported").write_text("")

class Twice(gym.ObservationWrapper):
    """Shows every number twice, or as often as is said."""

    def __init__(self, env, times=2):
        super().__init__(env)
        self.times = times
        self.observation_space = gym.spaces.Box(-np.inf, np.inf, (4 * times,), np.float32)

    def observation(self, observation):
        return np.concatenate([observation] * self.times)

def nothing(env):
    return None

def raises(env):
    raise KeyError("on\\npurpose")

number = 3
'''


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A module of wrappers in the working folder, which Python does not look into."""
    name = f"own_{tmp_path.name.replace('-', '_')}"
    (tmp_path / f"{name}.py").write_text(CODE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path not in ("", ".")])
    return name


def test_a_typed_wrapper_is_put_around_the_environment(module: str) -> None:
    recipe = TypedWrappers((f"{module}:Twice",)).around(Recipe(ENV))
    assert spaces_of(recipe)[0].shape == (8,)
    recipe = TypedWrappers((f"{module}:Twice,times=3",)).around(Recipe(ENV))
    observed = start(make_env(recipe, 2), iter([1, 2]))["obs"]
    assert observed.shape == (2, 12)
    np.testing.assert_array_equal(observed[:, :4], observed[:, 8:])


def test_several_are_put_around_the_innermost_first(module: str) -> None:
    flat = "gymnasium.wrappers:FlattenObservation"
    stack = "gymnasium.wrappers:FrameStackObservation,stack_size=3"
    recipe = TypedWrappers((f"{module}:Twice", stack, flat)).around(Recipe(ENV))
    assert [name for name, _ in recipe.wrappers] == [
        f"{module}:Twice",
        "gymnasium.wrappers.FrameStackObservation",
        "gymnasium.wrappers.FlattenObservation",
    ]
    assert spaces_of(recipe)[0].shape == (24,)


def test_frames_of_the_vector_environment_are_typed_likewise() -> None:
    word = "stable_baselines3.common.vec_env:VecFrameStack,n_stack=3"
    assert TypedWrappers((word,)).around(Recipe(ENV)).frame_stack == 3
    for wrong in ("", ",n_stack=0", ",n_stack=x", ",n_stack=3,more=1"):
        with pytest.raises(KDError, match="expected VecFrameStack,n_stack=N"):
            TypedWrappers((f"stable_baselines3.common.vec_env:VecFrameStack{wrong}",)).around(Recipe(ENV))


def test_what_a_file_names_is_imported_only_once_it_is_typed(module: str) -> None:
    kept = TypedWrappers((f"{module}:Twice,times=3",)).around(Recipe(ENV)).to_json()
    assert "allowed" not in kept
    read = Recipe.from_json(kept)
    for typed in (NO_WRAPPERS, TypedWrappers(("gymnasium.wrappers:FlattenObservation",))):
        with pytest.raises(KDError, match=f"known here; .*typed: --wrapper {module}:Twice"):
            spaces_of(typed.around(read))
    assert not Path("imported").exists()
    assert module not in sys.modules
    allowed = TypedWrappers((f"{module}:Twice",)).around(read)
    # Allowed, and not put around it a second time.
    assert allowed.wrappers == ((f"{module}:Twice", {"times": 3}),)
    assert spaces_of(allowed)[0].shape == (12,)
    assert Path("imported").exists()


def test_a_file_can_allow_itself_nothing(module: str) -> None:
    plain = {**TypedWrappers((f"{module}:Twice",)).around(Recipe(ENV)).to_json(), "allowed": [f"{module}:Twice"]}
    with pytest.raises(KDError, match="typed: --wrapper"):
        spaces_of(Recipe.from_json(plain))
    assert not Path("imported").exists()


def test_arguments_of_a_file_name_no_code_and_differ_from_no_typed_ones(module: str) -> None:
    read = Recipe(ENV, wrappers=((f"{module}:Twice", {"times": "os:system"}),))
    with pytest.raises(KDError, match="'os:system' names code"):
        TypedWrappers((f"{module}:Twice",)).around(read)
    with pytest.raises(KDError, match=r"is there already, with \{'times': 'os:system'\}"):
        TypedWrappers((f"{module}:Twice,times=2",)).around(read)


@pytest.mark.parametrize(
    "word", ["", "Twice", ":Twice", "m:", "m.Twice", "m:T:U", "m:T,x", "m:T(1)", "m:T x", "../m:T"]
)
def test_a_word_that_is_no_wrapper_says_what_one_is(word: str) -> None:
    with pytest.raises(KDError, match=r"expected module:Class, or module:Class,NAME=VALUE"):
        TypedWrappers((word,)).around(Recipe(ENV))


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("nowhere_at_all:X", "module cannot be imported .*nowhere_at_all"),
        ("{m}:Missing", "there is no such class in {m}"),
        ("{m}:number", "there is no such class in {m}"),
        ("{m}:Twice,wrong=1", "does not fit into {m}:Twice: TypeError.*wrong"),
        ("{m}:raises", "does not fit into {m}:raises: KeyError"),
        ("{m}:nothing", "makes no environment of CartPole-v1, but NoneType"),
        ("{m}:Twice,times=[1", "plain YAML"),
    ],
)
def test_a_wrapper_that_cannot_be_had_is_one_line(module: str, word: str, message: str) -> None:
    with pytest.raises(KDError, match=message.format(m=module)) as caught:
        spaces_of(TypedWrappers((word.format(m=module),)).around(Recipe(ENV)))
    assert "\n" not in str(caught.value)


class Halved(gym.ObservationWrapper[Any, Any, Any]):
    """Half of every number."""

    def observation(self, observation: Any) -> Any:
        return observation / 2


def test_a_teachers_own_wrappers_are_beside_what_the_student_sees() -> None:
    recipe = TypedWrappers((), (f"{__name__}:Halved",)).around(Recipe(ENV))
    env = make_env(recipe, 2)
    observed = start(env, iter([1, 2]))
    assert list(observed) == ["obs", "teacher:obs"]
    for _ in range(30):
        np.testing.assert_array_equal(observed["teacher:obs"], observed["obs"] / 2)
        observed = env.step(np.array([0, 1]))[0]
    assert recipe.to_json() == Recipe(ENV).to_json()
    # Who types nothing more takes nothing away.
    assert NO_WRAPPERS.around(recipe) == recipe
    assert NO_WRAPPERS.around(recipe).allowed == recipe.allowed
