"""A model behind an address: `https://`, or another `scheme://` that fsspec knows."""

from __future__ import annotations

import base64
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote, urlsplit

from headatlas.checkpoints.checkpoint import Checkpoint
from headatlas.checkpoints.remote.file import Missing, Refused
from headatlas.checkpoints.remote.http import HttpFile, is_loopback
from headatlas.checkpoints.remote.small_files import NEEDED, OPTIONAL, SmallFile, bring_small_files
from headatlas.checkpoints.safetensors.shards import INDEX, WHOLE, index_files, numbered_files
from headatlas.errors import CheckpointError

if TYPE_CHECKING:
    from headatlas.checkpoints.safetensors.remote import RemoteFiles

PACKAGES = {
    "s3": "s3fs", "s3a": "s3fs", "gs": "gcsfs", "gcs": "gcsfs", "az": "adlfs", "abfs": "adlfs", "abfss": "adlfs",
    "adl": "adlfs", "oci": "ocifs", "oss": "ossfs", "sftp": "paramiko", "ssh": "paramiko", "smb": "smbprotocol",
}  # fmt: skip
"""What opens a scheme, where fsspec does not do it by itself."""

NO_ACCESS = "Expected an address that can be read as it is, or one with a login (https://user:password@host/...)."


def open_address(source: str) -> Checkpoint:
    """Open a folder or a safetensors file by its address; only what is asked for travels.

    Args:
        source: `https://host/folder/`, `https://host/folder/model.safetensors`, `s3://bucket/folder`. Plain
            `http://` is for this machine only. A login in the address is used and never shown.

    Raises:
        CheckpointError: nothing there, no access, or nothing that can be read.
    """
    from headatlas.checkpoints.folder import ModelFolder

    folder, name = _folder_and_file(source)
    file, shown = _http(folder) if folder.startswith(("http://", "https://")) else _store(folder)
    shown_source = f"{shown}/{name}" if name else shown
    small = bring_small_files(folder, {each: file(each) for each in (NEEDED, *OPTIONAL)})
    return ModelFolder(small, shown_source, _weights(shown_source, name, file, small))


def without_login(address: str) -> str:
    """An address as it may be shown: no user, no password, no signature behind `?`."""
    scheme, separator, rest = address.partition("://")
    if not separator:
        return address
    rest = rest.partition("?")[0].partition("#")[0]
    host, slash, path = rest.partition("/")
    return f"{scheme}://{host.rpartition('@')[2]}{slash}{path}"


def _folder_and_file(source: str) -> tuple[str, str | None]:
    """The folder's address, without a slash at its end but with what is behind `?`, and a file that was named."""
    place, mark, query = source.partition("#")[0].partition("?")
    folder, _, last = place.rpartition("/")
    if last.endswith(".gguf"):
        raise CheckpointError(
            f"{without_login(source)}: expected a folder or a .safetensors file at an address, found a .gguf file. "
            f"Download it and name the local file."
        )
    if last.endswith(".safetensors"):
        return folder + mark + query, unquote(last)
    if last in (INDEX, NEEDED):
        return folder + mark + query, None
    return place.rstrip("/") + mark + query, None


def _weights(shown: str, name: str | None, file: Callable[[str], SmallFile], folder: Path) -> RemoteFiles:
    from headatlas.checkpoints.safetensors.remote import RemoteFiles

    def opened(names: list[str]) -> RemoteFiles:
        return RemoteFiles(shown, {each: file(each) for each in names})

    if name is not None:
        return opened(numbered_files(name))
    try:
        return opened([WHOLE])
    except (Missing, Refused) as error:
        if (folder / INDEX).exists():
            return opened(index_files(folder / INDEX, f"{shown}/{INDEX}"))
        if isinstance(error, Refused):
            raise
        raise CheckpointError(
            f"{shown}: expected {WHOLE} or {INDEX} beside {NEEDED}, found neither. "
            f"If the weights have another name, give the address of the .safetensors file."
        ) from error


def _http(folder: str) -> tuple[Callable[[str], SmallFile], str]:
    """Files of a folder behind http(s), and how to show the folder."""
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
            f"{shown}: expected https, found plain http, on which anybody on the way can change the weights. "
            f"Write https://."
        )
    headers = {}
    if user is not None:
        login = f"{unquote(user)}:{unquote(parts.password or '')}"
        headers["Authorization"] = f"Basic {base64.b64encode(login.encode()).decode()}"
    at = f"[{host}]" if ":" in host else host
    base = f"{parts.scheme}://{at}" + (f":{port}" if port else "") + parts.path.rstrip("/")
    query = f"?{parts.query}" if parts.query else ""

    def file(name: str) -> SmallFile:
        return HttpFile(f"{base}/{quote(name, safe='')}{query}", f"{shown}/{name}", headers, no_access=NO_ACCESS)

    return file, shown


def _store(folder: str) -> tuple[Callable[[str], SmallFile], str]:
    """Files of a folder in a store that fsspec knows, and how to show the folder."""
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
            f"{shown}: expected an address with https:// or a scheme that fsspec knows (s3://, gs://, az://), "
            f"found {scheme}://."
        ) from error

    def file(name: str) -> SmallFile:
        return StoreFile(store, f"{path.rstrip('/')}/{name}", f"{shown}/{name}", f"{folder}/{name}")

    return file, shown
