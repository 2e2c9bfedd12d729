"""The signed ledger and the offline proofs built on it."""
