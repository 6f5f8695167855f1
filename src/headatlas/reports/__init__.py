"""Report and cards as blocks and in Markdown, and the rows of short tables."""
