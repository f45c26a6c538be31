"""Objectives of training, one per file."""

from heatbath.training.objectives.base import Objective, WeightedSum
from heatbath.training.objectives.importance_weighted import ImportanceWeighted
from heatbath.training.objectives.likelihood import MaximumLikelihood
from heatbath.training.objectives.reverse_kl import ReverseKL
from heatbath.training.objectives.self_improvement import SelfImprovement

__all__ = ["ImportanceWeighted", "MaximumLikelihood", "Objective", "ReverseKL", "SelfImprovement", "WeightedSum"]
