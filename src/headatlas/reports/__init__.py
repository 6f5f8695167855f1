"""Report and cards as blocks and in Markdown, and the rows of short tables."""

from headatlas.reports.markdown import to_markdown
from headatlas.reports.report import build_report, write_report
from headatlas.reports.rows import category_rows, strongest_rows

__all__ = ["build_report", "category_rows", "strongest_rows", "to_markdown", "write_report"]
