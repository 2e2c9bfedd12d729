"""Pure parsers: the bytes of a sidecar in, telemetry out."""
