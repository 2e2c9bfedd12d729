"""Curate dashcam clips at home; let out only the metadata that a signed rule names; prove it."""

__version__ = "0.1.0"
