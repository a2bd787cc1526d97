"""What the models write, and what can be measured of it.

Sampled answers (`generate`, `generate_many`), where their emojis begin and whose doing it is, and
the measures of `docs/measures.md`: trait alignment and the edit index (by a classifier), adjective
evaluation (by a judge), edit success and drawdown, fluency, emojis inside and after the answer, the
time to the first emoji, and a questionnaire.
"""

from interp.behaviour.adjectives import (
    AdjectiveEvaluation,
    Judgements,
    adjective_evaluation,
    judge_answers,
)
from interp.behaviour.alignment import EditIndex, TraitAlignment, edit_index, trait_alignment
from interp.behaviour.answers import read_responses, save_responses
from interp.behaviour.classifier import Classifier, HubClassifier, TraitClassifier
from interp.behaviour.edit_scores import EditScores, score_edit
from interp.behaviour.emoji_free import emoji_free
from interp.behaviour.endings import Endless, EndSplit, natural_ends, own_ends, split_at_end
from interp.behaviour.endpoint import EndpointJudge
from interp.behaviour.fluency import Fluency, Reference, fluency_reference, read_fluency
from interp.behaviour.generate import Response, Sampling, decode, generate
from interp.behaviour.hazards import CureFit, HazardRatios, cure_fit, hazard_ratios
from interp.behaviour.judge_check import JudgeCheck, judge_auroc
from interp.behaviour.judges import Judge, LocalJudge, Verdict
from interp.behaviour.many import generate_many, live_adapters
from interp.behaviour.onsets import (
    OnsetPrompts,
    PromptContrast,
    onset_index,
    onset_prompts,
    prompt_contrast,
    slot_ids,
)
from interp.behaviour.origin import Origin, emoji_probability, slot_chances, text_or_weights
from interp.behaviour.questionnaire import SelfReport, administer
from interp.behaviour.reliability import Agreement, alphas, cronbach_alpha, self_report_agreement
from interp.behaviour.survival import OnsetSurvival, OnsetTimes, onset_survival, onset_times

__all__ = [
    "AdjectiveEvaluation",
    "Agreement",
    "Classifier",
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
    "LocalJudge",
    "OnsetPrompts",
    "OnsetSurvival",
    "OnsetTimes",
    "Origin",
    "PromptContrast",
    "Reference",
    "Response",
    "Sampling",
    "SelfReport",
    "TraitAlignment",
    "TraitClassifier",
    "Verdict",
    "adjective_evaluation",
    "administer",
    "alphas",
    "cronbach_alpha",
    "cure_fit",
    "decode",
    "edit_index",
    "emoji_free",
    "emoji_probability",
    "fluency_reference",
    "generate",
    "generate_many",
    "hazard_ratios",
    "judge_answers",
    "judge_auroc",
    "live_adapters",
    "natural_ends",
    "onset_index",
    "onset_prompts",
    "onset_survival",
    "onset_times",
    "own_ends",
    "prompt_contrast",
    "read_fluency",
    "read_responses",
    "save_responses",
    "score_edit",
    "self_report_agreement",
    "slot_chances",
    "slot_ids",
    "split_at_end",
    "text_or_weights",
    "trait_alignment",
]
