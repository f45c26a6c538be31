"""What is Delta F between phi > 0 and phi < 0 of alanine dipeptide? Umbrella sampling, independent of the main job.

The main job gets it from replica exchange over temperatures. Here one temperature is used and 32 windows hold phi
with a periodic bias kappa (1 - cos(phi - phi_k)); each window runs independent chains whose psi starts are spread over the
circle; MBAR joins the windows. Every chain index is a complete, independent experiment, so the error is the spread over chains.

    python benchmarks/alanine_reference.py            # about ten times the cost of the main job
    python benchmarks/alanine_reference.py --draws 50 # a quick look
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
from heatbath.samplers.plan import with_pivots
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
    last = [i for (residue, name), i in index.items() if residue == 2 or name == "O" and residue == 1]
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


def main():
    """Run the windows, join them, write results/alanine_reference.json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--chains", type=int, default=16)
    parser.add_argument("--draws", type=int, default=4000, help="recorded per chain and window")
    parser.add_argument("--thin", type=int, default=6, help="trajectories between two records")
    parser.add_argument("--seed", type=int, default=11)
    parser.add_argument("--dry", action="store_true", help="print, do not write the results file")
    options = parser.parse_args()

    target = heatbath.molecule("alanine-dipeptide")
    state = heatbath.at_temperature(target, "300 K")
    phi, psi = (target.observables()[name].function for name in ("phi", "psi"))
    centres = -np.pi + 2 * np.pi * (np.arange(WINDOWS) + 0.5) / WINDOWS
    biases = [ThermoState(state.beta, AroundPhi(jnp.asarray(c), phi)) for c in centres]
    ladder = jax.tree.map(lambda *leaves: jnp.stack(leaves), *biases)
    psis = -np.pi + 2 * np.pi * (np.arange(options.chains) + 0.5) / options.chains
    starts = dihedral_starts(target, np.repeat(centres, options.chains), np.tile(psis, WINDOWS))
    starts = jnp.asarray(starts, jnp.float32).reshape(WINDOWS, options.chains, -1, 3)
    # Masses do not change the distribution of x; heavy hydrogens allow longer steps.
    masses = jnp.maximum(jnp.asarray(target.masses), 4.0).reshape(-1, 1)
    key = jax.random.key(options.seed)

    def relax(state, x):
        """Steepest descent with bounded steps, out of the clashes that turning made."""
        u = ReducedEnergy(target, state)

        def one(x, _):
            gradient = jax.grad(u)(x)
            size = jnp.sqrt(jnp.sum(gradient**2, axis=-1, keepdims=True))
            return x - jnp.where(jnp.isfinite(size), gradient / (size + 1e-9) * jnp.minimum(1e-3, 2e-6 * size), 0.0), None

        return jax.lax.scan(one, x, None, length=600)[0]

    @jax.jit
    def relaxed(xs):
        return jax.vmap(lambda s, row: jax.vmap(lambda x: relax(s, x))(row))(ladder, xs)

    def trajectories(step_size, count, thin):
        # Pivots let psi cross its barriers inside a window, where the bias holds phi.
        kernel = with_pivots(target, HMC(step_size=step_size, num_steps=16, masses=masses), 4)

        def walker(state, x, key):
            u = ReducedEnergy(target, state)

            def draw(carry, key):
                carry, infos = jax.lax.scan(lambda c, k: kernel.step(k, c, u), carry, jax.random.split(key, thin))
                return carry, (phi(carry.position), psi(carry.position), infos.acceptance.mean())

            start = kernel.init(key, x, u)
            end, found = jax.lax.scan(draw, start, jax.random.split(key, count))
            return end.position, found

        return jax.jit(lambda xs, keys: jax.vmap(jax.vmap(walker, in_axes=(None, 0, 0)))(ladder, xs, keys))

    def keys(name):
        return jax.random.split(jax.random.fold_in(key, name), (WINDOWS, options.chains))

    begun = time.time()
    xs = relaxed(starts)
    for index, step in enumerate((2e-4, 1e-3)):
        xs, _ = trajectories(step, 30, 4)(xs, keys(index))
    settle = max(20, options.draws // 10)
    xs, _ = trajectories(2e-3, settle, options.thin)(xs, keys(2))
    chunk, found = min(200, options.draws), []
    production = trajectories(2e-3, chunk, options.thin)
    for index in range(options.draws // chunk):
        xs, part = production(xs, keys(100 + index))
        found.append([np.asarray(a, dtype=np.float64) for a in part])
        if index % 5 == 0:
            print(f"{(index + 1) * chunk}/{options.draws} draws, {time.time() - begun:.0f} s", flush=True)
    phis, psis_found, acceptance = (np.concatenate([part[i] for part in found], axis=2) for i in range(3))
    seconds = time.time() - begun
    evaluations = WINDOWS * options.chains * 22 * options.thin * (options.draws + settle)

    shares, differences, profiles, overlaps = [], [], [], []
    edges = np.linspace(-np.pi, np.pi, 73)
    for chain in range(options.chains):
        angles = phis[:, chain].reshape(-1)
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
    mean, error = np.mean(differences), np.std(differences, ddof=1) / np.sqrt(options.chains)
    share, share_error = np.mean(shares), np.std(shares, ddof=1) / np.sqrt(options.chains)
    print(f"Delta F = {mean:.4f} +- {error:.4f} kT, P(phi > 0) = {share:.5f} +- {share_error:.5f}, all overlaps {all(overlaps)}")
    print(f"acceptance {acceptance.mean():.3f}, {evaluations:.3g} evaluations, {seconds:.0f} s")
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
            f"{WINDOWS} windows in phi, {options.chains} independent chains each, {options.draws} draws per chain, HMC; "
            f"{evaluations:.3g} energy evaluations in {seconds:.0f} s. Errors from the spread over chains.",
        ],
        data={
            "delta_f_kt": mean,
            "delta_f_kt_error": error,
            "population": share,
            "population_error": share_error,
            "per_chain_delta_f_kt": list(map(float, differences)),
            "phi_edges": edges.tolist(),
            "phi_free_energy_kt": [float(v) if np.isfinite(v) else None for v in -np.log(profile / profile.max())],
            "acceptance": float(acceptance.mean()),
            "evaluations": evaluations,
            "seconds": seconds,
            "overlap_converged": all(overlaps),
        },
    )


if __name__ == "__main__":
    main()
