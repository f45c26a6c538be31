"""What can be told from a model card alone, without JAX."""

from heatbath.io.models import ModelCard


def is_density(card: ModelCard) -> bool:
    """Whether a card is that of a model of a table: it brings its own target."""
    return "table" in card.target
