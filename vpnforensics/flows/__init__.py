"""Packet table to flows: conversations, direction, Community ID, splitting."""
