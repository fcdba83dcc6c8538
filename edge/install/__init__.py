"""From a bundle file to the engine that judges: installation, its proof on this machine, and
verification.
"""
