"""Seeded, rootless captures of both sides of a VPN server, with truth."""
