"""What `edge install --to` runs on the other machine: three short shell scripts.

They need nothing but a Debian or Ubuntu system. The last one is a file there, and is not a child of
the link: it comes to its end if the link drops.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping

# Where files are kept until they are installed: a folder of the account's own. Without it nothing
# is done: CLEAR, in another folder, would remove what is not ours
STAGE = """set -e
stage="${XDG_CACHE_HOME:-$HOME/.cache}/edge-install"
mkdir -p "$stage" && cd "$stage" || {
    echo "no place for the files in $stage: see that this account may write there" >&2
    exit 1
}"""

# $wanted: the version of the package that is to be installed, or blank
PROBE = """
set -eu
echo "user=$(id -un)"
if [ "$(id -u)" = 0 ]; then echo root=yes
elif sudo -n true 2>/dev/null; then echo root=sudo
else echo root=no; fi
echo "processor=$(dpkg --print-architecture 2>/dev/null || uname -m)"
echo "edge=$(command -v edge || true)"
version_of() {
    dpkg-query --show --showformat='${db:Status-Status} ${Version}' "$1" 2>/dev/null |
        sed -n 's/^installed //p' || true
}
version=$(version_of edge-station)
echo "version=$version"
echo "python=$(version_of python3)"
if [ -z "$version" ] || { [ -n "$wanted" ] && dpkg --compare-versions "$wanted" gt "$version"; }
then echo newer=yes; else echo newer=no; fi
"""

# $name: of the file; how much of it is there, or "whole"
ASK_SIZE = """
chmod 700 .
if [ -f "$name" ]; then echo whole; else stat -c %s "$name.part" 2>/dev/null || echo 0; fi
"""

# $name, $size, $sha256: of the file; standard input: what is missing of it
APPEND = """
cat >> "$name.part"
if [ "$(stat -c %s "$name.part")" -ge "$size" ]; then
    if echo "$sha256  $name.part" | sha256sum --check --status
    then sync "$name.part"; mv "$name.part" "$name"; echo whole
    else rm "$name.part"; echo damaged; fi
else echo short; fi
"""

# $run: name of the file for $steps, $sudo: how to become root. setsid: the steps have no
# terminal and no link that could take them along
LAUNCH = """
printf %s "$steps" > "$run"
: > "$run.log"
setsid sh -c "$sudo sh ./$run > $run.log 2>&1 < /dev/null; echo \\$? > $run.code" &
tail -n +1 -s 0.2 -f --pid=$! "$run.log" || true
wait $! || true
exit "$(cat "$run.code" 2> /dev/null || echo 1)"
"""

# $package, $bundle, $keys: names of files here, blank where there are none; $root, $station, $more:
# for `edge install`
STEPS = """
set -eu
exec 9> lock
flock -n 9 || {
    echo "an installation that was started earlier still runs here: waiting for its end"
    flock -w 3600 9 || { echo "it did not end within an hour: see what it does"; exit 1; }
}
for file in $package $bundle $keys; do
    [ -f "$file" ] || { echo "$file is gone meanwhile: give the same command again"; exit 1; }
done
if [ -n "$package" ]; then
    echo "-- package $package"
    export DEBIAN_FRONTEND=noninteractive
    dpkg --configure -a || true
    apt-get --quiet --yes --no-install-recommends -o DPkg::Lock::Timeout=300 \\
        -o APT::Sandbox::User=root install "$PWD/$package"
fi
command -v edge > /dev/null || { echo "no command edge here after all: install again"; exit 1; }
for key in $keys; do
    if edge trust list --root "$root" | grep -q "^${key%.pub} "
    then echo "-- key ${key%.pub} is trusted already"
    else echo "-- edge trust add"; edge trust add "$key" --root "$root"; fi
done
echo "-- edge install"
edge install "$bundle" --root "$root" ${station:+--station "$station"} $more > "$0.out" || {
    code=$?; cat "$0.out"; exit $code
}
cat "$0.out"
product=$(sed -n 's/^\\(already \\)\\{0,1\\}installed \\([^ ]*\\) .*/\\2/p' "$0.out")
echo "-- edge verify"
edge verify --root "$root" --product "$product"
if edge doctor --help > /dev/null 2>&1; then
    echo "-- edge doctor"
    edge doctor --root "$root" || echo "the bundle is installed; what is wrong above is not mended"
fi
"""

# $run, $package, $bundle, $keys: names of files that are needed no more; a week old: of runs that
# nobody came back to
CLEAR = """
rm -f "$run" "$run".* $package $bundle $keys
find . -type f -mtime +7 -delete
"""


def with_values(script: str, **values: str) -> str:
    """A script that begins in the stage, with these variables."""
    return f"{STAGE}\n{assignments(values)}{script}"


def assignments(values: Mapping[str, str]) -> str:
    """Shell variables, a line each."""
    return "".join(f"{name}={shlex.quote(value)}\n" for name, value in values.items())
