"""GGUF files know their architecture by another name and in another layout than transformers; here both meet."""
