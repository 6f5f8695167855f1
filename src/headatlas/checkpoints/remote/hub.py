"""A model on the Hugging Face hub: small files through the hub's cache, and of the weights only requested ranges."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from headatlas.bounded_json import parse_bounded, read_bounded
from headatlas.checkpoints.remote.cache import cache_folder, disk, keep
from headatlas.checkpoints.remote.file import fingerprint
from headatlas.checkpoints.remote.http import HttpFile
from headatlas.checkpoints.remote.model import RemoteModel
from headatlas.checkpoints.shards import SAFETENSORS, TORCH_BIN, numbered_files, one_per_model, weight_files
from headatlas.checkpoints.tensor_store import TensorStore
from headatlas.errors import CheckpointError

PATTERNS = ["*.json", "*.model", "*.txt"]
"""Config, index and tokenizer; no code and no weights."""

NOT_READ = ["*/*", "consolidated*"]
"""Other formats in folders of their own, and copies of the weights under other names."""

MOST_BYTES, MOST_FILES = 16 << 20, 200_000
"""Of the list of a commit's files."""

NAME = re.compile(r"(?P<name>[^/@]+(?:/[^/@]+)?)(?:@(?P<revision>[^:]+?))?(?:/(?P<file>(?:[^/]+/)*[^/]+\.gguf))?")


def find_on_hub(source: str) -> RemoteModel:
    """Find a model on the hub and fetch its small files; its safetensors files are left to be read by ranges.

    `HF_HUB_OFFLINE`, `HF_ENDPOINT`, `HF_HOME` and a stored login are honoured. Weights that are complete in the hub's
    cache are read from there. If the hub has only `.bin` or `.gguf` files, those are fetched whole.

    Args:
        source: `org/model`, `org/model@revision`, `org/model/file.gguf`.

    Raises:
        CheckpointError: there is no such model, access is refused, or there is no network and the model is not in the
            cache.
    """
    from huggingface_hub import snapshot_download

    named = parse_name(source)
    name = named.name
    with _readable_errors(source):
        if named.file is not None:
            return RemoteModel(source, _fetch_gguf(name, named.revision, named.file))
        folder = Path(
            snapshot_download(name, revision=named.revision, allow_patterns=PATTERNS, ignore_patterns=NOT_READ)
        )
        files = _list_files(name, folder)
        if weights := weight_files(SAFETENSORS, files, folder, source):
            if all((folder / weight).exists() for weight in weights):
                return RemoteModel(source, folder)
            return RemoteModel(source, folder, _remote_weights(name, source, folder.name, weights))
        if weights := weight_files(TORCH_BIN, files, folder, source):
            snapshot_download(name, revision=folder.name, allow_patterns=weights)
            return RemoteModel(source, folder)
        ggufs = one_per_model(each for each in files if each.endswith(".gguf") and "/" not in each)
        if len(ggufs) == 1:
            return RemoteModel(source, _fetch_gguf(name, folder.name, ggufs[0]))
    if ggufs:
        raise CheckpointError(
            f"{source}: expected one model, found {len(ggufs)} .gguf files. Name one of them: {name}/{ggufs[0]}."
        )
    raise CheckpointError(f"{source}: expected safetensors, .bin or .gguf files on the hub, found none.")


@dataclass(frozen=True)
class HubName:
    """What the user named: a model, its revision (None: the newest) and one of its `.gguf` files (None: not named)."""

    name: str
    revision: str | None
    file: str | None


def parse_name(source: str) -> HubName:
    """The parts of a name on the hub; raises `CheckpointError` if it is not one."""
    match = NAME.fullmatch(source)
    if match is None:
        raise _no_name(source)
    return HubName(**match.groupdict())


def _remote_weights(name: str, source: str, commit: str, weights: list[str]) -> TensorStore:
    from huggingface_hub import hf_hub_url
    from huggingface_hub.utils import build_hf_headers

    from headatlas.checkpoints.safetensors.remote import RemoteSafetensors

    headers = build_hf_headers()
    return RemoteSafetensors(
        source,
        {
            file: HttpFile(
                hf_hub_url(name, file, revision=commit),
                f"{source}/{file}",
                headers,
                identity=hf_hub_url(name, file),  # a commit that does not change the weights finds them in the cache
                pinned=True,
                no_access="For a private model, log in with `hf auth login`.",
            )
            for file in weights
        },
    )


def _list_files(name: str, folder: Path) -> list[str]:
    """Every file of a commit, as the hub lists or listed them; without a connection, those in its cache."""
    from huggingface_hub import HfApi, constants
    from huggingface_hub.errors import OfflineModeIsEnabled

    record = cache_folder() / "listings" / f"{fingerprint(f'{constants.ENDPOINT}/{name}@{folder.name}')}.json"
    try:
        files = parse_bounded(read_bounded(record, MOST_BYTES), MOST_FILES)
        if isinstance(files, list) and all(isinstance(file, str) for file in files):
            return files
    except (OSError, ValueError, RecursionError):
        pass
    here = [path.name for path in folder.iterdir()] if folder.is_dir() else []
    try:
        files = [each.rfilename for each in HfApi().model_info(name, revision=folder.name).siblings or []]
    except (OfflineModeIsEnabled, OSError):
        return here
    with disk(cache_folder()):
        keep(record, json.dumps(files).encode())
    return files


def _fetch_gguf(name: str, revision: str | None, file: str) -> Path:
    """A GGUF file, whole; the parts of a split one too."""
    from huggingface_hub import hf_hub_download

    paths = [Path(hf_hub_download(name, part, revision=revision)) for part in numbered_files(file)]
    return paths[0]


def _no_name(source: str) -> CheckpointError:
    return CheckpointError(f"{source}: expected a folder, a .gguf file or a name on the hub such as org/model.")


@contextmanager
def _readable_errors(source: str) -> Iterator[None]:
    """Turn what the hub's library raises into errors for users."""
    from huggingface_hub.errors import (
        EntryNotFoundError,
        GatedRepoError,
        HfHubHTTPError,
        HFValidationError,
        LocalEntryNotFoundError,
        OfflineModeIsEnabled,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    try:
        yield
    except GatedRepoError as error:
        raise CheckpointError(
            f"{source}: the licence of this model must be accepted. Accept it on the hub, then log in with "
            f"`hf auth login`."
        ) from error
    except RepositoryNotFoundError as error:
        raise CheckpointError(
            f"{source}: expected a folder, a .gguf file or a model on the hub, found none of this name. "
            f"For a private model, log in with `hf auth login`."
        ) from error
    except RevisionNotFoundError as error:
        raise CheckpointError(
            f"{source}: expected a branch, a tag or a commit of this model after '@', found none."
        ) from error
    except HFValidationError as error:
        raise _no_name(source) from error
    except (LocalEntryNotFoundError, OfflineModeIsEnabled) as error:
        raise CheckpointError(
            f"{source}: this model is not in the hub's cache, and the hub cannot be reached (no network, or "
            f"HF_HUB_OFFLINE is set). Fetch it once with a connection, or give a local folder."
        ) from error
    except EntryNotFoundError as error:
        raise CheckpointError(f"{source}: expected this file in the model's repository, found none.") from error
    except (HfHubHTTPError, OSError) as error:
        status = getattr(getattr(error, "response", None), "status_code", None)
        if status in (401, 403):
            raise CheckpointError(
                f"{source}: the hub refuses access (HTTP {status}). For a private model, log in with `hf auth login`."
            ) from error
        raise CheckpointError(
            f"{source}: fetching from the hub failed ({type(error).__name__}). Run the same again."
        ) from error
    except (LookupError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        raise CheckpointError(
            f"{source}: expected an answer of the hub as its library knows them, found another one "
            f"({type(error).__name__}). Run the same again later."
        ) from error
