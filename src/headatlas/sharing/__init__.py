"""Atlases on the Hugging Face hub: published as data sets, and pulled from there as untrusted input."""
