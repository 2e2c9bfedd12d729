"""Shard requests, what they take and what is made of it. Pure functions; the stage writes."""
