"""One OpenMM process for a speed comparison: evaluates or simulates on command and says how many it did.

Imported by the processes that ``force_field_speed.py`` starts; knows nothing of heatbath.
"""

import time


def serve(connection, systems: dict[str, str], positions) -> None:
    """Answer (task, platform, threads, solvent, seconds) with (how many, seconds taken) until told to stop.

    ``systems`` holds serialised Systems by the name of their solvent force. Contexts are made once and kept.
    """
    import openmm

    parsed = {name: openmm.XmlSerializer.deserialize(text) for name, text in systems.items()}
    contexts = {}
    while (order := connection.recv()) is not None:
        task, platform, threads, solvent, seconds = order
        key = (platform, threads, solvent)
        if key not in contexts:
            contexts[key] = _context(openmm, parsed[solvent], platform, threads, positions)
        connection.send(
            _evaluate(*contexts[key], positions, seconds) if task == "evaluate" else _simulate(*contexts[key], seconds)
        )


def _context(openmm, system, platform: str, threads: int, positions):
    integrator = openmm.LangevinMiddleIntegrator(300.0, 1.0, 0.001)
    properties = {"Threads": str(threads)} if platform == "CPU" else {}
    context = openmm.Context(system, integrator, openmm.Platform.getPlatformByName(platform), properties)
    context.setPositions(positions)
    context.setVelocitiesToTemperature(300.0, 1)
    integrator.step(5)
    return context, integrator


def _evaluate(context, _, positions, seconds: float) -> tuple[int, float]:
    done, begun = 0, time.perf_counter()
    while time.perf_counter() - begun < seconds:
        for _ in range(5):
            context.setPositions(positions)
            context.getState(getEnergy=True, getForces=True).getForces(asNumpy=True)
            done += 1
    return done, time.perf_counter() - begun


def _simulate(context, integrator, seconds: float) -> tuple[int, float]:
    context.reinitialize(preserveState=True)
    integrator.step(2)
    done, begun = 0, time.perf_counter()
    while time.perf_counter() - begun < seconds:
        integrator.step(20)
        done += 20
    return done, time.perf_counter() - begun
