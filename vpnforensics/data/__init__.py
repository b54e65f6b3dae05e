"""Data files with their sources."""
