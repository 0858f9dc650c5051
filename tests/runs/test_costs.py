"""The ledger: every step under its purpose, every second under one stage."""

from contextlib import suppress
from typing import Any

import numpy as np
import pytest

from kd_agent.runs import Costs, costs


class Clock:
    """Stands in for the module `time`; the test says how late it is, and how much of that the CPU worked."""

    def __init__(self) -> None:
        self.now = 100.0
        self.worked = 7.0

    def monotonic(self) -> float:
        return self.now

    def process_time(self) -> float:
        return self.worked


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    found = Clock()
    monkeypatch.setattr(costs, "time", found)
    return found


def test_steps_add_up_by_purpose_and_what_was_not_spent_is_0() -> None:
    ledger = Costs()
    ledger.add("collect_steps", 5)
    ledger.add("collect_steps", 7)
    ledger.add("verdict_steps", 3)
    assert ledger.of("collect_steps") == 12
    assert ledger.of("follow_steps") == 0
    assert ledger.to_json() == {
        "collect_steps": 12,
        "gradient_steps": 0,
        "validation_steps": 0,
        "selection_steps": 0,
        "verdict_steps": 3,
        "agreement_steps": 0,
        "env_steps": 12,
        "all_env_steps": 15,
    }


def test_all_steps_of_environments_are_summed_and_those_of_gradients_are_not() -> None:
    ledger = Costs()
    for power, purpose in enumerate((*costs.ENV_STEPS, "gradient_steps")):
        ledger.add(purpose, 2**power)
    assert len(costs.ENV_STEPS) == 5
    assert ledger.to_json()["all_env_steps"] == 2**5 - 1
    assert ledger.to_json()["env_steps"] == ledger.of("collect_steps") == 2


def test_steps_of_a_ppo_that_goes_on_are_named_and_summed_where_there_was_one() -> None:
    ledger = Costs()
    assert costs.PPO_STEPS not in ledger.to_json()
    ledger.add("collect_steps", 1)
    ledger.add(costs.PPO_STEPS, 10)
    ledger.add(costs.PPO_SELECTION_STEPS, 100)
    entries = ledger.to_json()
    assert (entries["env_steps"], entries["all_env_steps"]) == (1, 111)
    assert (entries["ppo_steps"], entries["ppo_selection_steps"]) == (10, 100)


def test_cpu_seconds_are_told_beside_those_of_the_clock_and_by_the_same_stages(clock: Clock) -> None:
    ledger = Costs()
    with ledger.timed("distill_s"):
        clock.now += 10
        clock.worked += 1.5
        with ledger.timed("evaluate_s"):
            clock.now += 20
            clock.worked += 40.25
        clock.worked += 0.001
        found = ledger.to_json()
    clock.worked += 1000
    assert {name: found[name] for name in found if name.endswith("_s")} == {
        "distill_s": 10, "distill_cpu_s": 1.5, "evaluate_s": 20, "evaluate_cpu_s": 40.25,
    }  # fmt: skip
    assert ledger.cpu_seconds == pytest.approx({"distill_s": 1.501, "evaluate_s": 40.25})


def test_the_seconds_of_a_stage_within_another_are_its_alone(clock: Clock) -> None:
    ledger = Costs()
    clock.now += 1000
    with ledger.timed("distill_s"):
        clock.now += 1
        with ledger.timed("evaluate_s"):
            clock.now += 10
            with ledger.timed("control_s"):
                clock.now += 100
            clock.now += 20
        clock.now += 2
    clock.now += 1000
    assert ledger.seconds == {"distill_s": 3, "evaluate_s": 30, "control_s": 100}


def test_a_stage_that_comes_again_goes_on_where_it_ended(clock: Clock) -> None:
    ledger = Costs()
    for seconds in (1, 2):
        with ledger.timed("fit_s"):
            clock.now += seconds
    assert ledger.seconds == {"fit_s": 3}


def test_a_stage_within_one_of_its_own_name_counts_once(clock: Clock) -> None:
    ledger = Costs()
    with ledger.timed("fit_s"):
        clock.now += 1
        with ledger.timed("fit_s"):
            clock.now += 2
    assert ledger.seconds == {"fit_s": 3}


def test_a_stage_that_fails_ends_and_the_outer_one_goes_on(clock: Clock) -> None:
    ledger = Costs()
    with ledger.timed("distill_s"):
        with suppress(ZeroDivisionError), ledger.timed("evaluate_s"):
            clock.now += 5
            raise ZeroDivisionError
        clock.now += 1
    clock.now += 1000
    assert ledger.to_json()["distill_s"] == 1
    assert ledger.to_json()["evaluate_s"] == 5


def test_an_open_stage_is_told_up_to_now_and_goes_on(clock: Clock) -> None:
    ledger = Costs()
    with ledger.timed("distill_s"):
        clock.now += 1.23456
        assert ledger.to_json()["distill_s"] == 1.23
        clock.now += 1
        assert ledger.to_json()["distill_s"] == 2.23
        assert ledger.to_json()["distill_s"] == 2.23
    assert ledger.seconds["distill_s"] == pytest.approx(2.23456)


def test_counts_go_through_a_checkpoint_and_leave_the_other_arrays_there() -> None:
    ledger = Costs()
    ledger.add("collect_steps", 2**40)
    ledger.add("validation_steps", 3)
    arrays: dict[str, Any] = {**ledger.arrays(), "0.weight": np.ones(3)}
    assert all(isinstance(array, np.ndarray) for array in arrays.values())
    again = Costs()
    again.restore(arrays)
    assert list(arrays) == ["0.weight"]
    assert again.counts == ledger.counts
    assert all(type(count) is int for count in again.counts.values())


def test_what_was_booked_since_the_checkpoint_is_forgotten() -> None:
    """It is done again, and booked then; so is what the checkpoint had no name for yet."""
    ledger = Costs()
    ledger.add("collect_steps", 5)
    arrays = ledger.arrays()
    ledger.add("collect_steps", 7)
    ledger.add("verdict_steps", 9)
    ledger.restore(arrays)
    assert (ledger.of("collect_steps"), ledger.of("verdict_steps")) == (5, 0)


def test_seconds_are_those_of_this_process(clock: Clock) -> None:
    ledger = Costs()
    with ledger.timed("distill_s"):
        clock.now += 1
        ledger.restore(ledger.arrays())
        clock.now += 1
    assert ledger.to_json()["distill_s"] == 2
