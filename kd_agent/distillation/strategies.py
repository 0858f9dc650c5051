"""How a student may come about, chosen by the settings."""

from kd_agent.distillation.final_fits import FinalFits
from kd_agent.distillation.label_budget import LabelBudget
from kd_agent.distillation.online import Online
from kd_agent.distillation.recorded import Recorded
from kd_agent.distillation.size_search import SizeSearch
from kd_agent.networks import Teacher
from kd_agent.settings import DistillConfig, names_recording
from kd_agent.teachers import RecordedTeacher


def strategy_of(config: DistillConfig, teacher: Teacher | None = None) -> FinalFits:
    """How the student is to come about.

    Args:
        config: The settings.
        teacher: One that was loaded before; None: the one that the settings name, or none yet.

    Raises:
        KDError: The settings do not go with it.
    """
    if config.label_budget:
        strategy: FinalFits = LabelBudget()
    elif config.realtime:
        strategy = Online()
    elif config.search_size:
        strategy = SizeSearch()
    elif isinstance(teacher, RecordedTeacher) or (teacher is None and names_recording(config.teacher)):
        strategy = Recorded()
    else:
        strategy = FinalFits()
    strategy.check(config)
    return strategy
