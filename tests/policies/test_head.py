"""From a row of numbers to an action: modes, samples, probabilities and the description in files."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from masked_agents import is_allowed, random_masks
from samples import HEADS, SPACES

from kd_agent import KDError
from kd_agent.policies.head import KINDS, MASKED, HeadSpec

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


MASK_PARTS = {"categorical": [4], "multi_categorical": [3, 4], "bernoulli": [2, 2, 2]}


@pytest.mark.parametrize("kind", MASK_PARTS)
def test_a_mask_leaves_what_it_allows_as_it_is_and_forbids_the_rest(kind: str) -> None:
    spec = SPECS[kind]
    assert spec.num_masks == sum(MASK_PARTS[kind])
    row = rows(spec)
    masks = random_masks(MASK_PARTS[kind], len(row), np.random.default_rng(1))
    masked = spec.masked(row, masks)
    assert (masked.dtype, masked.shape) == (row.dtype, row.shape)
    is_open = spec.open_columns(masks)
    np.testing.assert_array_equal(masked[is_open], row[is_open])
    assert (np.abs(masked[~is_open]) == -MASKED).all()
    drawn = spec.sample(masked, np.random.default_rng(2))
    for actions in (spec.greedy(masked), drawn):
        zero_based = actions.reshape(len(row), -1) - np.asarray(spec.start or 0)
        assert all(is_allowed(a, m, MASK_PARTS[kind]) for a, m in zip(zero_based, masks, strict=True))


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("kind", MASK_PARTS)
def test_what_is_forbidden_has_no_probability_and_the_rest_share_it(kind: str) -> None:
    spec = SPECS[kind]
    row = rows(spec)
    masks = random_masks(MASK_PARTS[kind], len(row), np.random.default_rng(1))
    probabilities = spec.probabilities(spec.masked(row, masks))
    if kind == "bernoulli":
        may_be_0, may_be_1 = masks[:, 0::2], masks[:, 1::2]
        assert (probabilities[~may_be_1] == 0).all()
        assert (probabilities[~may_be_0] == 1).all()
        return
    assert (probabilities[~masks] == 0).all()
    for part, flags, bare in zip(*map(spec.split, (probabilities, masks, spec.probabilities(row))), strict=True):
        expected = np.where(flags, bare, 0)
        np.testing.assert_allclose(part, expected / expected.sum(axis=1, keepdims=True), rtol=1e-5)


@pytest.mark.parametrize("kind", MASK_PARTS)
def test_a_mask_that_allows_all_changes_nothing_and_one_that_allows_none_makes_all_alike(kind: str) -> None:
    spec = SPECS[kind]
    row = rows(spec)
    np.testing.assert_array_equal(spec.masked(row, np.ones((len(row), spec.num_masks))), row)
    nothing = spec.masked(row, np.zeros((len(row), spec.num_masks), bool))
    probabilities = spec.probabilities(nothing)
    for part in [probabilities] if kind == "bernoulli" else spec.split(probabilities):
        assert np.ptp(part) == 0
    first = np.asarray(spec.start or 0)
    assert (spec.greedy(nothing).reshape(len(row), -1) == first).all()


def test_flags_may_be_of_any_type_and_shape_that_holds_as_many() -> None:
    spec = SPECS["categorical"]
    for mask in ([1, 0, 0, 1], np.float32([[2], [0], [0], [1]]), (True, False, False, True)):
        assert spec.allowed(mask, 1).tolist() == [[True, False, False, True]]
    for mask in ([1, 0, 0], [[1, 0, 0, 1]] * 2, "abcd", [[1], [0, 1]], None):
        with pytest.raises(KDError, match=r"expected \(1, 4\) flags"):
            spec.allowed(mask, 1)
    with pytest.raises(KDError, match="a diag_gaussian head has none"):
        SPECS["diag_gaussian"].masked(rows(SPECS["diag_gaussian"]), [1])


def test_a_description_says_that_masks_are_expected_only_where_they_are() -> None:
    masked = replace(SPECS["categorical"], expects_masks=True)
    assert "expects_masks" not in SPECS["categorical"].to_json()
    assert HeadSpec.from_json(masked.to_json()) == masked
    with pytest.raises(KDError, match="cannot have masks"):
        replace(SPECS["diag_gaussian"], expects_masks=True)
