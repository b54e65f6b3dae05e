"""Captures whose truth is known, recorded from real software or simulated."""
