"""Files that are elsewhere, read by byte ranges."""
