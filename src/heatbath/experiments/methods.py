"""The sampling methods by name, with what each is for: readable without JAX."""

METHODS = {
    "replica-exchange": "many temperatures at once, weighted by MBAR; crosses barriers; the default",
    "hmc": "independent Hamiltonian Monte Carlo chains at one temperature; exact, no help across barriers",
    "mala": "independent Metropolis-adjusted Langevin chains; exact, cheap steps",
    "langevin": "independent Langevin (BAOAB) chains: physical dynamics, with a step-size bias that is declared",
    "random-walk": "independent random-walk Metropolis chains; needs energies only",
    "gibbs": "independent chains of single-site heat-bath moves, for lattices",
    "flow": "independent draws of a trained generator (--model, or one that ships), weighted exactly; seconds, no chains",
    "flow-smc": "draws of a trained generator carried to the target by sequential Monte Carlo with MALA moves",
}

#: Methods whose draws come from a trained model.
GENERATOR_METHODS = ("flow", "flow-smc")
