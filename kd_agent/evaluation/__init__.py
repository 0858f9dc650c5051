"""Is the student as good as its teacher?"""

from kd_agent.evaluation.agreement import Agreement, EpisodesAgreement, agree, agreement_on, measure_agreement
from kd_agent.evaluation.comparison import Episodes, PairedComparison
from kd_agent.evaluation.held_out import held_out_states, measure_held_out
from kd_agent.evaluation.looks import VALIDATION, VERDICT
from kd_agent.evaluation.non_inferiority import compare
from kd_agent.evaluation.parts import Verdict
from kd_agent.evaluation.statistics import iqm, iqm_interval, scores
from kd_agent.evaluation.teacher_selection import select_teachers
from kd_agent.evaluation.unplayed import report_unplayed
from kd_agent.evaluation.verdict import (
    EVALUATION_SEED,
    evaluate_file,
    judge,
    result_of,
    verdict_episodes,
    verdict_figures,
    verdict_looks,
)

__all__ = [
    "EVALUATION_SEED",
    "VALIDATION",
    "VERDICT",
    "Agreement",
    "Episodes",
    "EpisodesAgreement",
    "PairedComparison",
    "Verdict",
    "agree",
    "agreement_on",
    "compare",
    "evaluate_file",
    "held_out_states",
    "iqm",
    "iqm_interval",
    "judge",
    "measure_agreement",
    "measure_held_out",
    "report_unplayed",
    "result_of",
    "scores",
    "select_teachers",
    "verdict_episodes",
    "verdict_figures",
    "verdict_looks",
]
