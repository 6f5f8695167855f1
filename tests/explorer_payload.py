"""Reads the explorer's payload as its documented layout says, with nothing of the code that packs it."""

from __future__ import annotations

import base64
import gzip
import json
import re
from typing import Any

import numpy as np


def unpack(payload: bytes) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """The header, and the arrays by name."""
    data = gzip.decompress(payload)
    start = 4 + int.from_bytes(data[:4], "little")
    assert start % 8 == 0
    header = json.loads(data[4:start].decode("utf-8"))
    arrays = {}
    for name, place in header["arrays"].items():
        assert place["offset"] % 8 == 0, name
        count = int(np.prod(place["shape"]))
        values = np.frombuffer(data, np.dtype(place["type"]).newbyteorder("<"), count, start + place["offset"])
        arrays[name] = values.reshape(place["shape"])
    return header, arrays


def of_page(page: str) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """The same of a page."""
    found = re.search(r'id="headatlas-data">([^<]*)<', page)
    assert found is not None
    return unpack(base64.b64decode(found[1]))
