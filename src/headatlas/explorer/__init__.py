"""The explorer: one page with the whole atlas, and the same view in a notebook."""

from headatlas.explorer.notebook import explore
from headatlas.explorer.page import build_page, write_page

__all__ = ["build_page", "explore", "write_page"]
