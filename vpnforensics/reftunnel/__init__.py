"""The reference tunnel: a real VPN, WireGuard on the wire, that journals its own truth."""
