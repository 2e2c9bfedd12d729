"""Side by side against peers: `python -m benchmarks [NAME…]` prints ratios and writes `benchmarks/latest.json`."""
