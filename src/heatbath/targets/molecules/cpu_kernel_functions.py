"""Elementary functions of vectors: reciprocals, square roots, exp, log, tanh and the angle of a plane vector.

Polynomial coefficients come from Chebyshev interpolation of the function, computed when the code is written; the
degrees make the error of the polynomial smaller than the rounding of the precision. Stated errors are relative, over the
range in the docstring.
"""

import functools
import math
from collections.abc import Callable

import llvmlite.ir as ir
import numpy as np
from numpy.polynomial import Chebyshev, Polynomial

from heatbath.targets.molecules.cpu_kernel_vectors import Lanes, Vector, rounded

_SQRT_HALF = math.sqrt(0.5)


@functools.cache
def _interpolation(function: Callable, low: float, high: float, degree: int) -> tuple[float, ...]:
    """Coefficients, constant first, of the polynomial of that degree through the Chebyshev points of [low, high]."""
    fitted = Chebyshev.interpolate(function, degree, domain=[low, high])
    return tuple(float(c) for c in fitted.convert(kind=Polynomial).coef)


def _horner(x: Vector, coefficients: tuple[float, ...]) -> Vector:
    result = x.lanes.vector(coefficients[-1])
    for coefficient in reversed(coefficients[:-1]):
        result = result * x + coefficient
    return result


def _bits(x: Vector) -> ir.Value:
    return x.lanes.builder.bitcast(x.value, x.lanes.integer_type)


def _float(lanes: Lanes, bits: ir.Value) -> Vector:
    return Vector(lanes, lanes.builder.bitcast(bits, lanes.type))


def _whole(lanes: Lanes, value: int) -> ir.Constant:
    return ir.Constant(lanes.integer_type, [value] * lanes.width)


def _estimate(x: Vector, name: str) -> tuple[Vector, int] | None:
    """The CPU's own estimate of ``"rcp"`` or ``"rsqrt"`` and its correct bits; None where it has none."""
    lanes = x.lanes
    letters = "ps" if lanes.precision.bytes == 4 else "pd"
    bits = 8 * lanes.bytes
    if bits < 128 and "avx" in lanes.features:
        return _widened_estimate(x, name)
    if "avx512vl" in lanes.features and bits in (128, 256, 512):
        mask_type = ir.IntType(max(8, lanes.width))
        every = ir.Constant(mask_type, (1 << lanes.width) - 1)
        return lanes.call(f"llvm.x86.avx512.{name}14.{letters}.{bits}", lanes.type, x, lanes.vector(0.0), every), 14
    if letters == "ps" and "avx" in lanes.features and bits in (128, 256):
        intrinsic = f"llvm.x86.sse.{name}.ps" if bits == 128 else f"llvm.x86.avx.{name}.ps.256"
        return lanes.call(intrinsic, lanes.type, x), 11
    return None


def _widened_estimate(x: Vector, name: str) -> tuple[Vector, int] | None:
    """The same for less than a register, by way of a register: the same bits as in company."""
    lanes = x.lanes
    full = lanes.with_width(16 // lanes.precision.bytes)
    estimate = _estimate(full.splat(lanes.first(x)), name)
    if estimate is None or lanes.width > 1:
        return None
    only = lanes.builder.insert_element(
        ir.Constant(lanes.type, ir.Undefined), lanes.first(estimate[0]), ir.IntType(32)(0)
    )
    return Vector(lanes, only), estimate[1]


def reciprocal(x: Vector) -> Vector:
    """1/x within 1.5 units in the last place; NaN at 0 and beyond the range, where the estimate has nothing to refine."""
    estimate = _estimate(x, "rcp")
    if estimate is None:
        return x.lanes.vector(1.0) / x
    y, bits = estimate
    while bits < 8 * x.lanes.precision.bytes * 0.7:
        error = 1.0 - x * y
        if bits < 12:  # third order, so that one step is enough
            y, bits = y + y * (error + error * error), 3 * bits
        else:
            y, bits = y + y * error, 2 * bits
    return y


def reciprocal_square_root(x: Vector) -> Vector:
    """x^(-1/2) within 1.5 units in the last place; NaN at 0 and at infinity."""
    estimate = _estimate(x, "rsqrt")
    if estimate is None:
        return x.lanes.vector(1.0) / square_root(x)
    y, bits = estimate
    while bits < 8 * x.lanes.precision.bytes * 0.7:
        error = 1.0 - (x * y) * y
        if bits < 12:
            y, bits = y + y * (error * (0.5 + 0.375 * error)), 3 * bits
        else:
            y, bits = y + (0.5 * y) * error, 2 * bits
    return y


def square_root(x: Vector) -> Vector:
    """Correctly rounded square root."""
    return x.lanes.call("llvm.sqrt." + x.lanes.suffix, x.lanes.type, x)


def exponential(x: Vector) -> Vector:
    """exp(x) for x <= 60 or so; below the smallest normal number, that number.

    exp(x) = 2^n 2^f with n the nearest whole number to x log2(e) and |f| <= 1/2.
    """
    lanes, precision = x.lanes, x.lanes.precision
    builder = lanes.builder
    degree = 5 if precision.bytes == 4 else 11
    x = lanes.at_least(x, -(precision.exponent_bias - 2) * math.log(2.0))
    magic = 1.5 * 2.0**precision.mantissa_bits
    shifted = x * math.log2(math.e) + magic
    fraction = x * math.log2(math.e) - (shifted - magic)
    power = _horner(fraction, _interpolation(np.exp2, -0.51, 0.51, degree))
    exponent = builder.shl(_bits(shifted), _whole(lanes, precision.mantissa_bits))
    return _float(lanes, builder.add(_bits(power), exponent))


def _log_series(z2: np.ndarray) -> np.ndarray:
    """log((1 + z)/(1 - z)) / z as a function of z^2."""
    z = np.sqrt(np.maximum(z2, 1e-300))
    return 2.0 * np.arctanh(z) / z


def logarithm(x: Vector, *, times: float = 1.0) -> Vector:
    """times * log(x) for positive normal x; the factor costs nothing.

    x = 2^e m with m in [sqrt(1/2), sqrt(2)) and log m = 2 artanh(z), z = (m - 1)/(m + 1), |z| < 0.172.
    """
    lanes, precision = x.lanes, x.lanes.precision
    builder, shift = lanes.builder, precision.mantissa_bits
    root = int(np.array(_SQRT_HALF, precision.dtype).view(f"i{precision.bytes}"))
    one = precision.exponent_bias << shift
    bits = _bits(x)
    exponent = builder.lshr(builder.add(bits, _whole(lanes, one - root)), _whole(lanes, shift))
    scaled = builder.sub(bits, builder.shl(exponent, _whole(lanes, shift)))
    mantissa = _float(lanes, builder.add(scaled, _whole(lanes, one)))
    magic_bits = int(np.array(2.0**shift, precision.dtype).view(f"i{precision.bytes}"))
    power = _float(lanes, builder.or_(exponent, _whole(lanes, magic_bits))) - (2.0**shift + precision.exponent_bias)
    z = (mantissa - 1.0) * reciprocal(mantissa + 1.0)
    z2 = z * z
    degree = 3 if precision.bytes == 4 else 7
    coefficients = tuple(times * c for c in _interpolation(_log_series, 0.0, 0.0296, degree))
    series = _horner(z2, coefficients)
    return power * (times * math.log(2.0)) + z * series


@functools.cache
def _narrowest_series(high: float, tolerance: float) -> tuple[float, ...]:
    """The shortest interpolation of log((1 + z)/(1 - z))/z in z^2 on [0, high] with an error below ``tolerance``."""
    grid = np.linspace(0.0, high, 2001)
    for degree in range(1, 16):
        error = Polynomial(_interpolation(_log_series, 0.0, high, degree))(grid) - _log_series(grid)
        if (np.abs(error) < tolerance).all():
            break
    return _interpolation(_log_series, 0.0, high, degree)


def log_of_ratio(a: Vector, b: Vector, lowest: float, *, times: float = 1.0) -> Vector:
    """times * log(a/b) for lowest <= a/b <= 1, with an absolute error of one rounding of log(lowest).

    With c = sqrt(lowest): log c + 2 artanh(z), z = (a - c b)/(a + c b), which needs neither a/b nor its exponent.
    """
    centre = math.sqrt(lowest)
    z = rounded((a - centre * b) * reciprocal(a + centre * b))
    bound = (1.0 - centre) / (1.0 + centre)
    tolerance = max(5e-15, float(np.finfo(a.lanes.precision.dtype).eps))  # z is below 0.33
    series = _narrowest_series(1.01 * bound**2, tolerance)
    scaled = tuple(times * c for c in series)
    return z * _horner(rounded(z * z), scaled) + times * math.log(centre)


def hyperbolic_tangent(x: Vector) -> Vector:
    """tanh(x) = sign(x) (1 - e)/(1 + e), e = exp(-2|x|); absolute error of a few units in the last place of 1."""
    lanes = x.lanes
    decay = exponential(-2.0 * lanes.absolute(x))
    ratio = (1.0 - decay) / (1.0 + decay)
    return lanes.select(lanes.less(x, 0.0), -ratio, ratio)


def _arctan_series(t2: np.ndarray) -> np.ndarray:
    t = np.sqrt(np.maximum(t2, 1e-300))
    return np.arctan(t) / t


def angle_of(x: Vector, y: Vector) -> Vector:
    """atan2(y, x) in [0, pi] for y >= 0, not both zero.

    With s = |x| + y, t = (y - |x|)/s is in [-1, 1] and the angle from the axis |x| is pi/4 + atan(t); where |t| is above
    tan(pi/8), once more atan(t) = pi/4 + atan((t - 1)/(t + 1)).
    """
    lanes = x.lanes
    side = lanes.absolute(x)
    t = (y - side) / (y + side)
    size = lanes.absolute(t)
    far = lanes.less(lanes.vector(math.tan(math.pi / 8)), size)
    near = lanes.select(far, (size - 1.0) / (size + 1.0), size)
    degree = 5 if lanes.precision.bytes == 4 else 11
    small = near * _horner(near * near, _interpolation(_arctan_series, 0.0, 0.1716, degree))
    arc = lanes.select(far, small + math.pi / 4, small)
    signed = lanes.select(lanes.less(t, 0.0), -arc, arc)
    first_quadrant = signed + math.pi / 4
    return lanes.select(lanes.less(x, 0.0), math.pi - first_quadrant, first_quadrant)
