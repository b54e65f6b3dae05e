"""A case as one HTML file to hand over: it loads nothing, and every link can be followed to its packets."""
