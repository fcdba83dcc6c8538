"""Bundles: manifest, signature, archive, the slots of a station and the installation."""
