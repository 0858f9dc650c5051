"""From a row of numbers to an action: modes, samples, probabilities and the description in files."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from samples import HEADS, SPACES

from kd_agent import KDError
from kd_agent.policies.head import KINDS, HeadSpec

SPECS = {kind: head.spec for kind, head in HEADS.items()}
SPACE_OF = {"categorical": "Discrete", "multi_categorical": "MultiDiscrete", "bernoulli": "MultiBinary"}


def rows(spec: HeadSpec, batch: int = 50, seed: int = 0) -> Any:
    return np.random.default_rng(seed).normal(size=(batch, spec.num_params)).astype(np.float32)


def test_each_kind_has_a_head_here() -> None:
    assert set(SPECS) == set(KINDS)


@pytest.mark.parametrize(
    ("kind", "params", "acting"),
    [
        ("categorical", 4, 4),
        ("multi_categorical", 7, 7),
        ("bernoulli", 3, 3),
        ("diag_gaussian", 4, 2),
        ("squashed_gaussian", 4, 2),
    ],
)
def test_the_row_has_a_length_and_its_first_columns_act(kind: str, params: int, acting: int) -> None:
    spec = SPECS[kind]
    assert (spec.num_params, spec.num_acting) == (params, acting)
    full = rows(spec)
    changed = np.concatenate([full[:, :acting], np.zeros((50, params - acting), np.float32)], axis=1)
    np.testing.assert_array_equal(spec.greedy(full), spec.greedy(changed))
    np.testing.assert_array_equal(spec.greedy(full), spec.greedy(full[:, :acting]))


@pytest.mark.parametrize("kind", KINDS)
def test_modes_and_samples_are_actions_of_the_space(kind: str) -> None:
    spec, space = SPECS[kind], SPACES[SPACE_OF.get(kind, "Box")]
    rng = np.random.default_rng(0)
    for actions in (spec.greedy(rows(spec)), spec.sample(rows(spec), rng)):
        assert actions.shape == (50, *spec.shape)
        assert actions.dtype == spec.dtype
        assert all(space.contains(action) for action in actions)


def test_the_mode_is_the_first_largest_counted_from_the_start() -> None:
    spec = HeadSpec("categorical", (), "int64", (3,), (-1,))
    assert spec.greedy(np.float32([[0, 2, 1], [5, 5, 0], [0, 0, 1]])).tolist() == [0, -1, 1]
    parts = HeadSpec("multi_categorical", (2,), "int32", (2, 3), (0, 10))
    assert parts.greedy(np.float32([[0, 1, 0, 0, 3], [1, 1, 7, 2, 2]])).tolist() == [[1, 12], [0, 10]]
    bits = HeadSpec("bernoulli", (3,), "int8", (2, 2, 2), (0, 0, 0))
    assert bits.greedy(np.float32([[-1, 0, 0.1]])).tolist() == [[0, 0, 1]]


def test_a_gaussian_is_clipped_or_squashed_into_its_box() -> None:
    spec = HeadSpec("diag_gaussian", (2,), "float32", low=(-1, -np.inf), high=(3, np.inf))
    assert spec.greedy(np.float32([[-5, -5, 0, 0], [9, 9, 0, 0]])).tolist() == [[-1, -5], [3, 9]]
    squashed = HeadSpec("squashed_gaussian", (2,), "float32", low=(-1, 0), high=(3, 10))
    found = squashed.greedy(np.float32([[0, 0, 0, 0], [50, -50, 0, 0], [0.5, 0, 0, 0]]))
    np.testing.assert_allclose(found, [[1, 5], [3, 0], [1 + 2 * np.tanh(0.5), 5]], rtol=1e-6)


@pytest.mark.parametrize("kind", ["categorical", "multi_categorical", "bernoulli"])
def test_samples_are_as_frequent_as_their_probabilities(kind: str) -> None:
    spec = SPECS[kind]
    row = rows(spec, 1)
    actions = spec.sample(np.repeat(row, 20_000, axis=0), np.random.default_rng(0)).reshape(20_000, -1)
    expected = spec.probabilities(row)[0]
    if kind == "bernoulli":
        found = actions.mean(axis=0)
    else:
        columns = [actions[:, part] == k for part, n in enumerate(spec.nvec) for k in range(n)]
        found = np.mean(columns, axis=1)
    np.testing.assert_allclose(found, expected, atol=0.015)


def test_a_gaussians_samples_have_its_mean_and_deviation() -> None:
    spec = HeadSpec("diag_gaussian", (2,), "float64", low=(-np.inf,) * 2, high=(np.inf,) * 2)
    row = np.array([[1.0, -2.0, np.log(0.5), np.log(3.0)]])
    actions = spec.sample(np.repeat(row, 40_000, axis=0), np.random.default_rng(0))
    np.testing.assert_allclose(actions.mean(axis=0), [1, -2], atol=0.05)
    np.testing.assert_allclose(actions.std(axis=0), [0.5, 3], rtol=0.02)


def test_probabilities_survive_logits_that_overflow() -> None:
    found = SPECS["categorical"].probabilities(np.float32([[1e30, 0, -1e30, 1e30]]))
    assert found.tolist() == [[0.5, 0, 0, 0.5]]
    with pytest.raises(KDError, match="a diag_gaussian head has a density"):
        SPECS["diag_gaussian"].probabilities(rows(SPECS["diag_gaussian"]))


@pytest.mark.parametrize("kind", KINDS)
def test_the_description_is_plain_and_comes_back(kind: str) -> None:
    assert HeadSpec.from_json(SPECS[kind].to_json()) == SPECS[kind]


def test_an_unbounded_side_is_null() -> None:
    spec = HeadSpec("diag_gaussian", (2,), "float32", low=(-np.inf, -1), high=(2, np.inf))
    plain = spec.to_json()
    assert (plain["low"], plain["high"]) == ([None, -1.0], [2.0, None])
    assert HeadSpec.from_json(plain) == spec


WRONG: dict[str, dict[str, Any]] = {
    "an unknown kind": {"kind": "categorial"},
    "too few parts": {"kind": "multi_categorical", "shape": (3,)},
    "no parts": {"nvec": (), "start": ()},
    "no actions": {"shape": (0,), "nvec": ()},
    "text": {"dtype": "U3"},
    "objects": {"dtype": "object"},
    "bounds on one side": {"kind": "diag_gaussian", "low": (0.0,)},
}


@pytest.mark.parametrize("what", WRONG)
def test_a_head_that_is_none_is_refused(what: str) -> None:
    with pytest.raises(KDError) as caught:
        replace(SPECS["categorical"], **WRONG[what])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "change", [{"shape": 3}, {"nvec": ["x"]}, {"low": [{}]}, {"dtype": "nonsense"}, {"shape": [1e400]}]
)
def test_a_damaged_description_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(KDError, match="the action head's description is damaged"):
        HeadSpec.from_json({**SPECS["categorical"].to_json(), **change})
    with pytest.raises(KDError, match="damaged"):
        HeadSpec.from_json({})
