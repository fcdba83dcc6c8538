"""NVIDIA's boards before they run: which there are, and how NVIDIA's tools flash them."""
