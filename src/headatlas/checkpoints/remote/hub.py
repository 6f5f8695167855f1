"""A model on the Hugging Face hub: small files through the hub's cache, of the weights only what is asked for."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from headatlas.checkpoints.checkpoint import Checkpoint
from headatlas.checkpoints.remote.cache import cache_folder, disk, write_whole
from headatlas.checkpoints.remote.file import fingerprint
from headatlas.checkpoints.remote.http import HttpFile
from headatlas.checkpoints.safetensors.shards import listed_files
from headatlas.errors import CheckpointError

PATTERNS = ["*.json", "*.model", "*.txt"]
"""Config, index and tokenizer; no code and no weights."""

NOT_READ = ["*/*", "consolidated*"]
"""Other formats in folders of their own, and the weights a second time under other names."""

NAME = re.compile(r"(?P<name>[^/@]+(?:/[^/@]+)?)(?:@(?P<revision>[^:]+?))?(?:/(?P<file>(?:[^/]+/)*[^/]+\.gguf))?")


def open_hub(source: str) -> Checkpoint:
    """Open a model on the hub; of its safetensors files only what is asked for travels.

    `HF_HUB_OFFLINE`, `HF_ENDPOINT`, `HF_HOME` and a stored login are honoured. Weights that lie whole in the hub's
    cache are read from there. Where the hub has only `.bin` or `.gguf` files, those are fetched whole.

    Args:
        source: `org/model`, `org/model@revision`, `org/model/file.gguf`.

    Raises:
        CheckpointError: no such model, no access, or no network and not in the cache.
    """
    from huggingface_hub import snapshot_download

    from headatlas.checkpoints.folder import ModelFolder
    from headatlas.checkpoints.open import open_checkpoint

    name, revision, file = split_name(source)
    with _one_sentence(source):
        if file is not None:
            return _renamed(open_checkpoint(_fetch_gguf(name, revision, file)), source)
        folder = Path(snapshot_download(name, revision=revision, allow_patterns=PATTERNS, ignore_patterns=NOT_READ))
        files = _list_files(name, folder)
        weights = listed_files(files, folder, source)
        if weights and all((folder / weight).exists() for weight in weights):
            return ModelFolder(folder, source)
        if weights:
            return ModelFolder(folder, source, _remote(name, source, folder.name, weights))
        ggufs = sorted(each for each in files if each.endswith(".gguf") and "/" not in each)
        bins = [each for each in files if re.fullmatch(r"pytorch_model.*\.bin", each)]
        if bins:
            snapshot_download(name, revision=folder.name, allow_patterns=bins)
            return ModelFolder(folder, source)
        if len(_first_parts(ggufs)) == 1:
            return _renamed(open_checkpoint(_fetch_gguf(name, folder.name, ggufs[0])), source)
    if ggufs:
        raise CheckpointError(
            f"{source}: expected one model, found {len(_first_parts(ggufs))} .gguf files. "
            f"Name one of them: {name}/{ggufs[0]}."
        )
    raise CheckpointError(f"{source}: expected safetensors, .bin or .gguf files on the hub, found none.")


def split_name(source: str) -> tuple[str, str | None, str | None]:
    """Name, revision and `.gguf` file of what the user named; raises `CheckpointError` where it is no name."""
    match = NAME.fullmatch(source)
    if match is None:
        raise _no_name(source)
    return match["name"], match["revision"], match["file"]


def _remote(name: str, source: str, commit: str, weights: list[str]):
    from huggingface_hub import hf_hub_url
    from huggingface_hub.utils import build_hf_headers

    from headatlas.checkpoints.safetensors.remote import RemoteFiles

    headers = build_hf_headers()
    return RemoteFiles(
        source,
        {
            file: HttpFile(
                hf_hub_url(name, file, revision=commit),
                f"{source}/{file}",
                headers,
                identity=hf_hub_url(name, file),  # a commit that leaves the weights alone finds them in the cache
                pinned=True,
                no_access="For a private model, log in with `hf auth login`.",
            )
            for file in weights
        },
    )


def _list_files(name: str, folder: Path) -> list[str]:
    """Every file of a commit, as the hub says or said; without a connection, those that lie in its cache."""
    from huggingface_hub import HfApi, constants
    from huggingface_hub.errors import OfflineModeIsEnabled

    record = cache_folder() / "listings" / f"{fingerprint(f'{constants.ENDPOINT}/{name}@{folder.name}')}.json"
    try:
        files = json.loads(record.read_text("utf-8"))
        if isinstance(files, list) and all(isinstance(file, str) for file in files):
            return files
    except (OSError, ValueError):
        pass
    here = [path.name for path in folder.iterdir()] if folder.is_dir() else []
    try:
        files = [each.rfilename for each in HfApi().model_info(name, revision=folder.name).siblings or []]
    except (OfflineModeIsEnabled, OSError):
        return here
    with disk(cache_folder()):
        write_whole(record, json.dumps(files).encode())
    return files


def _fetch_gguf(name: str, revision: str | None, file: str) -> Path:
    """A GGUF file, whole; the parts of a split one too."""
    from huggingface_hub import hf_hub_download

    match = re.fullmatch(r"(.+-)\d{5}(-of-(\d{5})\.gguf)", file)
    parts = [f"{match[1]}{number:05}{match[2]}" for number in range(1, int(match[3]) + 1)] if match else [file]
    paths = [Path(hf_hub_download(name, part, revision=revision)) for part in parts]
    return paths[0]


def _first_parts(ggufs: list[str]) -> list[str]:
    return [file for file in ggufs if re.search(r"-(?!00001)\d{5}-of-\d{5}\.gguf$", file) is None]


def _renamed(checkpoint: Checkpoint, source: str) -> Checkpoint:
    checkpoint.source = source
    return checkpoint


def _no_name(source: str) -> CheckpointError:
    return CheckpointError(f"{source}: expected a folder, a .gguf file or a name on the hub such as org/model.")


@contextmanager
def _one_sentence(source: str) -> Iterator[None]:
    """What the hub's library raises, said for people."""
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
            f"{source}: this model asks for its licence to be accepted. Accept it on the hub, then log in with "
            f"`hf auth login`."
        ) from error
    except RepositoryNotFoundError as error:
        raise CheckpointError(
            f"{source}: expected a folder, a .gguf file or a model on the hub, found none of this name. "
            f"For a private model, log in with `hf auth login`."
        ) from error
    except RevisionNotFoundError as error:
        raise CheckpointError(
            f"{source}: expected a branch, a tag or a commit of this model behind '@', found none."
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
