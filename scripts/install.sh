#!/usr/bin/env bash
# Everything that `make demo` and `make test` need: Debian packages where they are missing, then .venv.
# Runs again only when pyproject.toml or this file changed.
set -euo pipefail
cd "$(dirname "$0")/.."

packages=(mosquitto libusb-1.0-0 g++ python3-venv)
missing=()
for package in "${packages[@]}"; do
    dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q "ok installed" || missing+=("$package")
done
if [ ${#missing[@]} -gt 0 ]; then
    as_root=""
    [ "$(id -u)" = 0 ] || as_root="sudo"
    echo "installing ${missing[*]}"
    $as_root apt-get update -qq
    # The broker is started by the demo and the tests on a port of their own; Debian's service is not wanted.
    $as_root env DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
fi

stamp=.venv/.installed
wanted=$(cat pyproject.toml scripts/install.sh | sha256sum | cut -d' ' -f1)
[ -f "$stamp" ] && [ "$(cat "$stamp")" = "$wanted" ] && exit 0

python=""
for name in python3.11 python3.12 python3.10 python3.13 python3; do
    command -v "$name" >/dev/null && "$name" -c 'import sys, venv, ensurepip; sys.exit(not (3, 10) <= sys.version_info < (3, 14))' 2>/dev/null \
        && python="$name" && break
done
[ -n "$python" ] || { echo "no Python 3.10 to 3.13 with venv found: install python3-venv" >&2; exit 1; }

echo "installing into .venv with $python (some minutes the first time)"
[ -x .venv/bin/python ] || "$python" -m venv .venv
.venv/bin/python -m pip install -q --disable-pip-version-check -e '.[trainer,camera,rtx,dev]'
echo "$wanted" > "$stamp"
