"""Files that are not on this machine, read by byte ranges."""
