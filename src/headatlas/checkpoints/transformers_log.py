"""What transformers logs about a model's files is shown without the control characters that they may hold."""

from __future__ import annotations

import logging

from headatlas.printable import printable


class _Printable(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        record.msg, record.args = "\n".join(map(printable, record.getMessage().split("\n"))), None
        return True


_PRINTABLE = _Printable()


def escape_log() -> None:
    """To be called once transformers is imported, before it reads files."""
    for handler in logging.getLogger("transformers").handlers:
        handler.addFilter(_PRINTABLE)  # which adds it once
