"""Is the student as good as its teacher?"""

from kd_agent.evaluation.agreement import agree, along
from kd_agent.evaluation.comparison import Arena, Contest, doublings
from kd_agent.evaluation.statistics import compare, iqm, iqm_interval
from kd_agent.evaluation.teacher_selection import weighed
from kd_agent.evaluation.verdict import EVALUATION_SEED, evaluate_file, judge, scores

__all__ = [
    "EVALUATION_SEED",
    "Arena",
    "Contest",
    "agree",
    "along",
    "compare",
    "doublings",
    "evaluate_file",
    "iqm",
    "iqm_interval",
    "judge",
    "scores",
    "weighed",
]
