"""The stages of the experiment state-dependent-diffusion: the models, and particles of every convention."""

from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from heatbath.estimators.stationarity import boltzmann_cdf
from heatbath.kernels import PositionDependentLangevin
from heatbath.kinetics.diffusion_integrators import simulate
from heatbath.kinetics.hydrodynamics import perpendicular_mobility_fit
from heatbath.kinetics.position_dependent import DiffusionModel, check_diffusivity
from heatbath.kinetics.solvable_diffusions import LegendreDiffusion, SolvableDiffusion, StudentDiffusion, WallGravity
from heatbath.process import Chunk, Process
from heatbath.state import LogDensity

#: Particles that are moved between two looks at the clock.
BLOCK = 5000


class Model(NamedTuple):
    """A model of the experiment: u and D on configurations of shape (1,), the range in which the laws are compared, how a point
    that left the domain is brought back, the exact model where there is one, and a name.
    """

    u: Callable
    diffusivity: Callable
    low: float
    high: float
    fold: Callable | None
    exact: SolvableDiffusion | None
    label: str

    def energies(self, x: np.ndarray) -> np.ndarray:
        """u on an array of positions."""
        return np.asarray(_on_array(self.u, jnp.asarray(x)))

    def coefficients(self, x: np.ndarray) -> np.ndarray:
        """D on an array of positions."""
        return np.asarray(_on_array(self.diffusivity, jnp.asarray(x)))

    def cdf(self, alpha: float | None = None) -> Callable:
        """The Boltzmann distribution function, or that of the process of convention ``alpha`` without its drift."""
        if alpha is None:
            if self.exact is not None:
                return self.exact.cdf
            return boltzmann_cdf(self.energies, self.low, self.high)
        return boltzmann_cdf(
            lambda x: self.energies(x) + (1 - alpha) * np.log(self.coefficients(x)), self.low, self.high
        )


@eqx.filter_jit
def _on_array(function, x):
    return jax.vmap(lambda y: function(y[None]))(x.reshape(-1)).reshape(x.shape)


def model_of(config: Any) -> Model:
    """The model that ``config`` names. Raises ``InvalidArgumentError`` when D is not positive in its range."""
    if config.name == "wavy":
        contrast = config.contrast
        made = Model(
            lambda x: 0.5 * jnp.sum(x**2),
            lambda x: 1 + contrast * jnp.sin(2 * x[0]),
            -8.0,
            8.0,
            None,
            None,
            "harmonic well",
        )
    elif config.name == "wall":
        weight, strength, width = config.weight, config.repulsion, config.range

        def u(x):
            return weight * (x[0] - 1) + strength * jnp.exp(-(x[0] - 1) / width)

        top = 1 + 30 / weight + 5 * width
        made = Model(
            u, lambda x: perpendicular_mobility_fit(x[0]), 1 + 1e-9, top, _above_contact, None, "sphere at a wall"
        )
    else:
        exact = {"student": StudentDiffusion(8.0), "legendre": LegendreDiffusion(), "gravity": WallGravity()}[
            config.name
        ]
        low, high = {"student": (-60.0, 60.0), "legendre": (-1.0, 1.0), "gravity": (0.0, 40.0)}[config.name]
        fold = {"student": None, "legendre": _inside_interval, "gravity": jnp.abs}[config.name]
        labels = {"student": "Student", "legendre": "Legendre", "gravity": "gravity above a wall"}
        made = Model(exact.u, exact.diffusivity, low, high, fold, exact, labels[config.name])
    inside = np.linspace(made.low, made.high, 203)[1:-1]
    check_diffusivity(made.diffusivity, jnp.asarray(inside)[:, None])
    return made


def _above_contact(x):
    return 1 + jnp.abs(x - 1)


def _inside_interval(x):
    return jnp.where(jnp.abs(x) > 1, jnp.sign(x) * 2 - x, x)


class Density(LogDensity):
    """exp(-u), and nothing outside the domain."""

    u: Callable
    low: float
    high: float

    def __call__(self, x):
        inside = (x[0] > self.low) & (x[0] < self.high)
        return jnp.where(inside, self.u(jnp.where(inside, x, 0.5 * (self.low + self.high))), jnp.inf)

    @property
    def beta(self):
        return 1.0


class Variant(NamedTuple):
    """One way of moving: ``integrator`` of ``kinetics.diffusion_integrators``, or "adjusted" for Metropolis-adjusted moves."""

    integrator: str
    alpha: float
    consistent: bool
    time_step: float


class DiffusionCarry(NamedTuple):
    """Where all particles start, where every variant brought them, its acceptance, the key, and the number of blocks done."""

    start: Any
    positions: Any
    acceptance: Any
    key: Any
    step: Any


class Particles(Process):
    """``count`` particles from equilibrium under every one of ``variants``, recorded ``every`` steps."""

    model: Model = eqx.field(static=True)
    variants: tuple[Variant, ...] = eqx.field(static=True)
    count: int = eqx.field(static=True)
    steps: int = eqx.field(static=True)
    every: int = eqx.field(static=True)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Of the recorded positions: variant, particle, time."""
        return len(self.variants), self.count, self.steps // self.every

    @property
    def total_steps(self) -> int:
        """Of all particles and variants."""
        return len(self.variants) * self.count * self.steps

    @property
    def _blocks(self) -> int:
        return -(-self.count // BLOCK)

    def begin(self, key: Any) -> DiffusionCarry:
        start = equilibrium(self.model, jax.random.fold_in(key, 0), self.count)
        return DiffusionCarry(
            start, np.zeros(self.shape), np.ones(self.shape[0]), jax.random.fold_in(key, 1), np.int32(0)
        )

    def advance(self, carry: DiffusionCarry) -> tuple[DiffusionCarry, Chunk]:
        step = int(carry.step)
        variant, block = divmod(step, self._blocks)
        rows = slice(block * BLOCK, min((block + 1) * BLOCK, self.count))
        positions, acceptance = np.array(carry.positions), np.array(carry.acceptance)
        start, key = np.asarray(carry.start)[rows], jax.random.fold_in(carry.key, step)
        moved, accepted = self._move(self.variants[variant], key, start[:, None])
        positions[variant, rows] = moved
        share = start.size / self.count
        acceptance[variant] += share * (accepted - 1)
        new = DiffusionCarry(carry.start, positions, acceptance, carry.key, np.int32(step + 1))
        return new, Chunk("particles", {}, {"evaluations": float(start.size * self.steps), "acceptance": accepted})

    def _move(self, variant: Variant, key: Any, start: np.ndarray) -> tuple[np.ndarray, float]:
        """(particle, time) positions and the mean acceptance."""
        model = self.model
        if variant.integrator == "adjusted":
            kernel = PositionDependentLangevin(step_size=jnp.asarray(variant.time_step), diffusivity=model.diffusivity)
            u = Density(model.u, model.low, model.high)
            positions, acceptance = _adjusted(kernel, u, key, jnp.asarray(start), self.steps, self.every)
            return np.asarray(positions)[:, :, 0], float(acceptance)
        diffusion = DiffusionModel(model.u, model.diffusivity, variant.alpha, consistent=variant.consistent)
        options = {"integrator": variant.integrator, "every": self.every, "fold": model.fold}
        moved = simulate(key, diffusion, jnp.asarray(start), variant.time_step, self.steps, **options)
        return np.asarray(moved)[:, :, 0], 1.0

    def finished(self, carry: DiffusionCarry) -> bool:
        return int(carry.step) >= self._blocks * len(self.variants)

    def progress(self, carry: DiffusionCarry) -> float:
        return int(carry.step) / (self._blocks * len(self.variants))


@eqx.filter_jit
def _adjusted(kernel, u, key, start, steps, every):
    def chain(key, x):
        def block(state, k):
            def one(state, k):
                state, info = kernel.step(k, state, u)
                return state, info.acceptance

            state, acceptance = jax.lax.scan(one, state, jax.random.split(k, every))
            return state, (state.position, acceptance.mean())

        return jax.lax.scan(block, kernel.init(key, x, u), jax.random.split(key, steps // every))[1]

    positions, acceptance = jax.vmap(chain)(jax.random.split(key, start.shape[0]), start)
    return positions, acceptance.mean()


def equilibrium(model: Model, key: Any, count: int) -> np.ndarray:
    """Exact draws from exp(-u), by inverting the distribution function on a fine grid."""
    uniform = np.asarray(jax.random.uniform(key, (count,)))
    grid = np.linspace(model.low, model.high, 400_001)
    return np.interp(uniform, np.asarray(model.cdf()(grid)), grid)


def runs(config: Any, model: Model) -> dict[str, Particles]:
    """The four stages by name."""
    dynamics = config.dynamics
    dt, steps = dynamics.time_step, max(1, round(dynamics.time / dynamics.time_step))
    coarse = dynamics.coarse * dt
    few = max(10, round(dynamics.time / coarse))
    recorded = max(3, round(dynamics.path_time / (dt * dynamics.record))) * dynamics.record

    def every(consistent):
        return tuple(Variant("point", alpha, consistent, dt) for alpha in dynamics.alphas)

    rough = (
        Variant("adjusted", 0.0, consistent=True, time_step=coarse),
        Variant("euler", 0.0, consistent=True, time_step=coarse),
    )
    traced = (
        Variant("euler", 0.0, consistent=True, time_step=dt),
        Variant("euler", 0.0, consistent=False, time_step=dt),
    )
    return {
        "with-drift": Particles(model, every(consistent=True), dynamics.particles, steps, steps),
        "without-drift": Particles(model, every(consistent=False), dynamics.particles, steps, steps),
        "adjusted": Particles(model, rough, dynamics.particles, few, few),
        "paths": Particles(model, traced, dynamics.paths, recorded, dynamics.record),
    }
