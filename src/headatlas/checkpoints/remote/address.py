"""A model at an address: `https://`, or another `scheme://` that fsspec supports."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote, urlsplit

from headatlas.checkpoints.remote.file import Missing, Refused, RemoteFile
from headatlas.checkpoints.remote.http import HttpFile, is_loopback
from headatlas.checkpoints.remote.model import RemoteModel
from headatlas.checkpoints.remote.small_files import OPTIONAL, REQUIRED, fetch_small_files
from headatlas.checkpoints.shards import SAFETENSORS, numbered_files, read_index
from headatlas.checkpoints.tensor_store import TensorStore
from headatlas.errors import CheckpointError

PACKAGES = {
    "s3": "s3fs", "s3a": "s3fs", "gs": "gcsfs", "gcs": "gcsfs", "az": "adlfs", "abfs": "adlfs", "abfss": "adlfs",
    "adl": "adlfs", "oci": "ocifs", "oss": "ossfs", "sftp": "paramiko", "ssh": "paramiko", "smb": "smbprotocol",
}  # fmt: skip
"""Scheme -> the package that fsspec needs for it."""

NO_ACCESS = "Expected a public address, or one with a login (https://user:password@host/...)."


def find_at_address(source: str) -> RemoteModel:
    """Find a folder or a safetensors file by its address and fetch its small files; weights are read by ranges.

    Args:
        source: `https://host/folder/`, `https://host/folder/model.safetensors`, `s3://bucket/folder`. Plain
            `http://` is accepted for this machine only. A login in the address is used and never shown.

    Raises:
        CheckpointError: there is nothing, access is refused, or nothing can be read.
    """
    folder, name = _folder_and_file(source)
    file, shown = _http(folder) if folder.startswith(("http://", "https://")) else _store(folder)
    shown_source = f"{shown}/{name}" if name else shown
    small = fetch_small_files(folder, {each: file(each) for each in (REQUIRED, *OPTIONAL)})
    return RemoteModel(shown_source, small, _weights(shown_source, name, file, small))


def without_login(address: str) -> str:
    """An address that may be shown: without user, password and the signature after `?`."""
    scheme, separator, rest = address.partition("://")
    if not separator:
        return address
    rest = rest.partition("?")[0].partition("#")[0]
    host, slash, path = rest.partition("/")
    return f"{scheme}://{host.rpartition('@')[2]}{slash}{path}"


def _folder_and_file(source: str) -> tuple[str, str | None]:
    """The folder's address, without a final slash but with what follows `?`, and the file that was named."""
    place, mark, query = source.partition("#")[0].partition("?")
    folder, _, last = place.rpartition("/")
    if last.endswith(".gguf"):
        raise CheckpointError(
            f"{without_login(source)}: expected a folder or a .safetensors file at an address, found a .gguf file. "
            f"Download it and name the local file."
        )
    if last.endswith(".safetensors"):
        return folder + mark + query, unquote(last)
    if last in (SAFETENSORS.index, REQUIRED):
        return folder + mark + query, None
    return place.rstrip("/") + mark + query, None


def _weights(shown: str, name: str | None, file: Callable[[str], RemoteFile], folder: Path) -> TensorStore:
    from headatlas.checkpoints.safetensors.remote import RemoteSafetensors

    def opened(names: Iterable[str]) -> TensorStore:
        return RemoteSafetensors(shown, {each: file(each) for each in names})

    if name is not None:
        return opened(numbered_files(name))
    whole, index = SAFETENSORS.whole, SAFETENSORS.index
    try:
        return opened([whole])
    except (Missing, Refused) as error:
        if (folder / index).exists():
            return opened(sorted(set(read_index(SAFETENSORS, folder / index, f"{shown}/{index}").values())))
        if isinstance(error, Refused):
            raise
        raise CheckpointError(
            f"{shown}: expected {whole} or {index} next to {REQUIRED}, found neither. "
            f"If the weights have another name, give the address of the .safetensors file."
        ) from error


def _http(folder: str) -> tuple[Callable[[str], RemoteFile], str]:
    """Access to the files of a folder behind http(s), and the folder's address for messages."""
    shown = without_login(folder)
    try:
        parts = urlsplit(folder)
        host, port, user = parts.hostname, parts.port, parts.username
    except ValueError as error:
        raise CheckpointError(
            f"{shown}: expected an address such as https://host/folder, found another text."
        ) from error
    if not host:
        raise CheckpointError(f"{shown}: expected an address such as https://host/folder, found no host.")
    if parts.scheme == "http" and not is_loopback(host):
        raise CheckpointError(
            f"{shown}: expected https, found plain http, where anybody in between can change the weights. "
            f"Write https://."
        )
    headers = {}
    if user is not None:
        login = f"{unquote(user)}:{unquote(parts.password or '')}"
        headers["Authorization"] = f"Basic {base64.b64encode(login.encode()).decode()}"
    at = f"[{host}]" if ":" in host else host
    base = f"{parts.scheme}://{at}" + (f":{port}" if port else "") + parts.path.rstrip("/")
    query = f"?{parts.query}" if parts.query else ""

    def file(name: str) -> RemoteFile:
        return HttpFile(f"{base}/{quote(name, safe='')}{query}", f"{shown}/{name}", headers, no_access=NO_ACCESS)

    return file, shown


def _store(folder: str) -> tuple[Callable[[str], RemoteFile], str]:
    """Access to the files of a folder in a store of fsspec, and the folder's address for messages."""
    import fsspec

    from headatlas.checkpoints.remote.fsspec import StoreFile

    shown = without_login(folder)
    scheme = folder.partition("://")[0]
    store: Any
    try:
        store, path = fsspec.url_to_fs(folder)
    except ImportError as error:
        package = PACKAGES.get(scheme)
        todo = f"Run `pip install {package}`." if package else "Install the fsspec package for it."
        raise CheckpointError(f"{shown}: reading {scheme}:// needs a package that is not installed. {todo}") from error
    except ValueError as error:
        raise CheckpointError(
            f"{shown}: expected an address with https:// or a scheme that fsspec supports (s3://, gs://, az://), "
            f"found {scheme}://."
        ) from error

    def file(name: str) -> RemoteFile:
        return StoreFile(store, f"{path.rstrip('/')}/{name}", f"{shown}/{name}", f"{folder}/{name}")

    return file, shown
