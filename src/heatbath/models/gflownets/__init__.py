"""Generative flow networks: objects built step by step, with probability proportional to exp(-u) of what is finished.

``environment`` (the contract), ``environments`` (hypergrid, bag, sequence, independent set), ``network`` (policies and flows),
``rollout`` (batched trajectories forward and backward), ``enumeration`` (exact terminal distributions by dynamic programming).
The losses are in ``training.objectives.gflownet``, the proposal with honest weights in ``samplers.gflownet``.
"""
