"""Pure signals: an array or a packet list in, a number out."""
