"""Case results as tables, JSON, JSON Lines, CSV and Parquet."""
