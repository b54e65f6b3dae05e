"""Sending and acknowledging: the two ends of a connection."""
