"""Captures as folders of Parquet: written once, read again in part or whole, by this program and others."""
