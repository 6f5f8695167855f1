"""A safetensors file behind a server on loopback, opened as headatlas opens it."""

from __future__ import annotations

import torch

from headatlas.checkpoints.remote.http import HttpFile
from headatlas.checkpoints.safetensors.remote import RemoteSafetensors
from served import Served

NAME = "model.safetensors"
ROWS, WIDTH = 103, 67
"""Sizes of the tensor `E`."""


def make_tensors() -> dict[str, torch.Tensor]:
    """One of each type, of all sizes down to none."""
    generator = torch.Generator().manual_seed(1)
    return {
        "E": torch.randn(ROWS, WIDTH, generator=generator),
        "half": torch.randn(13, 11, generator=generator).half(),
        "brain": torch.randn(17, 5, generator=generator).bfloat16(),
        "eight": torch.randn(19, 3, generator=generator).to(torch.float8_e4m3fn),
        "scalar": torch.tensor(2.5),
        "none": torch.zeros(0, 7),
        "unwanted": torch.randn(211, 97, generator=generator),
    }


def file_of(served: Served, name: str = NAME, **options) -> HttpFile:
    return HttpFile(f"{served.url}/{name}", name, no_access="Ask its owner.", **options)


def store_of(served: Served, **options) -> RemoteSafetensors:
    return RemoteSafetensors("here", {NAME: file_of(served, **options)})


def header_bytes(served: Served) -> int:
    """Bytes that opening transfers: one for the version, the header's length, and the header."""
    return 1 + 8 + int.from_bytes((served.folder / NAME).read_bytes()[:8], "little")


def same(one: torch.Tensor, other: torch.Tensor) -> None:
    """Refuse tensors that are not the same bit for bit."""
    assert one.dtype == other.dtype and one.shape == other.shape
    assert one.reshape(-1).view(torch.uint8).equal(other.reshape(-1).contiguous().view(torch.uint8))
