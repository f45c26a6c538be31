"""Objectives of training, one per file."""

from heatbath.training.objectives.base import Objective, WeightedSum
from heatbath.training.objectives.likelihood import MaximumLikelihood

__all__ = ["MaximumLikelihood", "Objective", "WeightedSum"]
