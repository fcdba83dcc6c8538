# make demo and make test work on a fresh Debian 12 or Ubuntu 22.04 (x86-64), as root or with sudo, any number of times.
.PHONY: demo test endurance lint types install install-brokers help

help:
	@echo "make demo   install, then the whole way in small into ./demo: parts, training, bundle, station, verdicts"
	@echo "make endurance   install, then what takes minutes: detectors on real images, 200 faults of a station's surroundings"
	@echo "make test   install, then lint, types, the JetPack Pythons where they are present, and the whole test suite"

install:
	@scripts/install.sh

install-brokers: install
	@scripts/install.sh test

demo: install
	@.venv/bin/python scripts/demo.py demo

lint: install
	@.venv/bin/ruff check .
	@.venv/bin/ruff format --check --quiet .

types: install
	@.venv/bin/mypy

endurance: install-brokers
	@scripts/test_jetpack_pythons.sh all
	@.venv/bin/python -m pytest -s -m long tests/endurance
	@.venv/bin/python -m pytest -n 2 -m "long and not gpu and not jetson" --ignore tests/endurance

test: install-brokers lint types
	@scripts/test_jetpack_pythons.sh
	@.venv/bin/python -m pytest -n 2 --dist loadgroup
