"""NADE and MADE written in PyTorch, as one would: for comparisons of speed.

NADE takes all activations at once by a cumulative sum, (rows, columns, hidden) numbers, which is the fastest plain form there; MADE
multiplies its weights by masks. Same sizes, same optimiser.
"""

import itertools

import numpy as np
import torch
from torch import nn
from torch.nn import functional


class Nade(nn.Module):
    """Log probabilities of rows (n, d) of zeros and ones."""

    def __init__(self, columns: int, hidden: int):
        super().__init__()
        self.inputs = nn.Parameter(torch.randn(columns, hidden) / columns**0.5)
        self.bias = nn.Parameter(torch.zeros(hidden))
        self.heads = nn.Parameter(0.1 * torch.randn(columns, hidden) / hidden**0.5)
        self.head_bias = nn.Parameter(torch.zeros(columns))

    def forward(self, x):
        seen = torch.cumsum(x[:, :, None] * self.inputs, 1)
        seen = torch.cat([torch.zeros_like(seen[:, :1]), seen[:, :-1]], 1)
        logits = (torch.sigmoid(seen + self.bias) * self.heads).sum(-1) + self.head_bias
        return -functional.binary_cross_entropy_with_logits(logits, x, reduction="none").sum(1)


class Made(nn.Module):
    """Log probabilities of rows by masked layers; draws by as many passes as columns."""

    def __init__(self, columns: int, hidden: tuple[int, ...]):
        super().__init__()
        degrees = [np.arange(1, columns + 1), *(1 + np.arange(width) % (columns - 1) for width in hidden)]
        masks = [after[:, None] >= before[None, :] for before, after in itertools.pairwise(degrees)]
        masks.append(degrees[0][:, None] > degrees[-1][None, :])
        self.layers = nn.ModuleList([nn.Linear(mask.shape[1], mask.shape[0]) for mask in masks])
        for number, mask in enumerate(masks):
            self.register_buffer(f"mask{number}", torch.tensor(mask, dtype=torch.float32))

    def logits(self, x):
        for number, layer in enumerate(self.layers):
            x = functional.relu(x) if number else x
            x = functional.linear(x, layer.weight * getattr(self, f"mask{number}"), layer.bias)
        return x

    def forward(self, x):
        return -functional.binary_cross_entropy_with_logits(self.logits(x), x, reduction="none").sum(1)

    @torch.no_grad()
    def draw(self, rows: int):
        columns = self.layers[0].in_features
        x = torch.zeros(rows, columns)
        for place in range(columns):
            x[:, place] = torch.bernoulli(torch.sigmoid(self.logits(x)[:, place]))
        return x


class Orderless:
    """Log probabilities of rows (n, d) under an orderless NADE of one hidden layer with the given weights, by the recursion."""

    def __init__(self, inputs, flags, bias, heads, head_bias):
        arrays = (inputs, flags, bias, heads, head_bias)
        self._inputs, self._flags, self._bias, self._heads, self._head_bias = (
            torch.tensor(np.asarray(array)) for array in arrays
        )

    @torch.no_grad()
    def in_order(self, order, x):
        seen = self._bias.expand(len(x), -1).clone()
        total = torch.zeros(len(x), dtype=torch.float64)
        for site in order:
            logit = functional.relu(seen) @ self._heads[site] + self._head_bias[site]
            total += functional.logsigmoid((2 * x[:, site] - 1) * logit)
            seen += torch.outer(x[:, site], self._inputs[site]) + self._flags[site]
        return total


class Training:
    """An epoch of maximum likelihood by Adam with a clipped gradient, in batches of ``batch`` rows."""

    def __init__(self, model: nn.Module, rows: np.ndarray, batch: int, *, compiled: bool):
        self._model, self._rows, self._batch = model, torch.tensor(rows, dtype=torch.float32), batch
        self._log_probs = torch.compile(model) if compiled else model
        self._optimiser = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.0)

    def __call__(self) -> None:
        order = torch.randperm(len(self._rows))
        for start in range(0, len(self._rows) - self._batch + 1, self._batch):
            self._optimiser.zero_grad()
            loss = -self._log_probs(self._rows[order[start : start + self._batch]]).mean()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(self._model.parameters(), 10.0)
            self._optimiser.step()
