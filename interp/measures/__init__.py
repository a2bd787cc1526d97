"""What is measured of answers, see `docs/measures.md`.

Trait alignment and the edit index (by a classifier), adjective evaluation (by a judge or a jury),
edit success and drawdown, fluency, emojis inside and after the answer, the time to the first emoji,
and a questionnaire.
"""

from interp.measures.adjectives import (
    AdjectiveEvaluation,
    Judgements,
    adjective_evaluation,
    judge_answers,
)
from interp.measures.alignment import EditIndex, TraitAlignment, edit_index, trait_alignment
from interp.measures.classifier import Classifier, HubClassifier, TraitClassifier
from interp.measures.edit_scores import EditScores, score_edit
from interp.measures.endings import Endless, EndSplit, natural_ends, own_ends, split_at_end
from interp.measures.endpoint_judge import EndpointJudge
from interp.measures.fluency import Fluency, Reference, fluency_reference, read_fluency
from interp.measures.hazards import CureFit, HazardRatios, cure_fit, hazard_ratios
from interp.measures.judge_check import JudgeCheck, judge_auroc
from interp.measures.judges import Judge, LocalJudge, Verdict
from interp.measures.jury import ClassifierJudge, Jury, hear, krippendorff_alpha
from interp.measures.power_weibull import PowerFit, power_fit
from interp.measures.questionnaire import (
    Questionnaire,
    SelfReport,
    administer,
    read_questionnaire,
)
from interp.measures.reliability import Agreement, alphas, cronbach_alpha, self_report_agreement
from interp.measures.survival import OnsetSurvival, OnsetTimes, onset_survival, onset_times

__all__ = [
    "AdjectiveEvaluation",
    "Agreement",
    "Classifier",
    "ClassifierJudge",
    "CureFit",
    "EditIndex",
    "EditScores",
    "EndSplit",
    "Endless",
    "EndpointJudge",
    "Fluency",
    "HazardRatios",
    "HubClassifier",
    "Judge",
    "JudgeCheck",
    "Judgements",
    "Jury",
    "LocalJudge",
    "OnsetSurvival",
    "OnsetTimes",
    "PowerFit",
    "Questionnaire",
    "Reference",
    "SelfReport",
    "TraitAlignment",
    "TraitClassifier",
    "Verdict",
    "adjective_evaluation",
    "administer",
    "alphas",
    "cronbach_alpha",
    "cure_fit",
    "edit_index",
    "fluency_reference",
    "hazard_ratios",
    "hear",
    "judge_answers",
    "judge_auroc",
    "krippendorff_alpha",
    "natural_ends",
    "onset_survival",
    "onset_times",
    "own_ends",
    "power_fit",
    "read_fluency",
    "read_questionnaire",
    "score_edit",
    "self_report_agreement",
    "split_at_end",
    "trait_alignment",
]
