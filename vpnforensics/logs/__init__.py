"""VPN server usage logs to sessions."""
