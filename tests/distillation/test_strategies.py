"""Which way a student comes about, by the settings, and that each refuses what does not go with it."""

from typing import Any

import pytest
from samples import PROBES

from kd_agent import KDError
from kd_agent.distillation.final_fits import FinalFits
from kd_agent.distillation.label_budget import LabelBudget
from kd_agent.distillation.online import Online
from kd_agent.distillation.recorded import Recorded
from kd_agent.distillation.size_search import SizeSearch
from kd_agent.distillation.strategies import strategy_of
from kd_agent.settings import DistillConfig, resolve


def chosen(**settings: Any) -> FinalFits:
    return strategy_of(resolve(DistillConfig, {"env": PROBES["Discrete"], **settings}))


@pytest.mark.parametrize(
    ("settings", "strategy"),
    [
        ({}, FinalFits),
        ({"grow": True}, FinalFits),
        ({"realtime": True}, Online),
        ({"search_size": True}, SizeSearch),
        ({"teacher": "data.npz"}, Recorded),
        ({"teacher": "minari:kd/data-v0"}, Recorded),
        ({"teacher": ["a.npz", "b.npz"]}, FinalFits),
        ({"label_budget": 100}, LabelBudget),
    ],
    ids=str,
)
def test_the_settings_choose_the_strategy(settings: dict[str, Any], strategy: type[FinalFits]) -> None:
    assert type(chosen(**settings)) is strategy


def test_each_distillation_has_a_strategy_of_its_own() -> None:
    """That of a training remembers whom it follows."""
    assert chosen(realtime=True) is not chosen(realtime=True)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"search_size": True, "student": "tree"}, "its size is --leaves"),
        ({"realtime": True, "search_size": True}, "--realtime and --search-size do not go together"),
        ({"realtime": True, "student": "gru"}, "take --student mlp or cnn"),
        ({"realtime": True, "sampled": True}, "leave --sampled out"),
        ({"realtime": True, "label_budget": 100}, "--label-budget and --realtime do not go together"),
    ],
    ids=str,
)
def test_settings_that_do_not_go_with_the_strategy_are_refused(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(KDError, match=said):
        chosen(**settings)
