"""Training: one loop for every model, and the objectives it minimises."""

from heatbath.training.early_stopping import EarlyStopping, HeldOutLoss
from heatbath.training.fit import Fitted, fit
from heatbath.training.optimiser import AdamW
from heatbath.training.schedules import Constant, Cosine, OneCycle
from heatbath.training.sources import Fresh, Shuffled, Weighted
from heatbath.training.trainable import parameter_count, trainable
from heatbath.training.trainer import Trainer
from heatbath.training.validation import WeightsAndLikelihood

__all__ = [
    "AdamW",
    "Constant",
    "Cosine",
    "EarlyStopping",
    "Fitted",
    "Fresh",
    "HeldOutLoss",
    "OneCycle",
    "Shuffled",
    "Trainer",
    "Weighted",
    "WeightsAndLikelihood",
    "fit",
    "parameter_count",
    "trainable",
]
