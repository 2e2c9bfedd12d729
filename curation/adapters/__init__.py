"""One file per outside thing; only `curation.wiring` imports them."""
