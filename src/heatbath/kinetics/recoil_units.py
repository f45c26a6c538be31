"""Constants of recoil rates: masses in GeV, speeds in km/s, cross-sections in cm^2, targets in kg,
time in days, recoils in keV.
"""

LIGHT_KM_S = 299_792.458
LIGHT_CM_S = 2.99792458e10
SECONDS_PER_DAY = 86_400.0
GEV_PER_KG = 5.609588604e26
GEV_PER_ATOMIC_UNIT = 0.93149410242
PROTON_GEV = 0.93827208816
ELECTRON_GEV = 0.51099895e-3
FINE_STRUCTURE = 7.2973525693e-3
RYDBERG_EV = 13.605693122994
#: hbar c in GeV fm
HBAR_C = 0.1973269804


def reduced_mass(first: float, second: float) -> float:
    """m1 m2 / (m1 + m2)."""
    return first * second / (first + second)
