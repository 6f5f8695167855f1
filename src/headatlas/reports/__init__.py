"""Report and cards in Markdown, and the rows of short tables."""

from headatlas.reports.markdown import write_report
from headatlas.reports.rows import category_rows, strongest_rows

__all__ = ["category_rows", "strongest_rows", "write_report"]
