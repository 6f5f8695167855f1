"""Sphinx configuration."""

from headatlas import __version__

project = "headatlas"
author = "the headatlas authors"
copyright = "the headatlas authors, Apache-2.0"
release = __version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
# Docstrings write code in single backticks, and state types in the signature.
default_role = "code"
autodoc_typehints = "signature"
autodoc_member_order = "bysource"
python_use_unqualified_type_names = True
myst_heading_anchors = 3
html_theme = "furo"
html_title = f"headatlas {__version__}"
exclude_patterns = ["_build"]
