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
    "boltzmann generators": """@article{boltzmann_generators,
  author = {No{\\'e}, Frank and Olsson, Simon and K{\\"o}hler, Jonas and Wu, Hao},
  title = {{Boltzmann} generators: Sampling equilibrium states of many-body systems with deep learning},
  journal = {Science},
  volume = {365}, number = {6457}, pages = {eaaw1147}, year = {2019},
  doi = {10.1126/science.aaw1147}
}""",
    "sequential boltzmann generators": """@inproceedings{sequential_boltzmann_generators,
  author = {Tan, Charlie B. and Bose, Avishek Joey and Lin, Chen and Klein, Leon and Bronstein, Michael M. and Tong, Alexander},
  title = {Scalable Equilibrium Sampling with Sequential {Boltzmann} Generators},
  booktitle = {Proceedings of the 42nd International Conference on Machine Learning},
  year = {2025},
  eprint = {2502.18462}, archiveprefix = {arXiv}
}""",
    "transformer flows": """@inproceedings{transformer_flows,
  author = {Zhai, Shuangfei and Zhang, Ruixiang and Nakkiran, Preetum and Berthelot, David and Gu, Jiatao and Zheng, Huangjie
            and Chen, Tianrong and Bautista, Miguel {\\'A}ngel and Jaitly, Navdeep and Susskind, Joshua M.},
  title = {Normalizing Flows are Capable Generative Models},
  booktitle = {Proceedings of the 42nd International Conference on Machine Learning},
  volume = {267}, pages = {74348--74369}, year = {2025}
}""",
    "binned autoregressive": """@inproceedings{autoregressive_boltzmann_generators,
  author = {Rehman, Danyal and Tan, Charlie B. and Bengio, Yoshua and Bose, Avishek Joey and Tong, Alexander},
  title = {Autoregressive {Boltzmann} Generators},
  booktitle = {International Conference on Machine Learning},
  year = {2026},
  eprint = {2606.27361}, archiveprefix = {arXiv}
}""",
    "flow perturbation": """@article{flow_perturbation,
  author = {Peng, Xin and Gao, Ang},
  title = {Flow Perturbation to Accelerate Unbiased Sampling of {Boltzmann} distribution},
  year = {2024},
  eprint = {2407.10666}, archiveprefix = {arXiv},
  note = {Nature Communications, doi:10.1038/s41467-025-62039-8}
}""",
    "flow perturbation in steps": """@article{flow_perturbation_steps,
  author = {Peng, Xin and Gao, Ang},
  title = {{Flow Perturbation++}: Multi-Step Unbiased {Jacobian} Estimation for High-Dimensional {Boltzmann} Sampling},
  year = {2026},
  eprint = {2601.21177}, archiveprefix = {arXiv}
}""",
    "steerable flows": """@article{temperature_steerable_flows,
  author = {Dibak, Manuel and Klein, Leon and Kr{\\"a}mer, Andreas and No{\\'e}, Frank},
  title = {Temperature steerable flows and {Boltzmann} generators},
  journal = {Physical Review Research},
  volume = {4}, pages = {L042005}, year = {2022},
  eprint = {2108.01590}, archiveprefix = {arXiv}
}""",
    "real nvp": """@inproceedings{real_nvp,
  author = {Dinh, Laurent and Sohl-Dickstein, Jascha and Bengio, Samy},
  title = {Density estimation using {Real NVP}},
  booktitle = {International Conference on Learning Representations},
  year = {2017},
  eprint = {1605.08803}, archiveprefix = {arXiv}
}""",
    "spline flows": """@inproceedings{neural_spline_flows,
  author = {Durkan, Conor and Bekasov, Artur and Murray, Iain and Papamakarios, George},
  title = {Neural Spline Flows},
  booktitle = {Advances in Neural Information Processing Systems},
  volume = {32}, year = {2019},
  eprint = {1906.04032}, archiveprefix = {arXiv}
}""",
    "circular flows": """@inproceedings{flows_on_tori,
  author = {Rezende, Danilo Jimenez and Papamakarios, George and Racani{\\`e}re, S{\\'e}bastien and Albergo, Michael S.
            and Kanwar, Gurtej and Shanahan, Phiala E. and Cranmer, Kyle},
  title = {Normalizing Flows on Tori and Spheres},
  booktitle = {Proceedings of the 37th International Conference on Machine Learning},
  year = {2020},
  eprint = {2002.02428}, archiveprefix = {arXiv}
}""",
    "flow matching": """@inproceedings{flow_matching,
  author = {Lipman, Yaron and Chen, Ricky T. Q. and Ben-Hamu, Heli and Nickel, Maximilian and Le, Matthew},
  title = {Flow Matching for Generative Modeling},
  booktitle = {International Conference on Learning Representations},
  year = {2023},
  eprint = {2210.02747}, archiveprefix = {arXiv}
}""",
    "annealed importance sampling": """@article{annealed_importance_sampling,
  author = {Neal, Radford M.},
  title = {Annealed importance sampling},
  journal = {Statistics and Computing},
  volume = {11}, pages = {125--139}, year = {2001},
  doi = {10.1023/A:1008923215028}
}""",
    "sequential monte carlo": """@article{sequential_monte_carlo,
  author = {Del Moral, Pierre and Doucet, Arnaud and Jasra, Ajay},
  title = {Sequential {Monte Carlo} samplers},
  journal = {Journal of the Royal Statistical Society: Series B},
  volume = {68}, number = {3}, pages = {411--436}, year = {2006},
  doi = {10.1111/j.1467-9868.2006.00553.x}
}""",
    "optax": """@software{deepmind_jax,
  author = {{DeepMind} and others},
  title = {The {DeepMind JAX} Ecosystem},
  url = {http://github.com/google-deepmind},
  year = {2020}
}""",
    "generalized ensembles": """@article{matrix_generalized_ensembles,
  author = {Guan, S.},
  title = {Matrix approach to generalized ensemble theory},
  year = {2025},
  eprint = {2503.17898}, archiveprefix = {arXiv}
}""",
    "energy decompositions": """@inproceedings{led_gflownet,
  author = {Jang, Hyosoon and Kim, Minsu and Ahn, Sungsoo},
  title = {Learning Energy Decompositions for Partial Inference of {GFlowNets}},
  booktitle = {International Conference on Learning Representations},
  year = {2024},
  eprint = {2310.03301}, archiveprefix = {arXiv}
}""",
    "nade": """@article{nade,
  author = {Uria, Benigno and C{\\^o}t{\\'e}, Marc-Alexandre and Gregor, Karol and Murray, Iain and Larochelle, Hugo},
  title = {Neural Autoregressive Distribution Estimation},
  journal = {Journal of Machine Learning Research},
  volume = {17}, number = {205}, pages = {1--37}, year = {2016},
  eprint = {1605.02226}, archivePrefix = {arXiv}
}""",
    "unbiased boltzmann machines": """@inproceedings{unbiased_dbm,
  author = {Taniguchi, Shohei and Suzuki, Masahiro and Iwasawa, Yusuke and Matsuo, Yutaka},
  title = {End-to-end Training of Deep {B}oltzmann Machines by Unbiased Contrastive Divergence with Local Mode Initialization},
  booktitle = {International Conference on Machine Learning},
  year = {2023},
  eprint = {2305.19684}, archivePrefix = {arXiv}
}""",
    "unbiased markov chains": """@article{unbiased_mcmc,
  author = {Jacob, Pierre E. and O'Leary, John and Atchad{\\'e}, Yves F.},
  title = {Unbiased {M}arkov chain {M}onte {C}arlo methods with couplings},
  journal = {Journal of the Royal Statistical Society B},
  volume = {82}, number = {3}, pages = {543--600}, year = {2020},
  eprint = {1708.03625}, archivePrefix = {arXiv}
}""",
    "persistent chains": """@inproceedings{tieleman_pcd,
  author = {Tieleman, Tijmen},
  title = {Training restricted {B}oltzmann machines using approximations to the likelihood gradient},
  booktitle = {International Conference on Machine Learning},
  year = {2008}
}""",
    "contrastive divergence": """@article{hinton_cd,
  author = {Hinton, Geoffrey E.},
  title = {Training products of experts by minimizing contrastive divergence},
  journal = {Neural Computation},
  volume = {14}, number = {8}, pages = {1771--1800}, year = {2002}
}""",
    "orderless nade": """@inproceedings{orderless_nade,
  author = {Uria, Benigno and Murray, Iain and Larochelle, Hugo},
  title = {A Deep and Tractable Density Estimator},
  booktitle = {International Conference on Machine Learning},
  year = {2014},
  eprint = {1310.1757}, archivePrefix = {arXiv}
}""",
    "made": """@inproceedings{made,
  author = {Germain, Mathieu and Gregor, Karol and Murray, Iain and Larochelle, Hugo},
  title = {{MADE}: Masked Autoencoder for Distribution Estimation},
  booktitle = {International Conference on Machine Learning},
  year = {2015},
  eprint = {1502.03509}, archivePrefix = {arXiv}
}""",
    "flow networks": """@article{gflownet_foundations,
  author = {Bengio, Yoshua and Lahlou, Salem and Deleu, Tristan and Hu, Edward J. and Tiwari, Mo and Bengio, Emmanuel},
  title = {{GFlowNet} Foundations},
  year = {2021},
  eprint = {2111.09266}, archiveprefix = {arXiv}
}""",
    "trajectory balance": """@article{trajectory_balance,
  author = {Malkin, Nikolay and Jain, Moksh and Bengio, Emmanuel and Sun, Chen and Bengio, Yoshua},
  title = {Trajectory balance: Improved credit assignment in {GFlowNets}},
  year = {2022},
  eprint = {2201.13259}, archiveprefix = {arXiv}
}""",
    "sub-trajectory balance": """@article{subtrajectory_balance,
  author = {Madan, Kanika and Rector-Brooks, Jarrid and Korablyov, Maksym and others},
  title = {Learning {GFlowNets} from partial episodes for improved convergence and stability},
  year = {2022},
  eprint = {2209.12782}, archiveprefix = {arXiv}
}""",
    "forward-looking flows": """@article{forward_looking_gflownet,
  author = {Pan, Ling and Malkin, Nikolay and Zhang, Dinghuai and Bengio, Yoshua},
  title = {Better Training of {GFlowNets} with Local Credit and Incomplete Trajectories},
  year = {2023},
  eprint = {2302.01687}, archiveprefix = {arXiv}
}""",
    "viennarna": """@article{viennarna,
  author = {Lorenz, Ronny and Bernhart, Stephan H. and H{\"o}ner zu Siederdissen, Christian and others},
  title = {{ViennaRNA} Package 2.0},
  journal = {Algorithms for Molecular Biology},
  volume = {6}, pages = {26},
  year = {2011}
}""",
    "flexs": """@article{flexs,
  author = {Sinai, Sam and Wang, Richard and Whatley, Alexander and Slocum, Stewart and Locane, Elina and Kelsic, Eric D.},
  title = {{AdaLead}: A simple and robust adaptive greedy search algorithm for sequence design},
  year = {2020},
  eprint = {2010.02141}, archiveprefix = {arXiv}
}""",
    "pseudo-likelihood": """@article{pseudo_likelihood,
  author = {Besag, Julian},
  title = {Statistical Analysis of Non-Lattice Data},
  journal = {The Statistician},
  volume = {24}, number = {3}, pages = {179--195}, year = {1975},
  doi = {10.2307/2987782}
}""",
    "test of symmetry": """@article{bowker_symmetry,
  author = {Bowker, Albert H.},
  title = {A Test for Symmetry in Contingency Tables},
  journal = {Journal of the American Statistical Association},
  volume = {43}, number = {244}, pages = {572--574}, year = {1948},
  doi = {10.1080/01621459.1948.10483284}
}""",
    "rayleigh-boltzmann shear": """@article{rayleigh_boltzmann_shear,
  author = {Miele, N. and Nota, A. and Vel{\\'a}zquez, J. J. L.},
  title = {Asymptotic Velocity Profiles for Homoenergetic {Rayleigh-Boltzmann} Flows under Dominant Shear},
  year = {2025},
  eprint = {2506.15449}, archiveprefix = {arXiv}
}""",
    "thinning": """@article{thinning,
  author = {Lewis, P. A. W. and Shedler, G. S.},
  title = {Simulation of nonhomogeneous {Poisson} processes by thinning},
  journal = {Naval Research Logistics Quarterly},
  volume = {26}, pages = {403--413}, year = {1979}
}""",
    "state-dependent diffusion": """@article{state_dependent_diffusion,
  author = {Lau, A. W. C. and Lubensky, T. C.},
  title = {State-dependent diffusion: Thermodynamic consistency and its path integral formulation},
  journal = {Physical Review E},
  volume = {76}, pages = {011123}, year = {2007},
  eprint = {0707.2234}, archiveprefix = {arXiv}
}""",
    "supercooled liquids": """@article{supercooled_liquid_flows,
  author = {Jung, Gerhard and Biroli, Giulio and Berthier, Ludovic},
  title = {Normalizing flows as an enhanced sampling method for atomistic supercooled liquids},
  journal = {Machine Learning: Science and Technology},
  volume = {5}, year = {2024},
  eprint = {2404.09914}, archiveprefix = {arXiv}
}""",
    "population annealing": """@article{population_annealing,
  author = {Wang, Wenlong and Machta, Jonathan and Katzgraber, Helmut G.},
  title = {Population annealing: Theory and application in spin glasses},
  journal = {Physical Review E},
  volume = {92}, pages = {063307}, year = {2015}
}""",
    "swap monte carlo": """@article{swap_monte_carlo,
  author = {Grigera, Tom\\'as S. and Parisi, Giorgio},
  title = {Fast {Monte Carlo} algorithm for supercooled soft spheres},
  journal = {Physical Review E},
  volume = {63}, pages = {045102}, year = {2001}
}""",
    "manifold mala": """@article{manifold_mala,
  author = {Girolami, Mark and Calderhead, Ben},
  title = {Riemann manifold {Langevin} and {Hamiltonian} {Monte Carlo} methods},
  journal = {Journal of the Royal Statistical Society: Series B},
  volume = {73}, pages = {123--214}, year = {2011}
}""",
    "quantum collisionless boltzmann": """@article{quantum_collisionless_boltzmann,
  author = {Yamazaki, S. and Uchida, F. and Fujisawa, K. and Miyamoto, K. and Yoshida, N.},
  title = {Quantum algorithm for collisionless {Boltzmann} simulation of self-gravitating systems},
  journal = {Computers \\& Fluids},
  volume = {288}, pages = {106527}, year = {2025},
  eprint = {2303.16490}, archiveprefix = {arXiv}
}""",
    "discrete velocities on qubits": """@article{quantum_collisionless_streaming,
  author = {Todorova, Blaga N. and Steijl, Ren\\'e},
  title = {Quantum algorithm for the collisionless {Boltzmann} equation},
  journal = {Journal of Computational Physics},
  volume = {409}, pages = {109347}, year = {2020}
}""",
    "amplitude estimation": """@article{maximum_likelihood_amplitude_estimation,
  author = {Suzuki, Yohichi and others},
  title = {Amplitude estimation without phase estimation},
  year = {2019},
  eprint = {1904.10246}, archiveprefix = {arXiv}
}""",
    "halo divergences": """@article{halo_divergences,
  author = {Herrera, Gonzalo and Rappelt, Andreas},
  title = {Information divergences to parametrize astrophysical uncertainties in dark matter direct detection},
  year = {2024},
  eprint = {2403.04959}, archiveprefix = {arXiv}
}""",
    "standard halo": """@article{direct_detection_conventions,
  author = {Baxter, D. and others},
  title = {Recommended conventions for reporting results from direct dark matter searches},
  year = {2021},
  eprint = {2105.00599}, archiveprefix = {arXiv}
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
    "flow": ("boltzmann generators",),
    "flow-smc": ("boltzmann generators", "sequential boltzmann generators", "sequential monte carlo", "mala"),
    "smc": ("annealed importance sampling", "sequential monte carlo"),
    "internal-coordinate-flow": ("boltzmann generators", "spline flows", "circular flows"),
    "coupling-flow": ("real nvp", "spline flows"),
    "transformer-flow": ("transformer flows", "sequential boltzmann generators"),
    "binned-autoregressive": ("binned autoregressive",),
    "continuous-flow": ("flow matching",),
    "steerable-flow": ("steerable flows", "real nvp"),
    "train": ("boltzmann generators", "optax"),
    "sequential-boltzmann-generator": (
        "boltzmann generators",
        "sequential boltzmann generators",
        "sequential monte carlo",
        "optax",
    ),
    "flow-perturbation": (
        "boltzmann generators",
        "flow perturbation",
        "flow perturbation in steps",
        "flow matching",
        "optax",
    ),
    "temperature-steerable-flow": ("boltzmann generators", "steerable flows", "replica exchange", "optax"),
    "quantum-collisionless-boltzmann": (
        "quantum collisionless boltzmann",
        "discrete velocities on qubits",
        "amplitude estimation",
    ),
    "halo-divergences": ("halo divergences", "standard halo"),
    "rayleigh-boltzmann-shear": ("rayleigh-boltzmann shear", "thinning"),
    "state-dependent-diffusion": ("state-dependent diffusion", "manifold mala"),
    "supercooled-liquid": (
        "supercooled liquids",
        "swap monte carlo",
        "population annealing",
        "replica exchange",
        "baoab",
        "metropolis",
    ),
    "energy-decomposition-gflownet": ("energy decompositions", "flow networks"),
    "nade": ("nade", "optax"),
    "unbiased-boltzmann-machine": (
        "unbiased boltzmann machines",
        "unbiased markov chains",
        "annealed importance sampling",
    ),
    "persistent": ("persistent chains",),
    "contrastive-divergence": ("contrastive divergence",),
    "deep-nade": ("orderless nade",),
    "conv-nade": ("orderless nade",),
    "made": ("made",),
    "gflownet-fl": ("forward-looking flows",),
    "gflownet-subtb": ("sub-trajectory balance",),
    "gflownet-led-subtb": ("sub-trajectory balance",),
    "gflownet-tb": ("trajectory balance",),
    "viennarna": ("viennarna", "flexs"),
    "generalized-ensemble": ("generalized ensembles", "pseudo-likelihood", "test of symmetry"),
}


def keys(config: Any, kernels: tuple[str, ...] = ()) -> list[str]:
    """Names of what a resolved configuration uses, in the order of the bibliography.

    ``kernels`` names, where known, what else took part: moves ("hmc", "pivot", "gibbs") and kinds of models ("transformer-flow").
    The experiment and the kind of model that a configuration names are cited too; what it lacks is not.
    """
    used = ["heatbath", "jax", "equinox"]
    forcefield = getattr(getattr(config, "target", None), "forcefield", "auto")
    if forcefield != "auto":
        used.append("openmm")
        used += ["amber99sb"] if "99sb" in forcefield else []
        used += ["ildn"] if "ildn" in forcefield else []
        used += ["amber14"] if "amber14" in forcefield else []
        used += ["obc"] if "obc" in forcefield else []
    method = getattr(getattr(config, "sampler", None), "method", "")
    kind = getattr(getattr(config, "model", None), "kind", "")
    for name in (getattr(config, "experiment", ""), kind, method, *kernels):
        used += [entry for entry in _METHODS.get(name, ()) if entry not in used]
    return [*used, "rhat", "psis"]


def bibliography(config: Any, kernels: tuple[str, ...] = ()) -> str:
    """The entries of ``keys`` as one BibTeX file."""
    return "\n\n".join(ENTRIES[key].replace("VERSION", heatbath.__version__) for key in keys(config, kernels)) + "\n"
