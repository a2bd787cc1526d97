"""Neurons: how fine-tuning shifted them, which speak for which emoji, and which cause emojis."""

from interp.neurons.ablation import Ablation, ablated, mean_activations
from interp.neurons.activations import Prompts
from interp.neurons.curve import DoseCurve
from interp.neurons.dose import Doses, dose
from interp.neurons.rank import TopTest, rank
from interp.neurons.ranking import NeuronRanking
from interp.neurons.shift import NeuronShift, shift
from interp.neurons.specificity import Specificity, specificity, specificity_of

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
