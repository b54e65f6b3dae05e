"""Relays: byte streams through a server that opens the connections itself (ssh -D, Shadowsocks)."""
