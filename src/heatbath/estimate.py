"""An estimate: a number that knows its error, how it was made, and whether to believe it."""

import dataclasses
import math
from typing import Any

import numpy as np


@dataclasses.dataclass(frozen=True)
class Estimate:
    """The value of an estimator.

    ``value`` and ``standard_error`` have one shape (scalar or array) and one unit; ``n_eff`` is the number of independent
    draws that would give the same error (NaN when unknown); ``converged`` is the estimator's own verdict and ``notes`` its
    reasons, sentences for a reader.
    """

    value: Any
    standard_error: Any
    n_eff: float = math.nan
    method: str = ""
    converged: bool = True
    notes: tuple[str, ...] = ()
    unit: str = "1"

    def to_dict(self) -> dict:
        """Plain lists and numbers, for JSON."""
        fields = dataclasses.asdict(self)
        fields["value"] = np.asarray(self.value).tolist()
        fields["standard_error"] = np.asarray(self.standard_error).tolist()
        fields["n_eff"] = float(self.n_eff)
        fields["notes"] = list(self.notes)
        return fields

    def __str__(self) -> str:
        unit = "" if self.unit == "1" else f" {self.unit}"
        verdict = "" if self.converged else " (not converged)"
        if np.ndim(self.value) == 0:
            return f"{float(self.value):.6g} +- {float(self.standard_error):.2g}{unit}{verdict}"
        return f"array{np.shape(self.value)}{unit} by {self.method}{verdict}"
