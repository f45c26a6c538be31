"""What a run stands on, as BibTeX: heatbath, its foundations, the force field and the methods that were used."""

from typing import Any

import heatbath

ENTRIES = {
    "heatbath": """@software{heatbath,
  author = {{The heatbath developers}},
  title = {heatbath: equilibrium samples from the Boltzmann distribution, with honest weights},
  version = {VERSION}
}""",
    "jax": """@software{jax,
  author = {Bradbury, James and Frostig, Roy and Hawkins, Peter and Johnson, Matthew James and Leary, Chris and Maclaurin, Dougal
            and Necula, George and Paszke, Adam and Vander{P}las, Jake and Wanderman-{M}ilne, Skye and Zhang, Qiao},
  title = {{JAX}: composable transformations of {P}ython+{N}um{P}y programs},
  url = {http://github.com/jax-ml/jax},
  year = {2018}
}""",
    "equinox": """@article{equinox,
  author = {Kidger, Patrick and Garcia, Cristian},
  title = {{E}quinox: neural networks in {JAX} via callable {P}y{T}rees and filtered transformations},
  journal = {Differentiable Programming workshop at Neural Information Processing Systems},
  year = {2021}
}""",
    "openmm": """@article{openmm8,
  author = {Eastman, Peter and others},
  title = {{OpenMM} 8: Molecular Dynamics Simulation with Machine Learning Potentials},
  journal = {The Journal of Physical Chemistry B},
  volume = {128}, number = {1}, pages = {109--116}, year = {2024},
  doi = {10.1021/acs.jpcb.3c06662}
}""",
    "amber99sb": """@article{amber99sb,
  author = {Hornak, Viktor and Abel, Robert and Okur, Asim and Strockbine, Bentley and Roitberg, Adrian and Simmerling, Carlos},
  title = {Comparison of multiple {A}mber force fields and development of improved protein backbone parameters},
  journal = {Proteins: Structure, Function, and Bioinformatics},
  volume = {65}, number = {3}, pages = {712--725}, year = {2006},
  doi = {10.1002/prot.21123}
}""",
    "ildn": """@article{amber99sbildn,
  author = {Lindorff-Larsen, Kresten and Piana, Stefano and Palmo, Kim and Maragakis, Paul and Klepeis, John L. and Dror, Ron O.
            and Shaw, David E.},
  title = {Improved side-chain torsion potentials for the {Amber ff99SB} protein force field},
  journal = {Proteins: Structure, Function, and Bioinformatics},
  volume = {78}, number = {8}, pages = {1950--1958}, year = {2010},
  doi = {10.1002/prot.22711}
}""",
    "amber14": """@article{amber14sb,
  author = {Maier, James A. and Martinez, Carmenza and Kasavajhala, Koushik and Wickstrom, Lauren and Hauser, Kevin E.
            and Simmerling, Carlos},
  title = {{ff14SB}: Improving the Accuracy of Protein Side Chain and Backbone Parameters from {ff99SB}},
  journal = {Journal of Chemical Theory and Computation},
  volume = {11}, number = {8}, pages = {3696--3713}, year = {2015},
  doi = {10.1021/acs.jctc.5b00255}
}""",
    "obc": """@article{obc,
  author = {Onufriev, Alexey and Bashford, Donald and Case, David A.},
  title = {Exploring protein native states and large-scale conformational changes with a modified generalized {Born} model},
  journal = {Proteins: Structure, Function, and Bioinformatics},
  volume = {55}, number = {2}, pages = {383--394}, year = {2004},
  doi = {10.1002/prot.20033}
}""",
    "replica exchange": """@article{replica_exchange,
  author = {Sugita, Yuji and Okamoto, Yuko},
  title = {Replica-exchange molecular dynamics method for protein folding},
  journal = {Chemical Physics Letters},
  volume = {314}, number = {1-2}, pages = {141--151}, year = {1999},
  doi = {10.1016/S0009-2614(99)01123-9}
}""",
    "mbar": """@article{mbar,
  author = {Shirts, Michael R. and Chodera, John D.},
  title = {Statistically optimal analysis of samples from multiple equilibrium states},
  journal = {The Journal of Chemical Physics},
  volume = {129}, pages = {124105}, year = {2008},
  doi = {10.1063/1.2978177}
}""",
    "hmc": """@article{hmc,
  author = {Duane, Simon and Kennedy, A. D. and Pendleton, Brian J. and Roweth, Duncan},
  title = {Hybrid {Monte Carlo}},
  journal = {Physics Letters B},
  volume = {195}, number = {2}, pages = {216--222}, year = {1987},
  doi = {10.1016/0370-2693(87)91197-X}
}""",
    "mala": """@article{mala,
  author = {Roberts, Gareth O. and Tweedie, Richard L.},
  title = {Exponential convergence of {Langevin} distributions and their discrete approximations},
  journal = {Bernoulli},
  volume = {2}, number = {4}, pages = {341--363}, year = {1996},
  doi = {10.2307/3318418}
}""",
    "baoab": """@article{baoab,
  author = {Leimkuhler, Benedict and Matthews, Charles},
  title = {Rational Construction of Stochastic Numerical Methods for Molecular Sampling},
  journal = {Applied Mathematics Research eXpress},
  volume = {2013}, number = {1}, pages = {34--56}, year = {2013},
  doi = {10.1093/amrx/abs010}
}""",
    "metropolis": """@article{metropolis,
  author = {Metropolis, Nicholas and Rosenbluth, Arianna W. and Rosenbluth, Marshall N. and Teller, Augusta H.
            and Teller, Edward},
  title = {Equation of State Calculations by Fast Computing Machines},
  journal = {The Journal of Chemical Physics},
  volume = {21}, number = {6}, pages = {1087--1092}, year = {1953},
  doi = {10.1063/1.1699114}
}""",
    "gibbs": """@article{gibbs,
  author = {Geman, Stuart and Geman, Donald},
  title = {Stochastic Relaxation, {Gibbs} Distributions, and the {Bayesian} Restoration of Images},
  journal = {IEEE Transactions on Pattern Analysis and Machine Intelligence},
  volume = {PAMI-6}, number = {6}, pages = {721--741}, year = {1984},
  doi = {10.1109/TPAMI.1984.4767596}
}""",
    "pivot": """@article{pivot,
  author = {Madras, Neal and Sokal, Alan D.},
  title = {The pivot algorithm: A highly efficient {Monte Carlo} method for the self-avoiding walk},
  journal = {Journal of Statistical Physics},
  volume = {50}, pages = {109--186}, year = {1988},
  doi = {10.1007/BF01022990}
}""",
    "rhat": """@article{rhat,
  author = {Vehtari, Aki and Gelman, Andrew and Simpson, Daniel and Carpenter, Bob and B{\\"u}rkner, Paul-Christian},
  title = {Rank-Normalization, Folding, and Localization: An Improved {R-hat} for Assessing Convergence of {MCMC}},
  journal = {Bayesian Analysis},
  volume = {16}, number = {2}, pages = {667--718}, year = {2021},
  doi = {10.1214/20-BA1221}
}""",
    "psis": """@article{psis,
  author = {Vehtari, Aki and Simpson, Daniel and Gelman, Andrew and Yao, Yuling and Gabry, Jonah},
  title = {{Pareto} Smoothed Importance Sampling},
  journal = {Journal of Machine Learning Research},
  volume = {25}, number = {72}, pages = {1--58}, year = {2024}
}""",
}

_METHODS = {
    "replica-exchange": ("replica exchange", "mbar"),
    "hmc": ("hmc",),
    "mala": ("mala",),
    "langevin": ("baoab",),
    "random-walk": ("metropolis",),
    "gibbs": ("gibbs",),
    "pivot": ("pivot",),
}


def keys(config: Any, kernels: tuple[str, ...] = ()) -> list[str]:
    """Names of what a resolved configuration of ``sample`` uses, in the order of the bibliography.

    ``kernels`` are the moves that were made ("hmc", "pivot", "gibbs", ...), where known.
    """
    used = ["heatbath", "jax", "equinox"]
    forcefield = config.target.forcefield
    if forcefield != "auto":
        used.append("openmm")
        used += ["amber99sb"] if "99sb" in forcefield else []
        used += ["ildn"] if "ildn" in forcefield else []
        used += ["amber14"] if "amber14" in forcefield else []
        used += ["obc"] if "obc" in forcefield else []
    used += _METHODS.get(config.sampler.method, ())
    used += [name for kernel in kernels for name in _METHODS.get(kernel, ()) if name not in used]
    return [*used, "rhat", "psis"]


def bibliography(config: Any, kernels: tuple[str, ...] = ()) -> str:
    """The entries of ``keys`` as one BibTeX file."""
    return "\n\n".join(ENTRIES[key].replace("VERSION", heatbath.__version__) for key in keys(config, kernels)) + "\n"
