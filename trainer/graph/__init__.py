"""The graph from sensor bytes to score."""
