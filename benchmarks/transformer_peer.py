"""The transformer flow of ``heatbath.models.transformer_flow`` written in PyTorch, as one would: for comparisons of speed.

Same sizes, same arithmetic (pre-normalised layers without gain and shift, tanh GELU, fused query, key and value, PyTorch's own
scaled dot-product attention), same optimiser. Draws are made token by token with remembered keys and values.
"""

import math

import torch
from torch import nn
from torch.nn import functional


class Layer(nn.Module):
    """Attention and feed-forward, both on the normalised input."""

    def __init__(self, channels: int, heads: int):
        super().__init__()
        self.heads = heads
        self.attention_in = nn.Linear(channels, 3 * channels)
        self.attention_out = nn.Linear(channels, channels)
        self.feed_in = nn.Linear(channels, 4 * channels)
        self.feed_out = nn.Linear(4 * channels, channels)

    def forward(self, h, memory=None, place=None):
        batch, tokens, channels = h.shape
        inner = self.attention_in(functional.layer_norm(h, (channels,)))
        inner = inner.view(batch, tokens, 3, self.heads, channels // self.heads)
        query, key, value = inner.permute(2, 0, 3, 1, 4).unbind(0)
        if memory is None:
            mixed = functional.scaled_dot_product_attention(query, key, value, is_causal=True)
        else:
            keys, values = memory
            keys[:, :, place : place + 1], values[:, :, place : place + 1] = key, value
            mixed = functional.scaled_dot_product_attention(query, keys[:, :, : place + 1], values[:, :, : place + 1])
        h = h + self.attention_out(mixed.transpose(1, 2).reshape(batch, tokens, channels))
        inner = functional.gelu(self.feed_in(functional.layer_norm(h, (channels,))), approximate="tanh")
        return h + self.feed_out(inner)


class Block(nn.Module):
    """z_i = (x_i - mu_i) exp(-alpha_i)."""

    def __init__(self, tokens: int, inputs: int, channels: int, layers: int, heads: int, *, reverse: bool):
        super().__init__()
        self.reverse, self.channels, self.heads = reverse, channels, heads
        self.embedding = nn.Linear(inputs, channels, bias=False)
        self.positions = nn.Parameter(0.01 * torch.randn(tokens - 1, channels))
        self.layers = nn.ModuleList([Layer(channels, heads) for _ in range(layers)])
        self.output = nn.Linear(channels, 2 * inputs)
        nn.init.zeros_(self.output.weight)
        nn.init.zeros_(self.output.bias)

    def forward(self, x):
        x = x.flip(1) if self.reverse else x
        h = self.embedding(x[:, :-1]) + self.positions
        for layer in self.layers:
            h = layer(h)
        alpha, mu = self.output(functional.layer_norm(h, (self.channels,))).chunk(2, -1)
        z = torch.cat([x[:, :1], (x[:, 1:] - mu) * torch.exp(-alpha)], 1)
        return (z.flip(1) if self.reverse else z), -alpha.sum((1, 2))

    def draw(self, z):
        z = z.flip(1) if self.reverse else z
        batch, tokens, _ = z.shape
        shape = (batch, self.heads, tokens - 1, self.channels // self.heads)
        memories = [(torch.zeros(shape), torch.zeros(shape)) for _ in self.layers]
        rows, total = [z[:, :1]], torch.zeros(batch)
        for place in range(tokens - 1):
            h = self.embedding(rows[-1]) + self.positions[place]
            for layer, memory in zip(self.layers, memories, strict=True):
                h = layer(h, memory, place)
            alpha, mu = self.output(functional.layer_norm(h, (self.channels,))).chunk(2, -1)
            rows.append(z[:, place + 1 : place + 2] * torch.exp(alpha) + mu)
            total = total + alpha.sum((1, 2))
        x = torch.cat(rows, 1)
        return (x.flip(1) if self.reverse else x), total


class Flow(nn.Module):
    """log q of a batch by ``forward``; draws with their log q by ``draw``."""

    def __init__(self, tokens: int, inputs: int, *, channels: int, blocks: int, layers: int, head_dim: int):
        super().__init__()
        self.shape = (tokens, inputs)
        self.blocks = nn.ModuleList(
            [Block(tokens, inputs, channels, layers, channels // head_dim, reverse=k % 2 == 1) for k in range(blocks)]
        )

    def forward(self, x):
        total = 0.0
        for block in self.blocks:
            x, log_det = block(x)
            total = total + log_det
        return self._normal(x) + total

    @torch.no_grad()
    def draw(self, batch: int):
        x = torch.randn(batch, *self.shape)
        total = self._normal(x)
        for block in reversed(self.blocks):
            x, log_det = block.draw(x)
            total = total - log_det
        return x, total

    @staticmethod
    def _normal(x):
        return (-0.5 * (x**2 + math.log(2 * math.pi))).sum((1, 2))


class Training:
    """Steps of maximum likelihood by AdamW with a clipped gradient, on one fixed batch."""

    def __init__(self, flow: Flow, batch: int, *, compiled: bool):
        self._flow = flow
        self._log_probs = torch.compile(flow) if compiled else flow
        self._optimiser = torch.optim.AdamW(flow.parameters(), lr=1e-4)
        self._x = torch.randn(batch, *flow.shape, generator=torch.Generator().manual_seed(0))

    def __call__(self) -> None:
        self._optimiser.zero_grad()
        loss = -self._log_probs(self._x).mean()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self._flow.parameters(), 1.0)
        self._optimiser.step()
