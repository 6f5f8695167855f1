"""A model on the Hugging Face hub: its files are fetched into the hub's cache and read from there."""

from __future__ import annotations

from pathlib import Path

from headatlas.errors import CheckpointError

PATTERNS = ["*.json", "*.safetensors", "*.model", "*.txt"]
"""Config, weights and tokenizer; no code and nothing that needs a pickle."""

NOT_READ = ["*/*", "consolidated*"]
"""Other formats in folders of their own, and the weights a second time under other names."""


def fetch(name: str) -> Path:
    """The local folder of a model on the hub; only what is not cached is fetched.

    `HF_HUB_OFFLINE`, `HF_ENDPOINT`, `HF_HOME` and a stored login are honoured.

    Raises:
        CheckpointError: no such model, no access, or no network and not in the cache.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        HFValidationError,
        LocalEntryNotFoundError,
        OfflineModeIsEnabled,
        RepositoryNotFoundError,
    )

    try:
        return Path(snapshot_download(name, allow_patterns=PATTERNS, ignore_patterns=NOT_READ))
    except GatedRepoError as error:
        raise CheckpointError(
            f"{name}: this model asks for its licence to be accepted. Accept it on the hub, then log in with "
            f"`hf auth login`."
        ) from error
    except RepositoryNotFoundError as error:
        raise CheckpointError(
            f"{name}: expected a folder, a .gguf file or a model on the hub, found none of this name. "
            f"For a private model, log in with `hf auth login`."
        ) from error
    except HFValidationError as error:
        raise CheckpointError(
            f"{name}: expected a folder, a .gguf file or a name on the hub such as org/model."
        ) from error
    except (LocalEntryNotFoundError, OfflineModeIsEnabled) as error:
        raise CheckpointError(
            f"{name}: this model is not in the hub's cache, and the hub cannot be reached (no network, or "
            f"HF_HUB_OFFLINE is set). Fetch it once with a connection, or give a local folder."
        ) from error
    except (HfHubHTTPError, OSError) as error:
        raise CheckpointError(
            f"{name}: fetching from the hub failed ({type(error).__name__}). Run the same again."
        ) from error
