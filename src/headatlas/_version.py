"""The version of headatlas, in its one place: the package, the build and the documentation read it here."""

__version__ = "0.1.0"
