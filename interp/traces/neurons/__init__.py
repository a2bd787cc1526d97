"""Neurons: how fine-tuning shifted them, which speak for which emoji, and which cause emojis."""

from interp.traces.neurons.ablation import Ablation, ablated, mean_activations
from interp.traces.neurons.activations import Prompts
from interp.traces.neurons.dose import Doses, dose
from interp.traces.neurons.dose_result import DoseCurve
from interp.traces.neurons.rank import TopTest, rank
from interp.traces.neurons.rank_result import NeuronRanking
from interp.traces.neurons.shift import NeuronShift, shift
from interp.traces.neurons.specificity import Specificity, specificity, specificity_of

__all__ = [
    "Ablation",
    "DoseCurve",
    "Doses",
    "NeuronRanking",
    "NeuronShift",
    "Prompts",
    "Specificity",
    "TopTest",
    "ablated",
    "dose",
    "mean_activations",
    "rank",
    "shift",
    "specificity",
    "specificity_of",
]
