"""A client on its own kernel: User-Mode Linux, with its own clock.

A namespace shares the machine's clock, so no two namespaces can differ in clock rate. A User-Mode-Linux
kernel keeps its own time, and ``adjtimex`` inside it sets a rate error that its TCP timestamps show. It sees
the machine's files (``hostfs``), so programs, keys and configurations are the same; its only network is
the access line (``eth0``) and a management line (``eth1``) over which programs are started in it.

Its network driver is the old ``tuntap`` one: the newer ``vec`` driver insists on segmentation and checksum
offload, and so puts unfinished packets on the line. Such a host is named ``NAMESPACE@ADDRESS``: the
namespace that its lines end in, and its management address. Its kernel has no nftables families, so its IP
IDs are what Linux makes them.
"""

from __future__ import annotations

import sys
from pathlib import Path

from vpnforensics.groundtruth.lab.network import SERVER_OUTER, Network, mac
from vpnforensics.groundtruth.lab.processes import UML_AGENT, UML_PORT, Processes

PROGRAMS = {"linux.uml": "user-mode-linux", "busybox": "busybox"}
MAX_PPM = 500
"""What the kernel's frequency correction can do."""
_MODULE_TREE = Path("/usr/lib/uml/modules")
_MODULES = ("tun",)

_INIT = """#!/bin/sh
export PATH=/usr/sbin:/usr/bin:/sbin:/bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mkdir -p /dev/pts /dev/shm /dev/net
mount -t devpts devpts /dev/pts
mount -t tmpfs shm /dev/shm
mount --bind {folder}/resolv.conf /etc/resolv.conf
{modules}[ -e /dev/net/tun ] || mknod /dev/net/tun c 10 200
ip link set lo up
for dev in eth0 eth1; do
  for feature in tso gso gro tx rx sg; do ethtool -K $dev $feature off 2>/dev/null; done
done
ip link set eth0 up
ip addr add {outer}/24 dev eth0
ip neigh add {server} lladdr {server_mac} dev eth0
ip link set eth1 up
ip addr add {management}/24 dev eth1
busybox adjtimex -q -f {frequency} >/dev/null
exec {python} -I -S {agent} serve {port}
"""


def _insmod() -> str:
    """Shell lines that load the modules and what they need, in order (the host may lack modprobe)."""
    lines: dict[str, None] = {}
    for table in sorted(_MODULE_TREE.glob("*/modules.dep"))[-1:]:
        needs = dict(line.split(":", 1) for line in table.read_text().splitlines())
        for path, others in needs.items():
            if Path(path).stem in _MODULES:
                for module in (*reversed(others.split()), path):
                    lines[f"busybox insmod {table.parent / module}\n"] = None
    return "".join(lines)


def start_uml(
    access: str,
    number: int,
    outer: str,
    clock_ppm: float,
    resolver: str,
    network: Network,
    processes: Processes,
) -> str:
    """Boot a host whose access line ends in the access namespace as ``cN``; return its name.

    Parameters
    ----------
    access : str
        The access emulator's namespace.
    number : int
        Of the client, from 1.
    outer : str
        Its address on the access network.
    clock_ppm : float
        Rate error of its clock.
    resolver : str
        Its name server.
    network, processes
        To build with.
    """
    folder = processes.state.folder / f"uml-{number}"
    folder.mkdir()
    near, far = f"172.30.{number}.1", f"172.30.{number}.2"
    for tap in (f"c{number}", f"m{number}"):
        processes.run(access, ["ip", "tuntap", "add", tap, "mode", "tap"])
        processes.run(access, ["ip", "link", "set", tap, "up"])
    processes.run(access, ["ip", "addr", "add", f"{near}/24", "dev", f"m{number}"])
    (folder / "resolv.conf").write_text(f"nameserver {resolver}\noptions timeout:2 attempts:3\n")
    init = folder / "init"
    fixed = {"server": SERVER_OUTER, "server_mac": mac(1, 1), "python": sys.executable, "agent": UML_AGENT}
    init.write_text(
        _INIT.format(
            **fixed,
            folder=folder,
            modules=_insmod(),
            outer=outer,
            management=far,
            frequency=round(clock_ppm * 65536),
            port=UML_PORT,
        )
    )
    init.chmod(0o755)
    argv: list[str | Path] = ["linux.uml", "mem=384M", "rootfstype=hostfs", "rootflags=/", "rw"]
    argv += [f"init={init}", f"uml_dir={folder}", f"umid={processes.state.run_id}-{number}"]
    argv += [f"eth0=tuntap,c{number},{mac(4, number)}", f"eth1=tuntap,m{number}"]
    argv += ["con=null", "con0=null,fd:1", "quiet"]
    processes.start(f"uml-{number}", access, argv)
    place = f"{access}@{far}"
    processes.wait_for(f"uml-{number}", lambda: processes.succeeds(place, ["true"]), timeout_s=40)
    return place
