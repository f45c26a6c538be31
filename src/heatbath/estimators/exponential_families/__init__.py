"""Distributions on finitely many states as exponential families: observation matrices, coordinates, inference, fluxes.

With strictly positive probabilities p_i, the Boltzmann vector B_i = -ln p_i and an invertible observation matrix A whose first
column is all ones, p_i = exp(-sum_k lambda_k A_ik) for exactly one vector of coordinates lambda = A^-1 B; lambda_0 = ln Z.

``observation`` (the contract, any matrix), ``spins`` (Walsh-Hadamard), ``product_bases`` (q-state variables), ``polynomials``
(Vandermonde), ``master_equation`` (probability fluxes) hold the matrices; ``ensemble`` entropy, covariances and identities;
``inference`` and ``pseudo_likelihood`` go from samples to coordinates with errors; ``detailed_balance`` tests trajectories and
kernels.
"""

from heatbath.estimators.exponential_families.detailed_balance import (
    CycleTest,
    SymmetryTest,
    cycle_test,
    pair_symmetry_test,
    pooled_affinities,
    stationarity_test,
)
from heatbath.estimators.exponential_families.driven_spins import driven_spins, squares
from heatbath.estimators.exponential_families.ensemble import GeneralizedEnsemble
from heatbath.estimators.exponential_families.inference import (
    Inference,
    MinimumKL,
    infer,
    minimum_kl,
    score_test,
    select,
)
from heatbath.estimators.exponential_families.master_equation import FluxMatrix, MasterEquation
from heatbath.estimators.exponential_families.observation import DenseMatrix, ObservationMatrix
from heatbath.estimators.exponential_families.polynomials import Vandermonde
from heatbath.estimators.exponential_families.product_bases import ProductBasis
from heatbath.estimators.exponential_families.pseudo_likelihood import pseudo_likelihood
from heatbath.estimators.exponential_families.spins import Hadamard, walsh_hadamard

__all__ = [
    "CycleTest",
    "DenseMatrix",
    "FluxMatrix",
    "GeneralizedEnsemble",
    "Hadamard",
    "Inference",
    "MasterEquation",
    "MinimumKL",
    "ObservationMatrix",
    "ProductBasis",
    "SymmetryTest",
    "Vandermonde",
    "cycle_test",
    "driven_spins",
    "infer",
    "minimum_kl",
    "pair_symmetry_test",
    "pooled_affinities",
    "pseudo_likelihood",
    "score_test",
    "select",
    "squares",
    "stationarity_test",
    "walsh_hadamard",
]
