"""Is the student as good as its teacher?"""

from kd_agent.evaluation.agreement import Agreement, EpisodesAgreement, agree, agreement_on, measure_agreement
from kd_agent.evaluation.comparison import Episodes, PairedComparison, doublings
from kd_agent.evaluation.statistics import compare, iqm, iqm_interval
from kd_agent.evaluation.teacher_selection import select_teachers
from kd_agent.evaluation.verdict import EVALUATION_SEED, evaluate_file, judge, scores, verdict_episodes

__all__ = [
    "EVALUATION_SEED",
    "Agreement",
    "Episodes",
    "EpisodesAgreement",
    "PairedComparison",
    "agree",
    "agreement_on",
    "compare",
    "doublings",
    "evaluate_file",
    "iqm",
    "iqm_interval",
    "judge",
    "measure_agreement",
    "scores",
    "select_teachers",
    "verdict_episodes",
]
