"""The papers' modules, one idea a file."""
