"""Real VPN software in network namespaces, recorded on both sides of the server."""
