"""Scores to likelihood ratios to verdicts: calibration, bounds, attribution."""
