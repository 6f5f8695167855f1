"""The explorer: one page with the whole atlas, and the same view in a notebook. Knows the atlas only."""

from headatlas.explorer.page import PAGE, build_page, refresh_page, write_page

__all__ = ["PAGE", "build_page", "refresh_page", "write_page"]
