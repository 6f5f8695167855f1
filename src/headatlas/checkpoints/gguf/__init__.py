"""GGUF files: header, parts, metadata and tensors."""
