"""Provenance holds what one needs to run the same thing again."""

import json

from heatbath.io import provenance


def test_provenance_is_complete_and_plain_json():
    """A result whose version, seed or precision is unknown cannot be reproduced."""
    record = provenance.gather(seed=5, argv=["heatbath", "sample", "double-well"])
    assert record["seed"] == 5
    assert record["x64"] is True
    assert record["packages"]["jax"]
    assert record["devices"]
    assert record["segments"] == []
    assert json.loads(json.dumps(record)) == record
    assert record["commit"] is None or len(record["commit"]) == 40
