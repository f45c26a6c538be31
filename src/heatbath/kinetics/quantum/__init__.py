"""The collisionless Boltzmann equation on qubits: circuits, an engine that runs them, read-out with its honest price.

A distribution f(x, v) on a ``PhaseGrid`` is held as the amplitudes of one state, positions and velocities in registers of their
own. Circuits are data (``circuit``), run as they are on a state vector (``engine``) or block by block (``emulation``, which
computes the same faster); ``export`` hands them to Qiskit.
"""

from heatbath.kinetics.quantum.circuit import Circuit, Gate
from heatbath.kinetics.quantum.emulation import Emulator
from heatbath.kinetics.quantum.encoding import AMPLITUDE, PROBABILITY, Encoded, decode, encode
from heatbath.kinetics.quantum.engine import Program, apply, basis_state, compiled, unitary
from heatbath.kinetics.quantum.readout import AmplitudeEstimation, Peek, Readout, Shots
from heatbath.kinetics.quantum.registers import PhaseRegisters
from heatbath.kinetics.quantum.simulation import QuantumVlasov

__all__ = [
    "AMPLITUDE",
    "PROBABILITY",
    "AmplitudeEstimation",
    "Circuit",
    "Emulator",
    "Encoded",
    "Gate",
    "Peek",
    "PhaseRegisters",
    "Program",
    "QuantumVlasov",
    "Readout",
    "Shots",
    "apply",
    "basis_state",
    "compiled",
    "decode",
    "encode",
    "unitary",
]
