"""A velocity net of gated linear experts: the field of a mixture of normals in as many dimensions as one likes.

The axes along which an expert stretches may be fixed beforehand at the principal axes of clusters of the data
(``training.cluster_moments``): an estimate that no gradient descent of affordable length reaches in 1000 dimensions.
"""

import dataclasses
import math
from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key, Scalar

from heatbath.errors import InvalidArgumentError
from heatbath.models.interpolants import Diffusion, Interpolant
from heatbath.models.nets.residual import Dense, ResidualNetwork
from heatbath.models.nets.velocity import Velocity, time_features


class Axes(eqx.Module):
    """Where experts are and along which axes they stretch.

    ``vectors`` (d, rank) are sqrt(d) times the axes that all experts share (an optimiser's step of equal size per number then
    means the same in every dimension); ``marks`` (expert, rank) log variances along them; ``centres`` (expert, d).
    """

    vectors: Float[Array, "d rank"]
    marks: Float[Array, "expert rank"]
    centres: Float[Array, "expert d"]


class FixedAxes(Axes):
    """Axes that training leaves as they are."""

    frozen: ClassVar[bool] = True


class GatedLinearVelocity(Velocity):
    """v(x, t) = sum_e p_e [ U a_e(t) U^T (x - m_e) + n_e + b_e(t) ] + c(t) * x, with gates p = softmax(l),

        l_e = -1/2 sum_j (g_ej(t) [U^T (x - m_e)]_j^2 + log of the variance at t) + network_e(x, t).

    Experts that are linear in x, with symmetric matrices of common axes U whose eigenvalues follow time, about a centre m_e that
    follows time; the gate compares quadratic forms along the same axes. Axis j of an expert has a log variance s_ej, and

        a_ej(t) = rate of a normal with that variance + d(t).c(s_ej),    g_ej(t) = its inverse variance at t + h(t).c(s_ej),

    m_e and n_e the place and the prediction of the expert's centre. The net begins as the exact field of a mixture of normals of
    equal weights with these axes, variances and centres; any two normals have common axes once their pooled covariance is the
    identity, more than two have not. What is learned on top (d, h, c(s), b_e, c and the gate's network) is small networks of t, s
    and x that begin at zero.
    """

    interpolant: Interpolant
    axes: Axes
    units: ResidualNetwork
    rates: ResidualNetwork
    curvatures: ResidualNetwork
    shifts: ResidualNetwork
    gate: ResidualNetwork
    skip: Dense
    experts: int = eqx.field(static=True)
    features: int = eqx.field(static=True)

    @staticmethod
    def create(
        key: Key[Array, ""],
        dimension: int,
        *,
        experts: int = 2,
        rank: int | None = None,
        gate_width: int = 64,
        products: int = 16,
        features: int = 32,
        interpolant: Interpolant | None = None,
        dtype=jnp.float32,
    ) -> "GatedLinearVelocity":
        """``experts`` matrices of ``rank`` (the dimension unless given) with random axes, which are trained.

        ``products`` is the length of d(t), h(t) and c(s); ``interpolant`` that of the flow, whose meaning of a prediction the
        start shares (v-prediction unless given).
        """
        rank = dimension if rank is None else rank
        keys = iter(jax.random.split(key, 8))
        vectors = jax.random.normal(next(keys), (dimension, rank), dtype)
        marks = 0.3 * jax.random.normal(next(keys), (experts, rank), dtype)

        def network(inputs, outputs, gain=0.0):
            return ResidualNetwork.create(
                next(keys), inputs, outputs, width=gate_width, depth=1, gain=gain, dtype=dtype
            )

        return GatedLinearVelocity(
            interpolant=interpolant or Diffusion(),
            axes=Axes(vectors, marks, jnp.zeros((experts, dimension), dtype)),
            units=network(1, products, 1.0),
            rates=network(features, products),
            curvatures=network(features, products),
            shifts=network(features, experts * dimension),
            gate=network(dimension + features, experts),
            skip=Dense.create(next(keys), features, dimension, gain=0.0, dtype=dtype),
            experts=experts,
            features=features,
        )

    def __call__(self, x: Float[Array, "*shape"], t: Scalar) -> Float[Array, "*shape"]:
        vectors, root = self.axes.vectors, math.sqrt(math.prod(x.shape))
        flat = x.reshape(-1).astype(vectors.dtype)
        t = jnp.asarray(t, flat.dtype)
        phi = time_features(t, self.features)
        # what depends on t alone is computed once for a batch
        variances, rates, curvatures = self._along_axes(t, phi)
        signal, _ = self.interpolant.place(t)
        slope, _ = self.interpolant.target(t)
        away = flat @ vectors / root - signal * self._centres_along_axes()
        logits = self.gate(jnp.concatenate([flat, phi])) - 0.5 * jnp.sum(
            curvatures * away**2 + jnp.log(variances), axis=1
        )
        gate = jax.nn.softmax(logits)
        shift = gate @ (self.shifts(phi).reshape(self.experts, -1) + slope * self.axes.centres)
        hidden = jnp.sum(rates * gate[:, None] * away, axis=0)
        return (vectors @ hidden / root + shift + self.skip(phi) * flat).reshape(x.shape)

    def _along_axes(self, t: Scalar, phi: Float[Array, " features"]) -> tuple[Array, Array, Array]:
        """Variance at t of a normal start, eigenvalue and curvature along every axis, each (expert, rank)."""
        variances, rates = self.interpolant.of_normal(jnp.exp(self.axes.marks), t)
        units = self.units(self.axes.marks[..., None])
        return variances, rates + units @ self.rates(phi), 1 / variances + units @ self.curvatures(phi)

    def _centres_along_axes(self) -> Float[Array, "expert rank"]:
        """U^T c_e."""
        return self.axes.centres @ self.axes.vectors / math.sqrt(self.axes.vectors.shape[0])

    def along(
        self,
        axes: Float[np.ndarray, "d d"],
        variances: Float[np.ndarray, "expert d"],
        centres: Float[np.ndarray, "expert d"],
    ) -> "GatedLinearVelocity":
        """The same net with fixed axes: unit vectors in the columns of ``axes``, variances along them, and centres.

        For clusters of the data (``training.cluster_moments``). Raises ``InvalidArgumentError`` for other numbers of them.
        """
        axes, variances, centres = np.asarray(axes), np.asarray(variances), np.asarray(centres)
        wanted = tuple(part.shape for part in (self.axes.vectors, self.axes.marks, self.axes.centres))
        if (axes.shape, variances.shape, centres.shape) != wanted:
            raise InvalidArgumentError(
                f"expected axes, variances and centres of shapes {wanted}; "
                f"found {(axes.shape, variances.shape, centres.shape)}"
            )
        dtype = self.axes.vectors.dtype
        values = math.sqrt(len(axes)) * axes, np.log(np.maximum(variances, 1e-6)), centres
        fixed = FixedAxes(*(jnp.asarray(part, dtype) for part in values))
        return dataclasses.replace(self, axes=fixed)
