"""Usage logs of VPN servers: who was connected from where, when, and how much they sent."""
