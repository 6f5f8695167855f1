"""Sphinx configuration."""

from headatlas import __version__

project = "headatlas"
author = "the headatlas authors"
copyright = "the headatlas authors, Apache-2.0"
release = __version__
extensions = ["myst_parser"]
myst_heading_anchors = 3
html_theme = "furo"
html_title = f"headatlas {__version__}"
exclude_patterns = ["_build"]
