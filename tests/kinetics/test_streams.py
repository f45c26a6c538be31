"""Halo, streams, recoil rates and limits: closed forms, quadrature, other codes, published orders of magnitude."""

import itertools

import numpy as np
import pytest
from scipy.integrate import quad

from heatbath.errors import InvalidArgumentError, MissingDataError
from heatbath.kinetics import detectors
from heatbath.kinetics.counting import maximum_gap_limit, upper_limit
from heatbath.kinetics.electron_recoils import AtomicRecoils, ElectronGas, Shell, pairs_window
from heatbath.kinetics.form_factors import helm_squared, tabulated_squared, thin_shell_squared
from heatbath.kinetics.halo import StandardHalo, earth_velocity
from heatbath.kinetics.nuclear_recoils import Efficiency, Isotope, NuclearRecoils, largest_energy, smallest_speed
from heatbath.kinetics.recoil_units import PROTON_GEV, reduced_mass
from heatbath.kinetics.streams import GalacticStreams, Streams


@pytest.fixture(scope="module")
def halo():
    return StandardHalo()


def integral(function, low, high, kink):
    points = sorted({low, *(x for x in (kink,) if low < x < high), high})
    return sum(quad(function, a, b, epsabs=0, epsrel=1e-13, limit=200)[0] for a, b in itertools.pairwise(points))


def test_the_speed_density_is_normalised(halo):
    """Multiplying by the truncation constant instead of dividing would give 0.97."""
    kink = halo.v_esc - halo.earth_speed
    assert integral(halo.speed_density, 0.0, halo.largest_speed, kink) == pytest.approx(1.0, abs=1e-12)


@pytest.mark.parametrize("lowest", [1.0, 150.0, 290.0, 400.0, 700.0, 790.0])
def test_eta_is_the_integral_of_f_over_v(halo, lowest):
    """The closed form in both of its branches and near its end, 1e-12 of its largest value; zero beyond the last speed."""
    kink = halo.v_esc - halo.earth_speed
    direct = integral(lambda v: halo.speed_density(v) / v, lowest, halo.largest_speed, kink)
    assert halo.inverse_speed(lowest) == pytest.approx(direct, abs=1e-12 * float(halo.inverse_speed(1.0)))
    assert halo.inverse_speed(halo.largest_speed + 1) == 0.0


def test_an_unbounded_halo_has_the_known_eta():
    """v_esc to infinity: [erf(x + y) - erf(x - y)] / (2 y v0)."""
    from scipy.special import erf

    halo = StandardHalo(v_esc=5000.0)
    x, y = 200.0 / halo.v0, halo.earth_speed / halo.v0
    assert halo.inverse_speed(200.0) == pytest.approx((erf(x + y) - erf(x - y)) / (2 * y * halo.v0), rel=1e-12)


def test_streams_of_the_galactic_frame_are_those_of_the_detector(halo):
    """200 000 velocities seen from the Earth: mean speed within 4.5 standard errors of the closed density; June is faster."""
    galactic = GalacticStreams.of_halo(halo, 200_000, seed=1)
    streams = Streams.of_halo(halo, 400)
    day = 58.5  # the Earth's speed is 252.1 km/s
    assert np.linalg.norm(earth_velocity(day)) == pytest.approx(halo.earth_speed, abs=0.3)
    speeds = galactic.speeds(day)
    expected = streams.weights @ streams.speeds
    assert abs(speeds.mean() - expected) < 4.5 * speeds.std() / np.sqrt(speeds.size) + 0.3
    assert galactic.weights @ galactic.modulation(lambda v: v) > 5.0


@pytest.mark.parametrize(
    ("name", "mass"), [("xenon-like", 30.0), ("xenon-like", 8.0), ("fluorine-like", 10.0), ("silicon-like", 0.05)]
)
def test_streams_are_complete(halo, name, mass):
    """Sum of c R with the halo's weights is the integral of the rate with eta: 1e-4 at 1000 streams, better with more."""
    detector = detectors.load(name)
    direct = detector.exposure * detector.recoils.total(mass, halo.inverse_speed)
    errors = []
    for count in (125, 1000):
        streams = Streams.of_halo(halo, count)
        errors.append(abs(streams.weights @ detector.counts(streams, mass) / direct - 1))
    assert errors[1] < 1e-4
    assert errors[1] < errors[0] / 5


def test_one_stream_makes_a_step():
    """A single speed gives a flat spectrum (F = 1) that ends at 2 mu^2 v^2 / m_N: its count by hand."""
    nucleus = Isotope(10, 1.0)
    recoils = NuclearRecoils((nucleus,), (0.5, 50.0), form_factor=lambda energy, a: np.ones_like(energy))
    largest = float(largest_energy(np.array(400.0), 20.0, nucleus.mass))
    assert smallest_speed(largest, 20.0, nucleus.mass) == pytest.approx(400.0)
    height = recoils.spectrum(np.array([1.0]), 20.0, lambda v: 1 / 400.0)[0]
    assert recoils.of_streams(np.array([400.0]), 20.0)[0] == pytest.approx(height * (largest - 0.5), rel=1e-10)
    assert recoils.of_streams(np.array([5.0]), 20.0)[0] == 0.0


def test_form_factors():
    """F(0) = 1, F falls, and the Helm zero of xenon lies near 94 keV; a thin shell and a table."""
    assert helm_squared(np.array([0.0, 1e-9]), 131) == pytest.approx([1.0, 1.0])
    energy = np.linspace(1.0, 80.0, 50)
    assert (np.diff(helm_squared(energy, 131)) < 0).all()
    assert 85 < energy_of_zero() < 105
    assert thin_shell_squared(np.array([0.0]), 19) == pytest.approx(1.0)


def energy_of_zero():
    energy = np.linspace(60.0, 130.0, 700)
    return energy[np.argmin(helm_squared(energy, 131))]


def test_tables_of_the_user(tmp_path, halo):
    """Form factors, efficiencies, halos and detectors from files; files that do not fit say why."""
    (tmp_path / "f.csv").write_text("0,1\n10,0.5\n")
    assert tabulated_squared(tmp_path / "f.csv")(np.array([5.0]), 0)[0] == 0.75
    (tmp_path / "halo.csv").write_text("speed,weight\n100,1\n200,2\n300,1\n")
    streams = Streams.from_file(tmp_path / "halo.csv")
    assert streams.weights == pytest.approx([0.25, 0.5, 0.25])
    (tmp_path / "bad.csv").write_text("speed,weight\n100,1\n200,0\n")
    with pytest.raises(InvalidArgumentError, match="not positive"):
        Streams.from_file(tmp_path / "bad.csv")
    with pytest.raises(MissingDataError):
        Streams.from_file(tmp_path / "none.csv")
    (tmp_path / "e.csv").write_text("0,0\n100,1\n")
    (tmp_path / "mine.toml").write_text(
        'name = "mine"\nsummary = "s"\nsource = "x"\nexposure_kg_day = 1.0\nmasses_gev = [1.0, 2.0]\n[counting]\nobserved = 2\n'
        '[nuclear]\ninteraction = "spin-independent"\nwindow_kev = [1.0, 20.0]\nform_factor = "f.csv"\n'
        'efficiency = { file = "e.csv" }\nisotopes = [{ mass_number = 40, share = 1.0 }]\n'
    )
    detector = detectors.load("mine.toml", tmp_path)
    assert detector.limit == pytest.approx(5.3223, abs=1e-4)
    assert detector.counts(Streams.of_halo(halo, 50), 50.0).max() > 0
    for wrong in ("xenon", "none.toml"):
        with pytest.raises((InvalidArgumentError, MissingDataError)):
            detectors.load(wrong, tmp_path)


def test_limits_of_counting_experiments():
    """Known numbers: 2.303 and 6.681 events at 90 %, the unified interval 2.44 and 6.42 (3 seen, 1
    expected), one empty gap 2.303."""
    assert [upper_limit(0), upper_limit(3)] == pytest.approx([2.3026, 6.6808], abs=1e-4)
    assert upper_limit(0, method="feldman-cousins") == pytest.approx(2.44, abs=0.01)
    assert upper_limit(3, 1.0, method="feldman-cousins") == pytest.approx(6.42, abs=0.01)
    assert maximum_gap_limit([1.0]) == pytest.approx(2.3026, abs=1e-4)
    mu = maximum_gap_limit([0.6, 0.4])
    assert 1 - np.exp(-0.6 * mu) * (1 + 0.4 * mu) == pytest.approx(0.9, abs=1e-9)
    for make in (lambda: upper_limit(-1), lambda: upper_limit(0, confidence=1.0), lambda: maximum_gap_limit([0.4])):
        with pytest.raises(InvalidArgumentError):
            make()


def test_limits_are_of_the_published_size(halo):
    """The minimum of the xenon-like curve within a factor 2 of 4.1e-47 cm^2 near 30 GeV, the
    fluorine-like of 3.4e-41 at 30 GeV."""
    streams = Streams.of_halo(halo, 500)
    for name, published in (("xenon-like", 4.1e-47), ("fluorine-like", 3.4e-41)):
        detector = detectors.load(name)
        limits = {
            m: detector.cross_section(streams.weights @ detector.counts(streams, m))
            for m in (8.0, 20.0, 30.0, 45.0, 500.0)
        }
        assert 0.5 < limits[30.0] / published < 2
        assert min(limits, key=limits.get) in (20.0, 30.0, 45.0)


def test_the_electron_gas_obeys_its_sum_rule():
    """int w Im(-1/eps) dw = pi/2 w_p^2 at every k: a wrong Lindhard function or unit breaks it. Small
    width, wide integral, 3 %."""
    gas = ElectronGas(16.6, 2.33, width=0.3)
    energy = np.linspace(0.05, 4000.0, 40_000)
    for k in (1e-6, 5e-6, 1.5e-5):  # GeV
        total = np.trapezoid(energy * gas.loss(np.array(k), energy), energy)
        assert total == pytest.approx(0.5 * np.pi * 16.6**2, rel=0.03)
    assert pairs_window((4, 10), 1.11, 3.6) == pytest.approx((11.91, 37.11))


def test_atomic_rates_by_an_independent_loop(halo):
    """A smooth table, energy by energy and q by q in plain Python, against the arrays: 1e-5.

    Both are trapezoids (the integrand does not vanish at the largest q of the table), 5e-7 from adaptive quadrature.
    """
    log_k, log_q = np.linspace(-2.0, 2.0, 30), np.linspace(-1.0, 3.0, 31)
    squared = np.exp(-((log_q[None, :] - 0.8 * log_k[:, None] - 0.5) ** 2))
    shell = Shell(12.4, log_k, log_q, squared)
    recoils = AtomicRecoils({"5p": shell}, 131.3, (5.0, 200.0), points=2000)
    mass, energy = 0.1, 30.0
    me, alpha, light = 0.51099895e-3, 7.2973525693e-3, 299_792.458
    total = 0.0
    steps = np.linspace(log_q[0], log_q[-1], 3001)
    column = np.array(
        [np.interp(0.5 * np.log(energy / 13.605693122994), log_k, np.log(squared[:, i])) for i in range(31)]
    )
    for x in steps:
        q = np.exp(x) * alpha * me
        lowest = ((energy + 12.4) * 1e-9 / q + q / (2 * mass)) * light
        width = (steps[1] - steps[0]) * (0.5 if x in (steps[0], steps[-1]) else 1.0)
        total += np.exp(np.interp(x, log_q, column)) * q**2 * float(halo.inverse_speed(lowest)) * width
    mu = mass * me / (mass + me)
    per_atom = 0.3 / mass / (8 * mu**2) * total * light * 2.99792458e10 * 86_400
    expected = per_atom * 5.609588604e26 / (131.3 * 0.93149410242) / energy
    assert recoils.differential(np.array([energy]), mass, halo.inverse_speed)[0] == pytest.approx(expected, rel=1e-5)
    streams = Streams.of_halo(halo, 1000)
    direct = recoils.total(mass, halo.inverse_speed)
    assert streams.weights @ recoils.of_streams(streams.speeds, mass) == pytest.approx(direct, rel=2e-4)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_nuclear_rates_against_wimprates():
    """The ratio is N_esc^-2 at all masses and energies to 1e-3: that package multiplies by the truncation constant
    instead of dividing.

    Its conventions are put in: one nucleus of 131.293 units, and the atomic mass unit as mass of a nucleon.
    """
    wimprates = pytest.importorskip("wimprates", reason="needs wimprates")
    import numericalunits as nu

    ours = StandardHalo(earth_speed=float(wimprates.v_earth() / (nu.km / nu.s)))
    unit, mass_number = 0.93149410242, 131.293
    for mass in (10.0, 50.0, 100.0):
        energy = np.array([2.0, 4.0]) if mass == 10.0 else np.array([5.0, 20.0])
        theirs = wimprates.rate_wimp_std(energy, mass, 1e-45)  # per keV, tonne and year
        nucleus = mass_number * unit
        form = wimprates.helm_form_factor_squared(energy * nu.keV, mass_number)
        eta = ours.inverse_speed(smallest_speed(energy, mass, nucleus))
        flat = NuclearRecoils((Isotope(1, 1.0),), (1.0, 50.0), form_factor=lambda e, a: np.ones_like(e))
        scale = flat.spectrum(np.array([0.0]), mass, lambda v: np.ones_like(v))[0]  # rho c^2 / (2 m mu_p^2)
        scale *= (reduced_mass(mass, PROTON_GEV) / reduced_mass(mass, unit)) ** 2
        mine = scale * mass_number**2 * form * eta * 1e-45 * 365.25e3
        np.testing.assert_allclose(mine / theirs, ours.normalisation**-2, rtol=1e-3)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_electron_rates_on_the_tables_of_wimprates(halo):
    """Xenon's 5p and 4d shells as that package ships them: our arrays against a scalar loop over its interpolator, 1e-4.

    The total for 100 MeV and 1e-38 cm^2 is of the published order, 1e2 to 1e5 per kg and year.
    """
    wimprates = pytest.importorskip("wimprates", reason="needs wimprates")
    import numericalunits as nu
    from wimprates.electron import shell_data

    mass, alpha_me = 0.1, 7.2973525693e-3 * 0.51099895e-3
    shells = {}
    for name, binding in (("5p", 12.4), ("4d", 75.6)):
        table = shell_data[name]
        shells[name] = Shell(
            binding, np.asarray(table["lnks"]), np.asarray(table["lnqs"]), np.asarray(table["ffsquared"])
        )
    energy = 20.0
    for name, shell in shells.items():
        ours = AtomicRecoils({name: shell}, 131.293, (10.0, 200.0), points=1500)
        total, steps = 0.0, np.linspace(shell.log_q[0], shell.log_q[-1], 4001)
        squared = [
            float(
                wimprates.dme_ionization_ff(name, energy * nu.eV, np.array([np.exp(x) * nu.me * nu.c0 * nu.alphaFS]))[0]
            )
            for x in steps
        ]
        for x, f in zip(steps, squared, strict=True):
            q = np.exp(x) * alpha_me
            lowest = ((energy + shell.binding) * 1e-9 / q + q / (2 * mass)) * 299_792.458
            total += f * q**2 * float(halo.inverse_speed(lowest)) * (steps[1] - steps[0])
        mu = reduced_mass(mass, 0.51099895e-3)
        expected = 0.3 / mass / (8 * mu**2) * total * 299_792.458 * 2.99792458e10 * 86_400
        expected *= 5.609588604e26 / (131.293 * 0.93149410242) / energy
        found = ours.differential(np.array([energy]), mass, halo.inverse_speed)[0]
        assert found == pytest.approx(expected, rel=2e-4)
    total = AtomicRecoils(shells, 131.293, (1.0, 400.0)).total(mass, halo.inverse_speed) * 1e-38 * 365.25
    assert 1e2 < total < 1e5


def test_what_makes_no_sense_is_refused(halo):
    """Masses, speeds and windows that cannot be."""
    xenon = detectors.load("xenon-like")
    for make in (
        lambda: StandardHalo(v0=-1.0),
        lambda: StandardHalo(earth_speed=600.0),
        lambda: Streams.of_halo(halo, 1),
        lambda: Streams(np.array([2.0, 1.0]), np.array([1.0, 1.0])),
        lambda: Streams(np.array([1.0, 2.0]), np.array([1.0, 0.0])),
        lambda: xenon.counts(Streams.of_halo(halo, 5), -3.0),
        lambda: NuclearRecoils((), (1.0, 2.0)),
        lambda: NuclearRecoils((Isotope(1, 1.0),), (2.0, 1.0), efficiency=Efficiency()),
        lambda: pairs_window((0, 3), 1.1, 3.6),
    ):
        with pytest.raises(InvalidArgumentError):
            make()
