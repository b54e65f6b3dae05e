"""What ``show`` says: the state of a tunnel as plain values, and as the text that ``wg show`` prints."""

from __future__ import annotations

from typing import Any

from vpnforensics.reftunnel.device import Device

_UNITS = (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10))


def describe(device: Device, name: str, port: int, now: float, wall_ns: int) -> dict[str, Any]:
    """State of a tunnel, ready for JSON. It has public keys only."""
    return {
        "interface": name,
        "public_key": str(device.private_key.public),
        "listening_port": port,
        "peers": [
            {
                "public_key": str(peer.config.public_key),
                "has_preshared_key": any(peer.config.preshared_key.reveal()),
                "endpoint": None if peer.endpoint is None else str(peer.endpoint),
                "allowed_ips": [str(network) for network in peer.config.allowed_ips],
                "latest_handshake_ns": None
                if peer.last_handshake_at is None
                else wall_ns - int((now - peer.last_handshake_at) * 1e9),
                "latest_handshake_age_s": None
                if peer.last_handshake_at is None
                else now - peer.last_handshake_at,
                "received_bytes": peer.traffic.received_bytes,
                "sent_bytes": peer.traffic.sent_bytes,
                "received_packets": peer.traffic.received_packets,
                "sent_packets": peer.traffic.sent_packets,
                "persistent_keepalive_s": peer.config.persistent_keepalive_s,
            }
            for peer in device.peers.values()
        ],
        "dropped": {
            reason.value: count
            for reason, count in sorted(device.drops.items(), key=lambda item: item[0].value)
        },
    }


def _size(count: int) -> str:
    for unit, factor in _UNITS:
        if count >= factor:
            return f"{count / factor:.2f} {unit}"
    return f"{count} B"


def _ago(seconds: float) -> str:
    left = int(seconds)
    if left <= 0:
        return "Now"
    parts = []
    for unit, factor in (("day", 86_400), ("hour", 3600), ("minute", 60), ("second", 1)):
        count, left = divmod(left, factor)
        if count:
            parts.append(f"{count} {unit}" + ("s" if count > 1 else ""))
    return ", ".join(parts) + " ago"


def render(state: dict[str, Any]) -> str:
    """Text in the form of ``wg show``, and below it what was dropped."""
    lines = [
        f"interface: {state['interface']}",
        f"  public key: {state['public_key']}",
        "  private key: (hidden)",
        f"  listening port: {state['listening_port']}",
    ]
    for endpoint, size in state.get("narrow", {}).items():
        lines.append(
            f"  narrow way: datagrams of {size} bytes are cut on the way to {endpoint}; a lower MTU fits"
        )
    for peer in state["peers"]:
        lines += ["", f"peer: {peer['public_key']}"]
        if peer["has_preshared_key"]:
            lines.append("  preshared key: (hidden)")
        if peer["endpoint"]:
            lines.append(f"  endpoint: {peer['endpoint']}")
        lines.append(f"  allowed ips: {', '.join(peer['allowed_ips']) or '(none)'}")
        if peer["latest_handshake_age_s"] is not None:
            lines.append(f"  latest handshake: {_ago(peer['latest_handshake_age_s'])}")
        if peer["received_bytes"] or peer["sent_bytes"]:
            received, sent = _size(peer["received_bytes"]), _size(peer["sent_bytes"])
            lines.append(f"  transfer: {received} received, {sent} sent")
        if peer["persistent_keepalive_s"]:
            lines.append(f"  persistent keepalive: every {peer['persistent_keepalive_s']} seconds")
    if state["dropped"]:
        lines += ["", "dropped: " + ", ".join(f"{name} {count}" for name, count in state["dropped"].items())]
    for what, count in state.get("trouble", {}).items():
        if count:
            lines += ["", f"trouble: {count} {what.replace('_', ' ')} could not be written (disk full?)"]
    return "\n".join(lines)


_METRICS = (
    ("received_bytes", "vpnf_tunnel_received_bytes_total", "Outer message bytes from a peer."),
    ("sent_bytes", "vpnf_tunnel_sent_bytes_total", "Outer message bytes to a peer."),
    ("received_packets", "vpnf_tunnel_received_packets_total", "Inner packets from a peer."),
    ("sent_packets", "vpnf_tunnel_sent_packets_total", "Inner packets to a peer."),
)


def metrics(states: list[dict[str, Any]]) -> str:
    """States of tunnels in Prometheus' text format.

    https://prometheus.io/docs/instrumenting/exposition_formats/#text-based-format
    """
    families: list[tuple[str, str, str, list[str]]] = []
    for field, name, text in _METRICS:
        families.append((name, "counter", text, [_sample(name, s, p, p[field]) for s, p in _peers(states)]))
    name = "vpnf_tunnel_latest_handshake_seconds"
    times = [
        _sample(name, state, peer, peer["latest_handshake_ns"] / 1e9)
        for state, peer in _peers(states)
        if peer["latest_handshake_ns"] is not None
    ]
    families.append((name, "gauge", "When the latest handshake was, Unix time.", times))
    for field, name, label, text in (
        ("dropped", "vpnf_tunnel_dropped_total", "reason", "Packets and messages refused."),
        ("trouble", "vpnf_tunnel_unwritten_total", "what", "Lines or rows that no disk took."),
    ):
        lines = [
            f'{name}{{interface="{_escaped(state["interface"])}",{label}="{_escaped(key)}"}} {count}'
            for state in states
            for key, count in state.get(field, {}).items()
        ]
        families.append((name, "counter", text, lines))
    return "".join(
        f"# HELP {name} {text}\n# TYPE {name} {kind}\n" + "".join(line + "\n" for line in lines)
        for name, kind, text, lines in families
        if lines
    )


def _peers(states: list[dict[str, Any]]) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    return [(state, peer) for state in states for peer in state["peers"]]


def _sample(name: str, state: dict[str, Any], peer: dict[str, Any], value: float) -> str:
    labels = f'interface="{_escaped(state["interface"])}",peer="{_escaped(peer["public_key"])}"'
    return f"{name}{{{labels}}} {value}"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
