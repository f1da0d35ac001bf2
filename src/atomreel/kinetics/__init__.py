"""Events to numbers with intervals."""
