"""Sphinx configuration."""

from headatlas import __version__

project = "headatlas"
author = "the headatlas authors"
release = __version__
extensions = ["myst_parser"]
myst_enable_extensions = ["dollarmath", "colon_fence"]
myst_heading_anchors = 3
html_theme = "furo"
html_title = f"headatlas {__version__}"
exclude_patterns = ["_build"]
