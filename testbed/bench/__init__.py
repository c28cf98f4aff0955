"""Measurements for people and for comparison between versions; never a verdict."""
