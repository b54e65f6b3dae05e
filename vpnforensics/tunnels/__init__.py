"""Outer conversations to tunnels: recognisers, length maps, counters, deframing."""
