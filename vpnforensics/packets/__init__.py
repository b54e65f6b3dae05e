"""Records to the packet table: vectorised header decoding."""
