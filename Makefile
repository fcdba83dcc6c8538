# make demo and make test work on a fresh Debian 12 or Ubuntu 22.04 (x86-64), as root or with sudo, any number of times.
.PHONY: demo test endurance lint types install help

help:
	@echo "make demo   install, then the whole way in small into ./demo: parts, training, bundle, station, verdicts"
	@echo "make endurance   install, then the tests that train for minutes: every detector finds what is broken on real images"
	@echo "make test   install, then lint, types, the JetPack Pythons where they are present, and the whole test suite"

install:
	@scripts/install.sh

demo: install
	@.venv/bin/python scripts/demo.py demo

lint: install
	@.venv/bin/ruff check .

types: install
	@.venv/bin/mypy

endurance: install
	@.venv/bin/python -m pytest -n 2 -m "long and not gpu and not jetson"

test: install lint types
	@scripts/test_jetpack_pythons.sh
	@.venv/bin/python -m pytest -n 2 --dist loadgroup
