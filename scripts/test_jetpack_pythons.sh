#!/usr/bin/env bash
# Test edge and calibration with the Pythons of JetPack 6 (3.10) and 7 (3.12), if they are here.
# The environments hold what a station has: neither torch nor other packages of the trainer. The
# endurance tests run only in .venv. What passed is written to .venv/jetpack-*/passed.
set -euo pipefail
cd "$(dirname "$0")/.."

find_python() { # the newest patch release under pyenv, else the one on PATH
    local found
    found=$(ls -d "${PYENV_ROOT:-$HOME/.pyenv}"/versions/"$1".*/bin/python 2>/dev/null | sort -V | tail -n 1)
    [ -n "$found" ] || found=$(command -v "python$1" || true)
    echo "$found"
}

lean_on_it=(
    tests/test_imports.py tests/edge/{camera,cli,provision,opcua} tests/edge/test_config.py
    tests/edge/line/test_{consumers,credentials,modbus_server,mqtt,opcua,outbox}.py
    tests/edge/runtime/test_{at_work,exit,run_process,triggered,triggering,workers}.py
    tests/edge/test_bounded.py tests/edge/install/test_install.py
    tests/edge/station/test_keys.py tests/edge/station/test_store.py
)

rm -f .venv/jetpack-*/passed
for version in 3.10 3.12; do
    python=$(find_python "$version")
    if [ -z "$python" ]; then
        echo "Python $version is not here: edge and calibration were not tested with it"
        continue
    fi
    folder=.venv/jetpack-$version
    stamp=$folder/.installed
    wanted=$(sha256sum pyproject.toml | cut -d' ' -f1)
    if [ ! -f "$stamp" ] || [ "$(cat "$stamp")" != "$wanted" ]; then
        "$python" -m venv "$folder"
        "$folder/bin/python" -m pip install -q --disable-pip-version-check -e '.[camera,test]'
        echo "$wanted" > "$stamp"
    fi
    # The oldest Python runs all tests; the newest those that depend on the standard library, or all
    # tests with "all".
    tests=(tests)
    [ "$version" = 3.10 ] || [ "${1:-}" = all ] || tests=("${lean_on_it[@]}")
    echo "edge and calibration on Python $version: ${tests[*]}"
    "$folder/bin/python" -m pytest -q -n 3 --dist loadgroup -p no:cacheprovider --durations=3 \
        --write-passed "$folder/passed" \
        -m "not endurance and not long and not gpu and not jetson" \
        --ignore=tests/trainer --ignore=tests/benchmarks --ignore=tests/docs/test_morning.py "${tests[@]}"
done
