"""Divergences: values against their definitions, bounds against their duals, another solver and known limits."""

import numpy as np
import pytest

from heatbath.errors import InvalidArgumentError
from heatbath.estimators.divergence_bounds import bracket, divergence_bound
from heatbath.estimators.divergence_shapes import BoundedSlopeShape, power_shape
from heatbath.estimators.divergences import (
    DIVERGENCES,
    BoundedSlopeDivergence,
    PowerDivergence,
    SmoothDivergence,
    divergence,
)

NAMES = [*DIVERGENCES, "alpha"]
DEFINITIONS = {
    "kl": lambda c, p: np.sum(c * np.log(c / p)),
    "reverse-kl": lambda c, p: np.sum(p * np.log(p / c)),
    "chi2": lambda c, p: np.sum((c - p) ** 2 / p),
    "neyman": lambda c, p: np.sum((c - p) ** 2 / c),
    "hellinger": lambda c, p: np.sum((np.sqrt(c) - np.sqrt(p)) ** 2),
    "alpha": lambda c, p: (np.sum(c**1.7 * p**-0.7) - 1) / (1.7 * 0.7),
    "jensen-shannon": lambda c, p: 0.5 * np.sum(c * np.log(2 * c / (c + p)) + p * np.log(2 * p / (c + p))),
    "le-cam": lambda c, p: np.sum((c - p) ** 2 / (c + p)),
    "total-variation": lambda c, p: 0.5 * np.sum(np.abs(c - p)),
    "sup-norm": lambda c, p: np.max(np.abs(c / p - 1)),
}


def named(name):
    return divergence(name, alpha=1.7 if name == "alpha" else None)


@pytest.fixture(scope="module")
def streams():
    """A rate with a threshold over 200 speeds of a Maxwellian: p from 1e-6 to 1e-2, a quarter of the streams unseen."""
    speed = np.linspace(5.0, 800.0, 200)
    p = speed**2 * np.exp(-((speed / 230.0) ** 2))
    rate = np.where(speed > 200, (1 - (200 / speed) ** 2) / speed * 300, 0.0)
    return rate, p / p.sum()


@pytest.mark.parametrize("name", NAMES)
def test_values_are_those_of_the_definitions(name):
    """A wrong factor would shift every radius. Near equality (series) and far from it."""
    random = np.random.default_rng(0)
    p = random.dirichlet(np.ones(30))
    for c in (random.dirichlet(np.ones(30)), p * (1 + 0.005 * np.sin(np.arange(30)))):
        c = c / c.sum()
        assert named(name).between(c, p) == pytest.approx(DEFINITIONS[name](c, p), rel=1e-9)


@pytest.mark.parametrize("name", [n for n in NAMES if isinstance(named(n), SmoothDivergence)])
def test_slopes_and_conjugates_belong_to_phi(name):
    """The certificate is only worth something if phi* is the conjugate: equality at the inverse slope, inequality elsewhere."""
    found = named(name)
    y = np.linspace(-0.4, 0.3, 15)
    t = np.exp(found.log_ratio(y))
    np.testing.assert_allclose(found.conjugate(y), y * t - found.phi(np.log(t)), atol=1e-12)
    other = np.linspace(0.05, 4.0, 50)[:, None]
    assert (found.conjugate(y) >= y * other - found.phi(np.log(other)) - 1e-12).all()


@pytest.mark.parametrize("name", NAMES)
def test_every_bound_has_a_certificate(name, streams):
    """Primal and dual meet within 1e-8 of the range, the ball is not left, weights are weights, and the
    bracket holds the reference."""
    rate, p = streams
    for delta in (1e-6, 0.01, 0.1, 0.5, 2.0, 20.0):
        low, high = bracket(rate, p, delta, named(name))
        for bound in (low, high):
            assert abs(bound.gap) < 1e-8
            assert bound.divergence <= delta * (1 + 1e-12) + 1e-15
            assert bound.weights.sum() == pytest.approx(1.0, abs=1e-10)
            assert (bound.weights >= 0).all()
        assert low.value <= low.reference <= high.value
    assert high.value == pytest.approx(rate.max(), rel=0.2)


@pytest.mark.parametrize("name", NAMES)
def test_bounds_widen_as_concave_functions_and_their_slope_is_the_multiplier(name, streams):
    """Monotone and concave (max), convex (min); d bound / d delta by differences of the bound itself."""
    rate, p = streams
    radii = np.linspace(0.02, 0.3, 15)
    for sense, sign in (("max", 1.0), ("min", -1.0)):
        bounds = [divergence_bound(rate, p, float(radius), named(name), sense) for radius in radii]
        values = sign * np.array([bound.value for bound in bounds])
        assert (np.diff(values) >= -1e-12).all()
        assert (np.diff(values, 2) <= 1e-9).all()
        if name in ("total-variation", "sup-norm"):
            continue  # piecewise linear: the slope jumps
        up, down = (divergence_bound(rate, p, 0.1 + step, named(name), sense).value for step in (1e-5, -1e-5))
        here = divergence_bound(rate, p, 0.1, named(name), sense)
        assert here.slope == pytest.approx((up - down) / 2e-5, rel=1e-4)


def test_small_and_large_radii(streams):
    """delta to 0: KL moves by sqrt(2 delta Var R); chi2 by exactly sqrt(delta Var R); delta to
    infinity: the best stream alone."""
    rate, p = streams
    mean, spread = p @ rate, np.sqrt(p @ rate**2 - (p @ rate) ** 2)
    assert divergence_bound(rate, p, 1e-8, "kl").value - mean == pytest.approx(np.sqrt(2e-8) * spread, rel=1e-3)
    for sense, sign in (("max", 1), ("min", -1)):
        found = divergence_bound(rate, p, 0.01, "chi2", sense).value
        assert found == pytest.approx(mean + sign * 0.1 * spread, rel=1e-10)
    for name in ("kl", "chi2", "alpha", "hellinger", "jensen-shannon", "le-cam", "total-variation"):
        bound = divergence_bound(rate, p, 1e9, named(name))
        assert bound.saturated
        assert bound.value == pytest.approx(rate.max(), rel=1e-12)
    assert divergence_bound(rate, p, 0.0).value == pytest.approx(mean)


def test_tiny_minima_keep_their_digits():
    """A minimum of 1e-30 of the reference is far below what a generic solver resolves: against
    mpmath-free algebra of two streams."""
    p, rate = np.array([0.5, 0.5]), np.array([1.0, 0.0])
    # reverse KL of (c, 1 - c): -ln(4 c (1 - c)) / 2 = delta
    delta = 30.0
    expected = np.exp(-2 * delta) / 4
    assert divergence_bound(rate, p, delta, "reverse-kl", "min").value == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_a_few_other_streams_can_lose_all_their_weight(name):
    """Where 0.1 % of the weight stands between the reference and a rate of zero, the smallest rate is zero or nearly so:
    reverse KL puts exp(-800) there, and a search for the multiplier that insists on finding it ends nowhere."""
    p, rate = np.array([0.5, 0.49875, 0.0005, 0.00075]), np.array([0.0, 0.0, 1e34, 4e37])
    low, high = bracket(rate, p, 1.0, named(name))
    for bound in (low, high):
        assert abs(bound.gap) < 1e-8
        assert bound.divergence <= 1 + 1e-12
    # Neyman's chi-squared, sum p^2/c, only takes c down to about p^2 / (2 delta).
    assert low.value <= (1e-3 if name == "neyman" else 1e-8) * low.reference
    assert low.reference < high.value


def test_the_orderings_of_divergences_nest_the_bounds(streams):
    """Hellinger^2 <= KL <= ln(1 + chi2) and TV <= sqrt(KL / 2): balls nest, so do the largest rates."""
    rate, p = streams
    for delta in (0.01, 0.1, 0.5):
        kl = divergence_bound(rate, p, delta, "kl")
        assert divergence_bound(rate, p, delta, "hellinger").value >= kl.value
        assert divergence_bound(rate, p, float(np.expm1(delta)), "chi2").value <= kl.value
        assert divergence_bound(rate, p, float(np.sqrt(delta / 2)), "total-variation").value >= kl.value
        assert divergence_bound(rate, p, 0.5 * delta, "jensen-shannon").value >= kl.value  # 2 JS <= KL


@pytest.mark.parametrize("name", ["kl", "reverse-kl", "chi2", "neyman", "hellinger", "total-variation", "sup-norm"])
def test_another_solver_agrees(name, streams):
    """cvxpy with Clarabel on the same problem, 1e-5: a mistake common to primal and dual would show here."""
    cvxpy = pytest.importorskip("cvxpy", reason="needs cvxpy")
    rate, p = streams
    delta = 0.1
    ratio = cvxpy.Variable(p.size)
    c = cvxpy.multiply(p, ratio)
    inside = {
        "kl": lambda: cvxpy.sum(cvxpy.multiply(p, -cvxpy.entr(ratio) - ratio + 1)) <= delta,
        "reverse-kl": lambda: cvxpy.sum(cvxpy.multiply(p, -cvxpy.log(ratio) + ratio - 1)) <= delta,
        "chi2": lambda: cvxpy.sum(cvxpy.multiply(p, cvxpy.square(ratio - 1))) <= delta,
        "neyman": lambda: cvxpy.sum(cvxpy.multiply(p, ratio - 2 + cvxpy.inv_pos(ratio))) <= delta,
        "hellinger": lambda: cvxpy.sum(cvxpy.multiply(p, ratio + 1 - 2 * cvxpy.sqrt(ratio))) <= delta,
        "total-variation": lambda: cvxpy.sum(cvxpy.multiply(p, cvxpy.abs(ratio - 1))) <= 2 * delta,
        "sup-norm": lambda: cvxpy.max(cvxpy.abs(ratio - 1)) <= delta,
    }[name]()
    for sense, goal in (("max", cvxpy.Maximize(c @ rate)), ("min", cvxpy.Minimize(c @ rate))):
        problem = cvxpy.Problem(goal, [inside, cvxpy.sum(c) == 1, ratio >= 0])
        problem.solve(solver="CLARABEL")
        assert problem.value == pytest.approx(divergence_bound(rate, p, delta, name, sense).value, rel=1e-5)


def test_weights_of_draws_have_divergences():
    """chi2 of importance weights is 1 / (share of effective draws) - 1: the same module speaks about flows."""
    log_weights = np.random.default_rng(1).normal(size=500)
    w = np.exp(log_weights)
    share = w.sum() ** 2 / np.sum(w**2) / 500
    assert divergence("chi2").of_weights(log_weights) == pytest.approx(1 / share - 1, rel=1e-12)
    assert divergence("kl").of_weights(np.zeros(5)) == pytest.approx(0.0, abs=1e-15)


def test_vertices_of_linear_balls_are_sparse_in_their_moves(streams):
    """Total variation moves mass from the worst streams to one: at most one stream is left half moved."""
    rate, p = streams
    bound = divergence_bound(rate, p, 0.3, "total-variation")
    ratio = bound.weights / p
    assert ((ratio > 1e-12) & (ratio < 1 - 1e-12)).sum() <= 1
    assert (ratio > 1 + 1e-12).sum() == 1
    box = divergence_bound(rate, p, 0.3, "sup-norm").weights / p
    assert (np.minimum(np.abs(box - 1.3), np.abs(box - 0.7)) > 1e-12).sum() <= 1


def test_what_makes_no_sense_is_refused(streams):
    """A zero weight, a negative radius, an unknown name, rates that are not numbers."""
    rate, p = streams
    for make in (
        lambda: divergence_bound(rate, np.where(np.arange(200) == 3, 0.0, p), 0.1),
        lambda: divergence_bound(rate, p, -0.1),
        lambda: divergence_bound(rate, p, np.inf),
        lambda: divergence_bound(rate, p, 0.1, "kullback"),
        lambda: divergence_bound(rate[:-1], p, 0.1),
        lambda: divergence_bound(np.full(200, np.nan), p, 0.1),
        lambda: divergence("alpha"),
        lambda: PowerDivergence("kl", 1.0).between(p * 2, p),
        lambda: divergence("kl").of_weights(np.array([np.nan])),
    ):
        with pytest.raises(InvalidArgumentError):
            make()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("threshold", [100.0, 450.0, 700.0])
def test_certificates_hold_from_tiny_balls_to_nearly_everything(name, threshold):
    """Weights over sixteen decades, few streams seen: gaps stay below 1e-8 where the optimum is almost a point mass."""
    speed = np.linspace(5.0, 800.0, 200)
    p = speed**2 * np.exp(-((speed / 140.0) ** 2))
    p = p / p.sum()
    rate = np.where(speed > threshold, (1 - (threshold / speed) ** 2) / speed * 300, 0.0)
    for delta in (1e-6, 1e-3, 0.1, 0.5, 0.9, 1.0, 3.0, 30.0):
        for sense in ("max", "min"):
            bound = divergence_bound(rate, p, delta, named(name), sense)
            assert abs(bound.gap) < 1e-8, (delta, sense)
            assert bound.divergence <= delta * (1 + 1e-12) + 1e-14, "logarithms of ratios keep 1e-16"
            assert bound.weights.sum() == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize("name", ["jensen-shannon", "le-cam"])
def test_distances_from_the_largest_slope_say_the_same_as_slopes(name):
    """Newton's method stands on these: the same inverse and conjugate, and d ln t / ds = -1 / (t phi'')."""
    made = named(name)
    assert isinstance(made, BoundedSlopeDivergence)
    s = np.array([1e-6, 0.01, 0.2, 0.7, 1.5])
    u = made.log_ratio_below(s)
    np.testing.assert_allclose(u, made.log_ratio(made.largest_slope - s), rtol=1e-9)
    np.testing.assert_allclose(made.conjugate_at(u), made.conjugate(made.largest_slope - s), rtol=1e-9)
    step = 1e-5 * s
    numerical = (made.log_ratio_below(s + step) - made.log_ratio_below(s - step)) / (2 * step)
    np.testing.assert_allclose(numerical, -1 / made.curvature(u), rtol=1e-6)


@pytest.mark.parametrize("name", ["jensen-shannon", "le-cam"])
def test_newton_and_the_search_by_intervals_agree(streams, name):
    """Newton's method may give up, never go elsewhere."""
    rate, p = streams
    gaps = (rate.max() - rate) / np.ptp(rate)
    for delta in (1e-3, 0.05, 0.2):
        made = named(name)
        assert isinstance(made, BoundedSlopeDivergence)
        shape = BoundedSlopeShape(made, gaps, p)
        near = 0.5 * np.log(0.5 * np.var(gaps) / delta / float(made.curvature(np.float64(0.0))))
        found = shape.root(delta, near)
        assert found is not None
        root = found[0]
        for offset, sign in ((-1e-6, 1), (1e-6, -1)):
            beside = made.of(BoundedSlopeShape(made, gaps, p)(root + offset)[0], p)
            assert np.sign(beside - delta) == sign, "the divergence falls with the width and crosses delta here"


@pytest.mark.parametrize("name", [n for n in NAMES if isinstance(named(n), SmoothDivergence)])
def test_optima_are_stationary_for_their_own_multipliers(name, streams):
    """The dual is computed from the ratios, so mu phi'(t_i) = -g_i - nu must hold, or the certificate would certify nothing."""
    rate, p = streams
    gaps, made = (rate.max() - rate) / np.ptp(rate), named(name)
    assert isinstance(made, SmoothDivergence)
    shape = (
        power_shape(made, gaps, p) if isinstance(made, PowerDivergence)
        else BoundedSlopeShape(made, gaps, p) if isinstance(made, BoundedSlopeDivergence) else None
    )  # fmt: skip
    assert shape is not None
    for x in (-2.0, 0.0, 1.5):
        u, mu, nu = shape(x)
        assert np.sum(p * np.exp(u)) == pytest.approx(1, abs=1e-12)
        some = u > -5
        slope = (made.phi(u[some]) + made.conjugate_at(u[some])) * np.exp(-u[some])
        np.testing.assert_allclose(mu * slope, -gaps[some] - nu, atol=1e-10 * max(1, mu))
