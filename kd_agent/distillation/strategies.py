"""How a student may come about, chosen by the settings."""

from kd_agent.distillation.final_fits import FinalFits
from kd_agent.distillation.label_budget import LabelBudget
from kd_agent.distillation.online import Online
from kd_agent.distillation.size_search import SizeSearch
from kd_agent.settings import DistillConfig


def strategy_of(config: DistillConfig) -> FinalFits:
    """How the student is to come about.

    Raises:
        KDError: The settings do not go with it.
    """
    if config.label_budget:
        strategy: FinalFits = LabelBudget()
    elif config.realtime:
        strategy = Online()
    elif config.search_size:
        strategy = SizeSearch()
    else:
        strategy = FinalFits()
    strategy.check(config)
    return strategy
