"""What is Delta F between phi > 0 and phi < 0 of alanine dipeptide? Umbrella sampling, independent of the main job.

The main job gets it from replica exchange over temperatures. Here every walker has 300 K, and 32 windows hold phi with a
periodic bias kappa (1 - cos(phi - phi_k)); neighbouring windows exchange their walkers, which lets psi relax; MBAR joins
the windows. Sixteen ladders of windows never meet and start from different psi: each is a complete, independent experiment,
and the error is the spread over them.

    python benchmarks/alanine_reference.py            # about ten times the cost of the main job
    python benchmarks/alanine_reference.py --draws 50 --dry # a quick look
"""

import argparse
import time

import equinox as eqx
import jax

jax.config.update("jax_enable_x64", True)  # for MBAR; dynamics run in float32

import jax.numpy as jnp
import numpy as np
from record import record

import heatbath
from heatbath.estimators import mbar
from heatbath.kernels import HMC
from heatbath.samplers.masses import sampling_masses
from heatbath.samplers.plan import with_pivots
from heatbath.samplers.replica_exchange import ReplicaExchangeSampler
from heatbath.state import ReducedEnergy, ThermoState

WINDOWS, KAPPA = 32, 24.0


class AroundPhi(eqx.Module):
    """Reduced bias kappa (1 - cos(phi(x) - centre))."""

    centre: jax.Array
    phi: callable = eqx.field(static=True)

    def __call__(self, x):
        return KAPPA * (1 - jnp.cos(self.phi(x) - self.centre.astype(x.dtype)))


def dihedral_starts(target, phis, psis):
    """Configurations with the asked backbone torsions, by turning everything behind the N-CA and CA-C bonds."""
    topology, x0 = target.topology, np.asarray(target.positions, dtype=np.float64)
    index = {(atom.residue, atom.name): i for i, atom in enumerate(topology.atoms)}
    n, ca, c = index[1, "N"], index[1, "CA"], index[1, "C"]
    last = [i for (residue, name), i in index.items() if residue == 2 or (residue == 1 and name == "O")]
    behind_phi = [i for (residue, name), i in index.items() if residue == 1 and name not in ("N", "H", "CA")] + last

    def turned(x, start, end, atoms, angle):
        axis = (x[end] - x[start]) / np.linalg.norm(x[end] - x[start])
        arm = x[atoms] - x[end]
        x = x.copy()
        x[atoms] = x[end] + (
            arm * np.cos(angle) + np.cross(axis, arm) * np.sin(angle) + np.outer(arm @ axis, axis) * (1 - np.cos(angle))
        )
        return x

    observables = target.observables()
    phi, psi = observables["phi"].function, observables["psi"].function
    found = []
    for goal_phi, goal_psi in zip(phis, psis, strict=True):
        x = turned(x0, n, ca, sorted(set(behind_phi)), goal_phi - float(phi(jnp.asarray(x0))))
        x = turned(x, ca, c, sorted(set(last)), goal_psi - float(psi(jnp.asarray(x))))
        assert abs(np.angle(np.exp(1j * (float(phi(jnp.asarray(x))) - goal_phi)))) < 1e-4
        found.append(x)
    return np.stack(found)


def relaxed(target, state, starts, biases):
    """Steepest descent with bounded steps, in each window's bias, out of the clashes that turning made."""

    def one(bias, x):
        u = ReducedEnergy(target, ThermoState(state.beta, bias))

        def step(x, _):
            gradient = jax.grad(u)(x)
            size = jnp.sqrt(jnp.sum(gradient**2, axis=-1, keepdims=True))
            return x - jnp.where(
                jnp.isfinite(size), gradient / (size + 1e-9) * jnp.minimum(1e-3, 2e-6 * size), 0.0
            ), None

        return jax.lax.scan(step, x, None, length=600)[0]

    every = jax.jit(jax.vmap(jax.vmap(one), in_axes=(None, 0)))
    return every(biases, jnp.asarray(starts, jnp.float32))


def main():
    """Run the windows, join them, write results/alanine_reference.json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ladders", type=int, default=16)
    parser.add_argument("--draws", type=int, default=2000, help="recorded per ladder and window")
    parser.add_argument("--thin", type=int, default=6, help="rounds between two records")
    parser.add_argument("--seed", type=int, default=11)
    parser.add_argument("--dry", action="store_true", help="print, do not write the results file")
    options = parser.parse_args()

    target = heatbath.molecule("alanine-dipeptide")
    state = heatbath.at_temperature(target, "300 K")
    phi = target.observables()["phi"].function
    centres = -np.pi + 2 * np.pi * (np.arange(WINDOWS) + 0.5) / WINDOWS
    biases = jax.tree.map(lambda *leaves: jnp.stack(leaves), *[AroundPhi(jnp.asarray(c), phi) for c in centres])
    psis = -np.pi + 2 * np.pi * (np.arange(options.ladders) + 0.5) / options.ladders
    starts = dihedral_starts(target, np.tile(centres, options.ladders), np.repeat(psis, WINDOWS))
    starts = relaxed(target, ThermoState(state.beta), starts.reshape(options.ladders, WINDOWS, -1, 3), biases)
    sampler = ReplicaExchangeSampler(
        target,
        state,
        # Pivots let psi cross its barriers inside a window, where the bias holds phi.
        with_pivots(target, HMC(step_size=0.0015, num_steps=16, masses=sampling_masses(target)), 4),
        betas=(float(state.beta),) * WINDOWS,
        biases=biases,
        ladders=options.ladders,
        draws=options.draws,
        thin=options.thin,
        warmup_rounds=options.draws * options.thin // 10,
        adapt_ladder=False,
        draws_per_chunk=50,
        initial=starts,
    )
    begun, found, evaluations = time.time(), [], 0
    torsions = jax.jit(jax.vmap(jax.vmap(jax.vmap(phi))))
    carry = sampler.begin(jax.random.key(options.seed))
    while not sampler.finished(carry):
        carry, chunk = sampler.advance(carry)
        evaluations += int(chunk.metrics["evaluations"])
        if chunk.phase == "production":
            found.append(np.asarray(torsions(chunk.arrays["samples"]), dtype=np.float64))
        if len(found) % 10 == 0:
            print(f"{100 * sampler.progress(carry):.0f} %, {time.time() - begun:.0f} s", flush=True)
    phis = np.concatenate(found).transpose(2, 1, 0)  # window, ladder, draw
    acceptance, swaps = float(carry.ladders.acceptance.mean()), np.asarray(carry.ladders.swap_acceptance).mean(axis=0)
    seconds = time.time() - begun

    shares, differences, profiles, overlaps = [], [], [], []
    edges = np.linspace(-np.pi, np.pi, 73)
    for ladder in range(options.ladders):
        angles = phis[:, ladder].reshape(-1)
        u_kn = KAPPA * (1 - np.cos(angles[None, :] - centres[:, None]))
        result = mbar(u_kn, np.full(WINDOWS, phis.shape[2]))
        weights = np.exp(result.log_weights(np.zeros_like(angles)))
        weights /= weights.sum()
        share = weights[angles > 0].sum()
        shares.append(share)
        differences.append(-np.log(share / (1 - share)))
        profiles.append(np.histogram(angles, bins=edges, weights=weights)[0])
        overlaps.append(bool(result.converged))
    profile = np.mean(profiles, axis=0)
    kt = 1 / float(state.beta)
    mean, error = np.mean(differences), np.std(differences, ddof=1) / np.sqrt(options.ladders)
    share, share_error = np.mean(shares), np.std(shares, ddof=1) / np.sqrt(options.ladders)
    print(
        f"Delta F = {mean:.4f} +- {error:.4f} kT, P(phi > 0) = {share:.5f} +- {share_error:.5f}, all overlaps {all(overlaps)}"
    )
    print(
        f"acceptance {acceptance:.3f}, exchanges {swaps.min():.2f}..{swaps.max():.2f}, {evaluations:.3g} evaluations, {seconds:.0f} s"
    )
    if options.dry:
        return
    record(
        "alanine_reference",
        title="Alanine dipeptide at 300 K: free energy of phi > 0 against phi < 0, by umbrella sampling",
        columns=["quantity", "value", "standard error", "unit"],
        rows=[
            ["Delta F (phi > 0 minus phi < 0)", mean, error, "kT"],
            ["Delta F (phi > 0 minus phi < 0)", mean * kt, error * kt, "kJ/mol"],
            ["P(phi > 0)", share, share_error, "1"],
        ],
        notes=[
            "Ace-Ala-Nme, amber99sbildn with OBC2, flexible bonds, no cutoff.",
            f"{options.ladders} independent ladders of {WINDOWS} windows in phi, {options.draws} draws of each, exchanges between windows "
            f"accepted in {100 * swaps.min():.0f} % or more; {evaluations:.3g} energy evaluations in {seconds:.0f} s. Errors from the "
            "spread over ladders.",
        ],
        data={
            "delta_f_kt": mean,
            "delta_f_kt_error": error,
            "population": share,
            "population_error": share_error,
            "per_ladder_delta_f_kt": list(map(float, differences)),
            "phi_edges": edges.tolist(),
            "phi_free_energy_kt": [float(v) if np.isfinite(v) else None for v in -np.log(profile / profile.max())],
            "acceptance": acceptance,
            "evaluations": evaluations,
            "seconds": seconds,
            "overlap_converged": all(overlaps),
        },
    )


if __name__ == "__main__":
    main()
