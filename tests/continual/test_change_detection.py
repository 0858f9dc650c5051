"""The monitor: silent as long as nothing changes, and soon there when something does."""

from collections.abc import Callable

import numpy as np
import pytest

from kd_agent.continual.change_detection import ALLOWANCE, LIMIT, RETURNS, Cusum, Monitor

Draw = Callable[[np.random.Generator, int], np.ndarray]


def landings(rng: np.random.Generator, count: int) -> np.ndarray:
    """Returns of which one in ten is a crash."""
    return np.where(rng.random(count) < 0.1, rng.normal(-100, 50, count), rng.normal(260, 20, count))


def shares(rng: np.random.Generator, count: int) -> np.ndarray:
    """Shares of 50 states, with many ties."""
    return rng.binomial(50, 0.95, count) / 50


def first_alarm(draw: Draw, seed: int, shift: float = 0.0, length: int = 200) -> int:
    """How many values it takes to an alarm; more than `length` where there is none."""
    rng = np.random.default_rng(seed)
    cusum = Cusum(draw(rng, 50))
    values = draw(rng, length) - shift
    return next((number for number, value in enumerate(values, 1) if cusum.add(value)), length + 1)


@pytest.mark.parametrize("draw", [landings, shares, lambda rng, n: rng.normal(size=n)])
def test_nothing_changes_and_an_alarm_within_200_values_is_rare(draw: Draw) -> None:
    alarms = np.mean([first_alarm(draw, seed) <= 200 for seed in range(200)])
    assert alarms <= 0.085  # 3.5 % was simulated; this is 3.8 standard errors above


@pytest.mark.parametrize(("draw", "shift", "within"), [(landings, 60, 15), (shares, 0.15, 12)])
def test_a_fall_is_noticed_soon(draw: Draw, shift: float, within: int) -> None:
    found = [first_alarm(draw, seed, shift) for seed in range(40)]
    assert np.median(found) <= within
    assert max(found) <= 200


def test_a_fall_below_the_whole_reference_takes_five_values() -> None:
    assert {first_alarm(landings, seed, 10_000.0) for seed in range(20)} == {5}


def test_one_crash_gives_no_alarm_and_a_rise_never_does() -> None:
    cusum = Cusum(np.random.default_rng(0).normal(260, 20, 50))
    assert not cusum.add(-1e9)
    assert 0 < cusum.sum < LIMIT / 3
    assert not any(cusum.add(1e9) for _ in range(100))
    assert cusum.sum == 0


def test_equal_values_are_neither_better_nor_worse() -> None:
    cusum = Cusum([500.0] * 50)
    assert cusum.score(500.0) == pytest.approx(0.0)
    assert cusum.score(499.0) < -2 < 2 < cusum.score(501.0)


def make_monitor() -> Monitor:
    rng = np.random.default_rng(0)
    return Monitor(Cusum(shares(rng, 50)), Cusum(landings(rng, 50)))


def until_alarm(monitor: Monitor, agreement: float, score: float) -> list[str]:
    return next(alarms for _ in range(50) if (alarms := monitor.notice(agreement, score)))


def test_it_says_which_figure_gave_the_alarm() -> None:
    assert until_alarm(make_monitor(), 0.5, 260) == ["agreement"]
    assert until_alarm(make_monitor(), 0.96, -300) == ["return"]
    assert until_alarm(make_monitor(), 0.5, -300) == ["agreement", "return"]
    calm = make_monitor()
    assert not any(calm.notice(0.96, 265) for _ in range(50))
    assert calm.calm


def test_recovered_means_as_before_up_to_the_allowance() -> None:
    monitor = make_monitor()
    assert monitor.recovered([0.96] * 5)
    assert not monitor.recovered([0.5] * 5)
    assert ALLOWANCE == 0.5


def test_after_an_adaptation_returns_are_held_against_those_of_the_new_world() -> None:
    monitor = make_monitor()
    until_alarm(monitor, 0.5, -300)
    assert not monitor.calm
    monitor.begin_anew()
    assert monitor.calm
    rng = np.random.default_rng(1)
    assert not any(monitor.notice(0.96, float(score)) for score in rng.normal(100, 10, RETURNS + 30))
    assert until_alarm(monitor, 0.96, 50) == ["return"]
