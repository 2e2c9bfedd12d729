"""Faces and plates: boxes, tiles, tracks, and the figures of GB/T 44464-2024 Annex B. Pure: arrays and records in, numbers out."""
