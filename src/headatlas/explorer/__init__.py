"""The explorer: one page with the whole atlas, the same view in a notebook, and the page of a film."""

from headatlas.explorer.film import build_film, write_film
from headatlas.explorer.notebook import explore
from headatlas.explorer.page import build_page, write_page

__all__ = ["build_film", "build_page", "explore", "write_film", "write_page"]
