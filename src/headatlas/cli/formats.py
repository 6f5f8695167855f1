"""Numbers as people read them."""

from __future__ import annotations


def format_clock(seconds: float) -> str:
    """
    >>> format_clock(3725)
    '1:02:05'
    """
    minutes, seconds = divmod(int(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{seconds:02}"


def format_bytes(count: int) -> str:
    """
    >>> format_bytes(1_250_000)
    '1.2 MB'
    """
    size, units = float(count), ["B", "kB", "MB", "GB", "TB"]
    while size >= 1000 and len(units) > 1:
        size /= 1000
        units.pop(0)
    return f"{size:.0f} {units[0]}" if units[0] == "B" or size >= 100 else f"{size:.1f} {units[0]}"


def format_duration(seconds: float) -> str:
    """
    >>> format_duration(0.2), format_duration(150), format_duration(9000)
    ('1 s', '2 min', '2.5 h')
    """
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def format_count(value: int | None) -> str:
    """A whole number, or nothing if it is unknown.

    >>> format_count(12), format_count(None)
    ('12', '')
    """
    return "" if value is None else str(value)


def format_correlation(coefficient: float | None) -> str:
    """A dash if one of both scores is the same for all heads, so that there is no coefficient.

    >>> format_correlation(0.876), format_correlation(None)
    ('0.88', '-')
    """
    return "-" if coefficient is None else f"{coefficient:.2f}"
