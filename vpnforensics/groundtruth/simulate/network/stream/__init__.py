"""A tunnel over TCP: inner packets as frames of one stream."""
