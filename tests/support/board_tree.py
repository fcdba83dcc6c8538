"""A stand-in of a Jetson: a tree of the files that NVIDIA's system and the kernel have, in their
form, and programs in the place of nvpmodel and jetson_clocks. No board was read for it: the forms
are those that NVIDIA's guides and public logs of boards show.
"""

from __future__ import annotations

import os
from pathlib import Path

NVPMODEL_CONF = """\
#
# FORMAT:
# < PARAM TYPE=PARAM_TYPE NAME=PARAM_NAME >
< PARAM TYPE=FILE NAME=CPU_ONLINE >
CORE_0 /sys/devices/system/cpu/cpu0/online
< PARAM TYPE=CLOCK NAME=GPU >
FREQ_TABLE /sys/devices/platform/17000000.gpu/devfreq_dev/available_frequencies

< POWER_MODEL ID=0 NAME=15W >
CPU_ONLINE CORE_0 1
CPU_A78_0 MAX_FREQ 1497600
GPU MIN_FREQ 0
GPU MAX_FREQ 612000000
EMC MAX_FREQ 2133000000

< POWER_MODEL ID=1 NAME=25W >
GPU MAX_FREQ 918000000

< POWER_MODEL ID=2 NAME=MAXN_SUPER >
GPU MAX_FREQ -1

# mandatory section to configure the default power mode
< PM_CONFIG DEFAULT=1 >
"""
# keeps the number as the real one does; refuses a mode that it does not know; a mode that needs a
# reboot asks, and without an answer changes nothing
NVPMODEL = r"""#!/bin/sh
top=$(cd "$(dirname "$0")/../.." && pwd)
kept=$top/var/lib/nvpmodel/status
conf=$top/etc/nvpmodel.conf
case "$1" in
-q)
    id=$(sed 's/pmode:0*\(.\)/\1/' "$kept")
    name=$(sed -n "s/^< POWER_MODEL ID=$id NAME=\([^ ]*\) >/\1/p" "$conf")
    echo "NV Power Mode: $name"
    echo "$id"
    echo "NVPM ERROR: failed to read PARAM EMC: ARG MAX_FREQ" >&2
    ;;
-m)
    echo "$*" >>"$top/asked"
    grep -q "^< POWER_MODEL ID=$2 " "$conf" || { echo "NVPM ERROR: invalid"; exit 255; }
    if [ -e "$top/reboot-needed" ]; then
        printf 'NVPM WARN: Reboot required. DO YOU WANT TO REBOOT NOW? enter YES/yes to confirm: '
        read -r answer && [ "$answer" = yes ] || exit 0
    fi
    printf 'pmode:%04d' "$2" >"$kept"
    echo 306000000 >"$top/sys/class/devfreq/17000000.gpu/min_freq"  # a mode sets its own clocks
    ;;
esac
"""
JETSON_CLOCKS = r"""#!/bin/sh
top=$(cd "$(dirname "$0")/../.." && pwd)
echo "clocks $*" >>"$top/asked"
gpu=$top/sys/class/devfreq/17000000.gpu
cpu=$top/sys/devices/system/cpu/cpu0/cpufreq
case "$1" in
--store) [ -e "$top$2" ] && { echo "File $2 already exists. Can not store!"; exit 1; }
    mkdir -p "$top/run" && cat "$gpu/min_freq" >"$top$2" ;;
--restore) cp "$top$2" "$gpu/min_freq" && echo 115200 >"$cpu/scaling_min_freq" ;;
"") cp "$gpu/max_freq" "$gpu/min_freq"; cp "$cpu/scaling_max_freq" "$cpu/scaling_min_freq" ;;
esac
"""
GPU = "sys/class/devfreq/17000000.gpu"
CPU = "sys/devices/system/cpu/cpu0/cpufreq"
CAMERA = "sys/bus/usb/devices/2-1.4"
THERMAL = "sys/class/thermal"
FILES = {
    "etc/os-release": 'NAME="Ubuntu"\nPRETTY_NAME="Ubuntu 22.04.5 LTS"\n',
    "etc/nv_tegra_release": "# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic\n",
    "etc/nvpmodel.conf": NVPMODEL_CONF,
    "var/lib/nvpmodel/status": "pmode:0002",
    "proc/device-tree/model": "NVIDIA Jetson Orin Nano Engineering Reference Developer Kit Super\0",
    "proc/meminfo": (
        "MemTotal:        7802336 kB\nMemFree:          209612 kB\nMemAvailable:    5123456 kB\n"
        "SwapTotal:       3901152 kB\nSwapFree:        3901152 kB\nHugePages_Total:       0\n"
    ),
    "proc/swaps": (
        "Filename\t\t\tType\t\tSize\t\tUsed\t\tPriority\n"
        "/dev/zram0                              partition\t3901152\t\t0\t\t5\n"
    ),
    f"{GPU}/available_frequencies": "306000000 612000000 918000000 1020000000 \n",
    f"{GPU}/cur_freq": "306000000\n",
    f"{GPU}/min_freq": "306000000\n",
    f"{GPU}/max_freq": "1020000000\n",
    f"{CPU}/scaling_cur_freq": "729600\n",
    f"{CPU}/scaling_min_freq": "115200\n",
    f"{CPU}/scaling_max_freq": "1728000\n",
    f"{CPU}/cpuinfo_max_freq": "1728000\n",
    f"{THERMAL}/thermal_zone0/type": "cpu-thermal\n",
    f"{THERMAL}/thermal_zone0/temp": "52343\n",
    f"{THERMAL}/thermal_zone0/trip_point_0_type": "active\n",
    f"{THERMAL}/thermal_zone0/trip_point_0_temp": "45000\n",
    f"{THERMAL}/thermal_zone0/trip_point_1_type": "critical\n",
    f"{THERMAL}/thermal_zone0/trip_point_1_temp": "104500\n",
    f"{THERMAL}/thermal_zone0/trip_point_2_type": "passive\n",
    f"{THERMAL}/thermal_zone0/trip_point_2_temp": "99000\n",
    f"{THERMAL}/thermal_zone1/type": "cv0-thermal\n",  # powered down: it gives no temperature
    f"{THERMAL}/cooling_device0/type": "pwm-fan\n",
    f"{THERMAL}/cooling_device0/cur_state": "2\n",
    f"{THERMAL}/cooling_device1/type": "cpu-throttle-alert\n",
    f"{THERMAL}/cooling_device1/cur_state": "0\n",
    "sys/class/hwmon/hwmon3/name": "soctherm_oc\n",
    "sys/class/hwmon/hwmon3/oc1_event_cnt": "0\n",
    "sys/class/hwmon/hwmon3/oc3_event_cnt": "0\n",
    "sys/module/uvcvideo/version": "1.1.1-realsense-1.3.28\n",
    "usr/lib/udev/rules.d/99-realsense.rules": (
        'SUBSYSTEM=="usb", ATTRS{idVendor}=="8086", ATTRS{idProduct}=="0b5c", MODE:="0666"\n'
    ),
    f"{CAMERA}/idVendor": "8086\n",
    f"{CAMERA}/idProduct": "0b5c\n",
    f"{CAMERA}/product": "Intel(R) RealSense(TM) Depth Camera 455\n",
    f"{CAMERA}/serial": "243522071234\n",
    f"{CAMERA}/speed": "5000\n",
    f"{CAMERA}/busnum": "2\n",
    f"{CAMERA}/devnum": "3\n",
    f"{CAMERA}/power/control": "on\n",
    f"{CAMERA}/power/autosuspend_delay_ms": "2000\n",
    "sys/bus/usb/devices/1-3/idVendor": "8086\n",  # a Bluetooth radio
    "sys/bus/usb/devices/1-3/product": "AX200 Bluetooth\n",
    "dev/bus/usb/002/003": "",
    "sys/block/mmcblk0/device/life_time": "0x01 0x02\n",
}


def lay_board(root: Path) -> Path:
    """An Orin Nano in MAXN_SUPER under `root`, a camera at its USB port; returns `root`."""
    for place, text in FILES.items():
        put(root, place, text)
    (root / "dev/bus/usb/002/003").chmod(0o666)
    put(root, "usr/sbin/nvpmodel", NVPMODEL).chmod(0o755)
    put(root, "usr/bin/jetson_clocks", JETSON_CLOCKS).chmod(0o755)
    lay_disk(root, "mmcblk0p1")
    return root


def lay_disk(root: Path, partition: str) -> None:
    """Let the file system that `root` really lies on be a partition of this name."""
    device = root.stat().st_dev
    link = root / f"sys/dev/block/{os.major(device)}:{os.minor(device)}"
    target = root / "sys/devices/platform/block" / partition
    target.mkdir(parents=True, exist_ok=True)
    link.parent.mkdir(parents=True, exist_ok=True)
    link.unlink(missing_ok=True)
    link.symlink_to(os.path.relpath(target, link.parent))


def put(root: Path, place: str, text: str) -> Path:
    """Write one file of the tree."""
    path = root / place
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def asked(root: Path) -> list[str]:
    """What the programs were asked to change, one line each."""
    path = root / "asked"
    return path.read_text().splitlines() if path.exists() else []
