"""The coupling flow of heatbath written in PyTorch, layer for layer, and the nearest flow of normflows: what it is timed against.

Both split the coordinates in halves that swap from layer to layer (heatbath's windows differ by one coordinate), with residual
conditioners of the same widths and the same number of matrices. The spline follows arXiv 1906.04032 as PyTorch programs usually do:
cumulative sums, a count of passed knots, gathers.
"""

import math

import torch
from torch import nn
from torch.nn import functional

BOUND, MINIMUM = 5.0, 1e-3


class Conditioner(nn.Module):
    """A residual perceptron with a zero last layer."""

    def __init__(self, inputs: int, outputs: int, width: int, depth: int):
        super().__init__()
        self.first = nn.Linear(inputs, width)
        self.hidden = nn.ModuleList(nn.Linear(width, width) for _ in range(depth))
        self.last = nn.Linear(width, outputs)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)

    def forward(self, x):
        h = self.first(x)
        for layer in self.hidden:
            h = h + layer(functional.silu(h))
        return self.last(functional.silu(h))


def positive(raw):
    return 0.5 * (raw + torch.sqrt(raw * raw + 4))


def knots(raw):
    """Sizes of bins and the positions of their K + 1 ends in [0, 1]."""
    sizes = positive(raw)
    sizes = MINIMUM + (1 - MINIMUM * raw.shape[-1]) * sizes / sizes.sum(-1, keepdim=True)
    return sizes, functional.pad(torch.cumsum(sizes, -1), (1, 0))


def spline(x, widths, heights, slopes, inverse: bool):
    """Rational-quadratic on [-BOUND, BOUND], the identity outside."""
    inside = x.abs() < BOUND
    place = torch.where(inside, (x + BOUND) / (2 * BOUND), torch.full_like(x, 0.5))
    widths, lefts = knots(widths)
    heights, bottoms = knots(heights)
    slopes = functional.pad(MINIMUM + (1 - MINIMUM) * positive(slopes), (1, 1), value=1.0)
    ends = (bottoms if inverse else lefts)[..., 1:-1]
    index = (place[..., None] >= ends).sum(-1, keepdim=True)

    def pick(values, shift=0):
        return values.gather(-1, index + shift)[..., 0]

    width, left, height, bottom = pick(widths), pick(lefts), pick(heights), pick(bottoms)
    before, after = pick(slopes), pick(slopes, 1)
    mean = height / width
    excess = before + after - 2 * mean
    if inverse:
        rise = place - bottom
        a = height * (mean - before) + rise * excess
        b = height * before - rise * excess
        t = 2 * mean * rise / (b + torch.sqrt(torch.clamp(b * b + 4 * a * mean * rise, min=0)))
        y = left + t * width
    else:
        t = (place - left) / width
        y = bottom + height * (mean * t * t + before * t * (1 - t)) / (mean + excess * t * (1 - t))
    bend = t * (1 - t)
    slope = mean * mean * (after * t * t + 2 * mean * bend + before * (1 - t) ** 2) / (mean + excess * bend) ** 2
    log_slope = torch.log(slope)
    y, log_slope = torch.where(inside, 2 * BOUND * y - BOUND, x), torch.where(inside, log_slope, 0.0)
    return y, -log_slope if inverse else log_slope


class Coupling(nn.Module):
    """Changes the first half given the second, then swaps them."""

    def __init__(self, dimension: int, width: int, depth: int, bins: int):
        super().__init__()
        self.half, self.bins = dimension // 2, bins
        self.outputs = 3 * bins + 1 if bins else 2
        self.network = Conditioner(dimension - self.half, self.outputs * self.half, width, depth)

    def parameters_given(self, kept):
        raw = self.network(kept).reshape(-1, self.half, self.outputs)
        return raw[..., 0], 3 * torch.tanh(raw[..., 1] / 3), torch.split(raw[..., 2:], self.sizes(), -1)

    def sizes(self):
        return (self.bins, self.bins, self.bins - 1) if self.bins else (0,)

    def to_latent(self, x):
        changed, kept = x[:, : self.half], x[:, self.half :]
        shift, log_scale, raw = self.parameters_given(kept)
        z, log_slope = (changed - shift) * torch.exp(-log_scale), -log_scale
        if self.bins:
            z, bend = spline(z, *raw, inverse=False)
            log_slope = log_slope + bend
        return torch.cat([kept, z], 1), log_slope.sum(1)

    def from_latent(self, z):
        kept, changed = z[:, : -self.half], z[:, -self.half :]
        shift, log_scale, raw = self.parameters_given(kept)
        log_slope = log_scale
        if self.bins:
            changed, bend = spline(changed, *raw, inverse=True)
            log_slope = log_slope + bend
        return torch.cat([changed * torch.exp(log_scale) + shift, kept], 1), log_slope.sum(1)


class Flow(nn.Module):
    """Couplings over a standard normal."""

    def __init__(self, dimension: int, *, layers: int, width: int, depth: int, bins: int):
        super().__init__()
        self.dimension = dimension
        self.layers = nn.ModuleList(Coupling(dimension, width, depth, bins) for _ in range(layers))

    def log_prob(self, x):
        total = 0.0
        for layer in self.layers:
            x, log_det = layer.to_latent(x)
            total = total + log_det
        return total - 0.5 * (x * x).sum(1) - 0.5 * self.dimension * math.log(2 * math.pi)

    def draw(self, z):
        total = -0.5 * (z * z).sum(1) - 0.5 * self.dimension * math.log(2 * math.pi)
        for layer in reversed(self.layers):
            z, log_det = layer.from_latent(z)
            total = total - log_det
        return z, total


class Normflows(nn.Module):
    """The nearest flow of the package normflows, with the same number of matrices of the same widths."""

    def __init__(self, dimension: int, *, layers: int, width: int, depth: int, bins: int):
        import normflows

        super().__init__()
        flows = []
        for _ in range(layers):
            if bins:
                flows.append(
                    normflows.flows.CoupledRationalQuadraticSpline(
                        dimension, depth // 2, width, num_bins=bins, tail_bound=BOUND, activation=nn.SiLU
                    )
                )
            else:
                network = normflows.nets.MLP([dimension // 2, *[width] * (depth + 1), dimension], init_zeros=True)
                flows.append(normflows.flows.AffineCouplingBlock(network))
            flows.append(normflows.flows.Permute(dimension, mode="swap"))
        self.dimension = dimension
        self.model = normflows.NormalizingFlow(normflows.distributions.DiagGaussian(dimension, trainable=False), flows)

    def log_prob(self, x):
        return self.model.log_prob(x)

    def draw(self, z):
        return self.model.sample(z.shape[0])
