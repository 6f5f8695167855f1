"""GGUF files: header, parts, metadata, tensors and tokenizer."""
