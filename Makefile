# make demo and make test work on a fresh Debian 12 or Ubuntu 22.04 (x86-64), as root or with sudo,
# any number of times. `make` alone lists the targets: the words behind ## are their help.
.PHONY: help demo test lint types endurance deb install install-brokers

help:  ## list these targets
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' Makefile | expand -t 17

demo: install  ## make parts, train, export, install and judge them, all in ./demo (minutes)
	@.venv/bin/python scripts/demo.py demo

test: install-brokers lint types  ## lint, types, tests; also on JetPack's Pythons if they are here
	@scripts/test_jetpack_pythons.sh
	@.venv/bin/python -m pytest -n 2 --dist loadgroup \
		--passed-elsewhere=.venv/jetpack-3.10/passed \
		--passed-elsewhere=.venv/jetpack-3.12/passed

lint: install  ## ruff check, and ruff format --check
	@.venv/bin/ruff check .
	@.venv/bin/ruff format --check --quiet .

types: install  ## mypy, strict
	@.venv/bin/mypy

endurance:  ## what takes long: real images, faults, kills, 10,000 triggers of each dialect, booted roots
	@scripts/install.sh endurance
	@.venv/bin/python scripts/make_deb.py || echo "no package was built: tests that need one are skipped"
	@scripts/test_jetpack_pythons.sh all
	@.venv/bin/python -m pytest -s -m long tests/endurance
	@.venv/bin/python -m pytest -n 2 -m "long and not gpu and not jetson" --ignore tests/endurance

deb: install  ## the Debian packages of a station, into build/deb; make deb TARGET=bookworm-amd64
	@.venv/bin/python scripts/make_deb.py $(TARGET)

install:  ## Debian packages and .venv; does nothing if nothing changed
	@scripts/install.sh

install-brokers: install  ## further MQTT brokers for the tests
	@scripts/install.sh test
