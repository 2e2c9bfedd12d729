"""Pure residency rules: what may leave, how coarse, and why everything else stays."""
