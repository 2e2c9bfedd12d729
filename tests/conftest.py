"""Fixtures shared by the suite."""
