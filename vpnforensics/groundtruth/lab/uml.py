"""Hosts on their own kernel: User-Mode Linux, with its own clock and its own modules.

A namespace shares the machine's clock and kernel, so no two namespaces can differ in clock rate, and none can
do what the machine's kernel was built without (IPsec, say). A User-Mode-Linux kernel keeps its own time, and
``adjtimex`` inside it sets a rate error that its TCP timestamps show; it brings modules of its own. It sees
the machine's files (``hostfs``), so programs, keys and configurations are the same; its network is the lines
that it is given (``eth0`` and on), and a management line over which programs are started in it.

Its network driver is the old ``tuntap`` one: the newer ``vec`` driver insists on segmentation and checksum
offload, and so puts unfinished packets on the line. Such a host is named ``NAMESPACE@ADDRESS``: the
namespace that its lines end in, and its management address. Its kernel has no nftables families, so its IP
IDs are what Linux makes them.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from vpnforensics.groundtruth.lab.network import DNS_ADDRESS, mac
from vpnforensics.groundtruth.lab.processes import UML_AGENT, UML_PORT, Processes

PROGRAMS = {"linux.uml": "user-mode-linux", "busybox": "busybox"}
MAX_PPM = 500
"""What the kernel's frequency correction can do."""
_MODULE_TREE = Path("/usr/lib/uml/modules")

_BOOT_TIMEOUT_S = 40
_TAP_QUEUE = "4000"
"""Packets: a User-Mode-Linux kernel fetches them in bursts."""

_INIT = """#!/bin/sh
export PATH=/usr/sbin:/usr/bin:/sbin:/bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mkdir -p /dev/pts /dev/shm /dev/net
mount -t devpts devpts /dev/pts
mount -t tmpfs shm /dev/shm
mount --bind {folder}/resolv.conf /etc/resolv.conf
{modules}[ -e /dev/net/tun ] || mknod /dev/net/tun c 10 200
for key in /proc/sys/net/ipv6/conf/*/disable_ipv6; do [ -e $key ] && echo 1 >$key; done
ip link set lo up
{lines}{setup}busybox adjtimex -q -f {frequency} >/dev/null
exec {python} -I -S {agent} serve {port}
"""


def unsupported() -> tuple[str, ...]:
    """Why the installed User-Mode Linux does not run here, found by starting it; empty where it does.

    Some processors have registers that it cannot save (Linux 6.1: ``ptrace set fp regs failed``).
    """
    program = shutil.which("linux.uml")
    return _refusal(program) if program else ()  # it may be installed later


@cache
def _refusal(program: str) -> tuple[str, ...]:
    with tempfile.TemporaryDirectory() as folder:
        init = Path(folder) / "init"
        init.write_text("#!/bin/sh\nexit 0\n")
        init.chmod(0o755)
        argv = [
            program,
            "mem=64M",
            "rootfstype=hostfs",
            "rootflags=/",
            f"init={init}",
            f"uml_dir={folder}",
        ]
        argv += ["con=null", "con0=null,fd:1", "quiet"]
        try:
            done = subprocess.run(
                argv, stdin=subprocess.DEVNULL, capture_output=True, timeout=_BOOT_TIMEOUT_S, check=False
            )
        except subprocess.TimeoutExpired:
            return ("User-Mode Linux, which does not start on this machine",)
    if b"ptrace set fp regs failed" in done.stdout + done.stderr:
        return ("User-Mode Linux, which cannot save this processor's registers",)
    return ()


@dataclass(frozen=True, slots=True)
class Line:
    """A line of a host, seen from inside.

    Parameters
    ----------
    tap : str
        The tap device that the line ends in, in the host's namespace.
    mac : str
        Of the host's interface.
    address : str
        Of the host's interface, with its prefix length.
    neighbours : tuple of (str, str)
        Addresses on the line and their MACs: nothing but IPv4 crosses the links.
    """

    tap: str
    mac: str
    address: str
    neighbours: tuple[tuple[str, str], ...] = ()


def boot(
    name: str,
    namespace: str,
    number: int,
    lines: Sequence[Line],
    processes: Processes,
    *,
    clock_ppm: float = 0.0,
    modules: Sequence[str] = (),
    setup: Sequence[str] = (),
) -> str:
    """Start a host and return its name at once; :func:`wait_until_up` waits for it.

    Parameters
    ----------
    name : str
        What its process and folder are called.
    namespace : str
        Where its lines end.
    number : int
        Unique in the run; sets its management address.
    lines : sequence of Line
        Its interfaces ``eth0`` and on; their taps are made.
    processes : Processes
        To start it with.
    clock_ppm : float
        Rate error of its clock.
    modules : sequence of str
        Kernel modules that it is to load.
    setup : sequence of str
        Shell commands once its lines are up.
    """
    folder = processes.state.folder / name
    folder.mkdir()
    near, far = f"172.30.{number}.1", f"172.30.{number}.2"
    management = Line(f"m{number}", mac(8, number), f"{far}/24")
    everything = [*lines, management]
    for line in everything:
        processes.run(namespace, ["ip", "tuntap", "add", line.tap, "mode", "tap"])
        processes.run(namespace, ["ip", "link", "set", line.tap, "txqueuelen", _TAP_QUEUE, "up"])
    processes.run(namespace, ["ip", "addr", "add", f"{near}/24", "dev", management.tap])
    (folder / "resolv.conf").write_text(f"nameserver {DNS_ADDRESS}\noptions timeout:2 attempts:3\n")
    init = folder / "init"
    init.write_text(
        _INIT.format(
            folder=folder,
            modules=_insmod(modules),
            lines="".join(_raise(f"eth{i}", line) for i, line in enumerate(everything)),
            setup="".join(f"{command}\n" for command in setup),
            frequency=round(clock_ppm * 65536),
            python=sys.executable,
            agent=UML_AGENT,
            port=UML_PORT,
        )
    )
    init.chmod(0o755)
    argv: list[str | Path] = ["linux.uml", "mem=384M", "rootfstype=hostfs", "rootflags=/", "rw"]
    argv += [f"init={init}", f"uml_dir={folder}", f"umid={processes.state.run_id}-{number}"]
    argv += [f"eth{i}=tuntap,{line.tap},{line.mac}" for i, line in enumerate(everything)]
    argv += ["con=null", "con0=null,fd:1", "quiet"]
    processes.start(name, namespace, argv)
    return f"{namespace}@{far}"


def wait_until_up(place: str, processes: Processes) -> None:
    """Wait until programs can be started in a host.

    Raises
    ------
    ScenarioError
        It did not come up.
    """
    processes.wait_for(place, lambda: processes.succeeds(place, ["true"]), timeout_s=_BOOT_TIMEOUT_S)


def _raise(dev: str, line: Line) -> str:
    """Shell lines that address an interface and bring it up; it has no offloads but these two."""
    text = f"ethtool -K {dev} gso off gro off\n"
    text += f"ip link set {dev} up\nip addr add {line.address} dev {dev}\n"
    return text + "".join(f"ip neigh add {a} lladdr {m} dev {dev}\n" for a, m in line.neighbours)


def missing_modules(wanted: Sequence[str]) -> tuple[str, ...]:
    """Kernel modules, of those wanted, that Debian's User-Mode-Linux kernel is not installed with."""
    known = _modules()
    return tuple(f"the module {name}" for name in wanted if name not in known)


def _modules() -> dict[str, list[Path]]:
    """The newest kernel's modules by name: files to load, in order; none where it is built in."""
    trees = sorted(_MODULE_TREE.glob("*"))
    return _modules_of(trees[-1]) if trees else {}  # it may be installed later


@cache
def _modules_of(tree: Path) -> dict[str, list[Path]]:
    found: dict[str, list[Path]] = {}
    for line in (tree / "modules.builtin").read_text().splitlines():
        found[Path(line).stem] = []
    for line in (tree / "modules.dep").read_text().splitlines():
        path, needs = line.split(":", 1)
        found[Path(path).stem] = [tree / file for file in (*reversed(needs.split()), path)]
    return found


def _insmod(wanted: Sequence[str]) -> str:
    """Shell lines that load modules (the host may lack modprobe)."""
    known = _modules()
    return "".join(f"busybox insmod {path}\n" for path in dict.fromkeys(p for w in wanted for p in known[w]))
