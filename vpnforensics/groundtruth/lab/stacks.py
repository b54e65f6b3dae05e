"""Make a namespace look like another operating system, as far as the kernel allows.

Timestamps and TTL are sysctls; IP IDs are rewritten by nftables on the way out, for inner and outer
packets alike, so a global counter is shared by both, as on the systems it imitates.
"""

from __future__ import annotations

from collections.abc import Sequence

from vpnforensics.errors import ScenarioError
from vpnforensics.groundtruth.lab.network import DNS_ADDRESS, SERVER_OUTER, SSH_ADDRESS, Network
from vpnforensics.groundtruth.lab.processes import Processes
from vpnforensics.groundtruth.scenario import Stack

_TIMESTAMPS = {"none": 0, "per_connection": 1, "global": 2}
_COUNTER = "ip id set (numgen inc mod 65536 offset {start}) << 16"
"""Without the shift nftables writes the wrong half of the register, and the field stays zero."""


def refuse_impossible(stack: Stack, host: str, client: str) -> None:
    """Raise if the lab cannot imitate the stack.

    Raises
    ------
    ScenarioError
        What it cannot do, and for whom.
    """
    if stack.timestamps not in _TIMESTAMPS:
        raise ScenarioError(
            f"{client}: the lab cannot give timestamps of scope {stack.timestamps}; simulate it"
        )
    if stack.timestamp_hz != 1000.0:
        raise ScenarioError(f"{client}: the lab's timestamps tick at 1000 Hz; simulate other rates")
    if stack.clock_wander_ppm:
        raise ScenarioError(f"{client}: the lab cannot make a clock wander; simulate it")
    if stack.ip_id in ("byte_swapped", "bucket"):
        raise ScenarioError(f"{client}: the lab cannot give IP IDs of class {stack.ip_id}; simulate it")
    if stack.clock_ppm and host != "uml":
        raise ScenarioError(f"{client}: a namespace shares the machine's clock; clock_ppm needs `host: uml`")


def kernel_settings(stack: Stack) -> tuple[str, str]:
    """What of a stack the kernel itself can do, as arguments of sysctl."""
    return (
        f"net.ipv4.tcp_timestamps={_TIMESTAMPS[stack.timestamps]}",
        f"net.ipv4.ip_default_ttl={stack.ttl}",
    )


def apply_stack(
    namespace: str, stack: Stack, network: Network, processes: Processes, far: Sequence[str], *, seed: int
) -> None:
    """Dress a namespace as the stack.

    Parameters
    ----------
    namespace : str
        Whose packets.
    stack : Stack
        What they are to look like.
    network, processes
        To set it with.
    far : sequence of str
        Web addresses, for counters by destination.
    seed : int
        Start of the counters.
    """
    network.sysctl(namespace, *kernel_settings(stack))
    rules = _ip_id_rules(stack, (SERVER_OUTER, DNS_ADDRESS, SSH_ADDRESS, *far), seed)
    if rules:
        script = "add table ip stack; add chain ip stack out { type filter hook output priority mangle; };"
        script += "".join(f" add rule ip stack out oifname != lo {rule};" for rule in rules)
        processes.run(namespace, ["nft", script])


def _ip_id_rules(stack: Stack, destinations: Sequence[str], seed: int) -> list[str]:
    if stack.ip_id == "zero":
        return ["ip id set 0"]
    if stack.ip_id == "constant":
        return [f"ip id set {1 + seed % 65535}"]
    if stack.ip_id == "random":
        return ["ip id set numgen random mod 4294967295"]
    if stack.ip_id == "global":
        return [_COUNTER.format(start=seed % 30000)]
    if stack.ip_id == "per_destination":
        starts = ((seed * (i + 7) * 2654435761) % 30000 for i in range(len(destinations)))
        return [f"ip daddr {d} {_COUNTER.format(start=s)}" for d, s in zip(destinations, starts, strict=True)]
    return []
