"""The NADE family: autoregressive densities with exact likelihoods, exact draws and conditionals.

``fixed_order`` (NADE, RNADE), ``orderless`` (DeepNADE, ConvNADE, ensembles over orders, conditionals), and the baselines
``masked_autoencoder`` (MADE) and ``bernoulli_mixture``. ``autoregressive`` holds what they share, ``heads`` the laws of one
coordinate.
Source: arXiv 1605.02226.
"""

from heatbath.models.nade.autoregressive import Autoregressive, observed_first, random_orders
from heatbath.models.nade.bernoulli_mixture import BernoulliMixture, fit_bernoulli_mixture
from heatbath.models.nade.convolution import Convolution
from heatbath.models.nade.fixed_order import NADE, nade, rnade
from heatbath.models.nade.heads import Coin, MixtureHead
from heatbath.models.nade.masked_autoencoder import MADE, made
from heatbath.models.nade.orderless import (
    Conditional,
    EoNADE,
    OrderlessNADE,
    convolutional_nade,
    deep_nade,
    ensemble_of_orders,
)

__all__ = [
    "MADE",
    "NADE",
    "Autoregressive",
    "BernoulliMixture",
    "Coin",
    "Conditional",
    "Convolution",
    "EoNADE",
    "MixtureHead",
    "OrderlessNADE",
    "convolutional_nade",
    "deep_nade",
    "ensemble_of_orders",
    "fit_bernoulli_mixture",
    "made",
    "nade",
    "observed_first",
    "random_orders",
    "rnade",
]
