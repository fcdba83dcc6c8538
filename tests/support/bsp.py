"""A stand-in for NVIDIA's Linux_for_Tegra: the same names and places, and tools that check what
they are called with as the real ones do, write down the call, and flash nothing.

Written from NVIDIA's documentation; not a line of it is NVIDIA's.
"""

from __future__ import annotations

from pathlib import Path

CALLS = "calls.txt"
COMMON = r"""#!/bin/bash
set -eu
die() { echo "Error: $*" >&2; exit 1; }
if [ -e flash.sh ]; then top=$PWD; else die "run this in Linux_for_Tegra"; fi
{
    printf '%s' "$(basename "$0")"
    printf ' [%s]' "$@"
    echo " overlay=${ADDITIONAL_DTB_OVERLAY_OPT:-}"
} >> "$top/calls.txt"
echo "this is the stand-in of $(basename "$0")"
if [ -e "$top/fail" ]; then
    echo "ERROR: might be timeout in USB write."; rm "$top/fail"; exit 3
fi
board() { [ -f "$top/$1.conf" ] || die "Invalid target board - $1."; }
rootdev() {
    case "$1" in
        internal | external | mmcblk* | nvme* | sda*) ;;
        *) die "Invalid rootdev $1" ;;
    esac
}
"""
FLASH = (
    COMMON
    + r"""
[ $# -eq 2 ] || die "usage: flash.sh [options] <target_board> <rootdev>"
board "$1"; rootdev "$2"
"""
)
INITRD_FLASH = (
    COMMON
    + r"""
external= layout= network= no_flash= only= mass=
while [ $# -gt 0 ]; do case "$1" in
    --external-device) external=$2; shift 2 ;;
    -c) layout=$2; [ -f "$2" ] || die "no partition layout $2"; shift 2 ;;
    -p) [ -f "${2#-c }" ] || die "no partition layout ${2#-c }"; shift 2 ;;
    --network) network=$2; case "$2" in usb0|eth0:*) ;; *) die "network $2" ;; esac; shift 2 ;;
    --massflash) mass=$2; [ "$2" -ge 1 ] || die "massflash $2"; shift 2 ;;
    --no-flash) no_flash=1; shift ;;
    --flash-only) only=1; shift ;;
    --showlogs) shift ;;
    -*) die "unknown option $1" ;;
    *) break ;;
esac; done
board "$1"
[ -z "$mass" ] || [ -n "$network" ] || die "massflash needs --network"
if [ -n "$only" ]; then
    [ -f "$top/mfi_$1.tar.gz" ] || die "no images: run --no-flash first"
else
    [ $# -eq 2 ] || die "usage: l4t_initrd_flash.sh [options] <board-name> <rootdev>"
    rootdev "$2"
    [ -z "$external" ] || [ -n "$layout" ] || die "--external-device needs -c"
    [ "$2" != external ] || [ -n "$external" ] || die "external needs --external-device"
fi
if [ -n "$no_flash" ]; then touch "$top/mfi_$1.tar.gz"; exit 0; fi
mkdir -p "$top/initrdlog"
for number in $(seq 0 $((${mass:-1} - 1))); do
    echo "Flash is successful" > "$top/initrdlog/flash_1-$number""_0_20260101-120000.log"
done
"""
)
CREATE_USER = (
    COMMON
    + r"""
user= password= host= accepted=
while [ $# -gt 0 ]; do case "$1" in
    -u) user=$2; shift 2 ;;
    -p) password=$2; shift 2 ;;
    -n) host=$2; shift 2 ;;
    --accept-license) accepted=1; shift ;;
    *) die "unknown option $1" ;;
esac; done
[ -n "$accepted" ] || { read -r accepted || die "the license is not accepted"; }
[ -n "$user" ] && [ -n "$password" ] || die "user and password are needed"
! grep -q "^$user:" rootfs/etc/passwd || die "User - $user already exists"
id=1000  # where the tests are not run by root, whoever runs them
[ "$(id -u)" = 0 ] || id=$(id -u)
echo "$user:x:$id:$id::/home/$user:/bin/bash" >> rootfs/etc/passwd
mkdir -p "rootfs/home/$user"
rm -f rootfs/etc/systemd/system/default.target
echo "$host" > rootfs/etc/hostname
"""
)
CONFIGURATIONS = (
    "jetson-orin-nano-devkit",
    "jetson-orin-nano-devkit-super",
    "jetson-agx-orin-devkit",
    "jetson-agx-thor-devkit",
)
LAYOUTS = (
    "tools/kernel_flash/flash_l4t_external.xml",
    "tools/kernel_flash/flash_l4t_t234_nvme.xml",
    "tools/kernel_flash/flash_l4t_t264_nvme.xml",
    "bootloader/generic/cfg/flash_t234_qspi.xml",
)
POWER = """\
< PARAM TYPE=FILE NAME=CPU_ONLINE >
CORE_0 /sys/devices/system/cpu/cpu0/online
< POWER_MODEL ID=0 NAME=15W >
CPU_ONLINE CORE_0 1
GPU MAX_FREQ 612000000
< POWER_MODEL ID=1 NAME=25W >
CPU_ONLINE CORE_0 1
GPU MAX_FREQ 918000000
< POWER_MODEL ID=2 NAME=MAXN_SUPER >
CPU_ONLINE CORE_0 1
GPU MAX_FREQ -1
< PM_CONFIG DEFAULT=1 >
"""


def make_bsp(folder: Path, linux: str = "36.4.4") -> Path:
    """A BSP with an applied root file system of this Jetson Linux; returns Linux_for_Tegra."""
    top = folder / "Linux_for_Tegra"
    major, _, revision = linux.partition(".")
    files = {
        "apply_binaries.sh": COMMON,
        "flash.sh": FLASH,
        "tools/l4t_create_default_user.sh": CREATE_USER,
        "tools/kernel_flash/l4t_initrd_flash.sh": INITRD_FLASH,
        **{f"{name}.conf": "# stand-in\n" for name in CONFIGURATIONS},
        **dict.fromkeys(LAYOUTS, "<!-- stand-in -->\n"),
        "rootfs/etc/nv_tegra_release": f"# R{major} (release), REVISION: {revision}, GCID: 1\n",
        "rootfs/etc/passwd": "root:x:0:0:root:/root:/bin/bash\n",
        "rootfs/etc/hosts": "127.0.0.1 localhost\n127.0.1.1 ubuntu\n",
        "rootfs/etc/nvpmodel/nvpmodel_p3767_0003_super.conf": POWER,
        "rootfs/etc/nvpmodel/nvpmodel_p3767_0003.conf": POWER.replace(
            "ID=1 NAME=25W", "ID=1 NAME=7W"
        ),
    }
    for name, text in files.items():
        path = top / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        if path.suffix == ".sh":
            path.chmod(0o755)
    apply_binaries(top)
    program = top / "rootfs/usr/bin/env"
    program.parent.mkdir(parents=True)
    header = b"\x7fELF\x02\x01\x01" + bytes(9) + b"\x02\x00"
    program.write_bytes(header + (183).to_bytes(2, "little") + bytes(44))
    return top


def apply_binaries(top: Path) -> None:
    """What NVIDIA's script does to the first start, each time."""
    link = top / "rootfs/etc/systemd/system/default.target"
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to("/lib/systemd/system/nv-oem-config.target")


def plug_in(root: Path, *products: str, vendor: str = "0955") -> Path:
    """A /sys under `root` with a USB device for each product number; returns `root`."""
    for number, product in enumerate(products):
        device = root / "sys/bus/usb/devices" / f"1-{number}"
        device.mkdir(parents=True)
        (device / "idVendor").write_text(f"{vendor}\n")
        (device / "idProduct").write_text(f"{product}\n")
        (device.parent / f"1-{number}:1.0").mkdir()  # its interface
    return root


def calls(top: Path) -> list[str]:
    """What NVIDIA's tools were called with, without a password."""
    path = top / CALLS
    return path.read_text().splitlines() if path.exists() else []
