"""Safetensors files, local and remote."""
