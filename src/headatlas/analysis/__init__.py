"""What a map shows, computed instead of read off the picture.

Atlas in, frozen dataclasses out. Every statistical test names its null hypothesis and its source. Random draws are
seeded, so that the same atlas gives the same numbers.
"""
