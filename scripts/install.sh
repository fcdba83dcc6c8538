#!/usr/bin/env bash
# Install what `make demo` and `make test` need: missing Debian packages, then .venv.
# Does nothing if neither pyproject.toml nor this file has changed.
set -euo pipefail
cd "$(dirname "$0")/.."

packages=(mosquitto libusb-1.0-0 g++ python3-venv)
# with `install.sh test`; tests that need a missing one are skipped with a message
other_peers=(ejabberd rabbitmq-server mbpoll chromium openssh-server)
# with `install.sh endurance`, likewise: roots of Debian, booted and under qemu; a fleet's files
root_tools=(mmdebstrap arch-test systemd-container qemu-user-static lintian cpio binutils)

missing_of() {
    for package in "$@"; do
        dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q "ok installed" || echo "$package"
    done
}

# Demo and tests start the brokers themselves, on ports of their own: Debian's services are neither
# started (by a temporary policy-rc.d, unless there is one) nor enabled.
install_packages() {
    local as_root="" policy=/usr/sbin/policy-rc.d
    [ "$(id -u)" = 0 ] || as_root="sudo"
    echo "installing $*"
    $as_root apt-get update -qq
    if [ ! -e "$policy" ]; then
        trap "$as_root rm -f $policy" EXIT
        printf '#!/bin/sh\nexit 101\n' | $as_root tee "$policy" >/dev/null
        $as_root chmod 755 "$policy"
    fi
    $as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >/dev/null 2>&1 || return 1
    for package in "$@"; do
        $as_root systemctl disable -q "${package/openssh-server/ssh}" >/dev/null 2>&1 || true
    done
}

mapfile -t missing < <(missing_of "${packages[@]}")
[ ${#missing[@]} = 0 ] || install_packages "${missing[@]}" || { echo "apt-get install ${missing[*]} failed: run it by hand to see why" >&2; exit 1; }
if [ -n "${1:-}" ]; then
    [ "$1" = test ] || other_peers+=("${root_tools[@]}")
    mapfile -t missing < <(missing_of "${other_peers[@]}")
    [ ${#missing[@]} = 0 ] || install_packages "${missing[@]}" || echo "not available here: ${missing[*]}; the tests that need them are skipped"
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
