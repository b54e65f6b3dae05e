"""Two capture clocks made one: offset and drift with an interval."""
