"""Remote files, read by byte ranges."""
