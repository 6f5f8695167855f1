"""What the hub's library raises, as one sentence for users."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from headatlas.errors import AtlasError

if TYPE_CHECKING:
    from huggingface_hub import HfApi

UNEXPECTED = (LookupError, TypeError, ValueError, AttributeError, NameError)
"""What the library raises where an answer lacks a key, has a value of another type, or is no JSON."""

LOG_IN = "Log in with `hf auth login`, or set HF_TOKEN"


def open_hub() -> HfApi:
    """The hub that `HF_ENDPOINT` names; its token is that of the environment or of the stored login."""
    from huggingface_hub import HfApi, constants

    return HfApi(endpoint=constants.ENDPOINT)


@contextmanager
def readable_errors(name: str, revision: str | None = None, writes: bool = False) -> Iterator[None]:
    """Turn what the hub's library raises into an `AtlasError`.

    Args:
        name: of the data set.
        revision: that was asked for.
        writes: whether the token has to be one that may write.
    """
    from huggingface_hub.errors import (
        EntryNotFoundError,
        GatedRepoError,
        HfHubHTTPError,
        LocalEntryNotFoundError,
        OfflineModeIsEnabled,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    # The library's own HTTP client, which is another package in newer versions.
    transport: Any = HfHubHTTPError.__bases__[0]
    try:
        yield
    except GatedRepoError as error:
        raise AtlasError(
            f"{name}: its owner has to grant access to this data set. Ask for it on its page, then log in with "
            f"`hf auth login`."
        ) from error
    except RepositoryNotFoundError as error:
        raise AtlasError(
            f"{name}: expected a data set of this name on the hub, found none. If it is private: {LOG_IN}."
        ) from error
    except RevisionNotFoundError as error:
        raise AtlasError(f"{name}: expected a branch, a tag or a commit {revision!r} of it, found none.") from error
    except (OfflineModeIsEnabled, LocalEntryNotFoundError) as error:
        raise AtlasError(
            f"{name}: the hub cannot be reached (no network, or HF_HUB_OFFLINE is set). Run the same with a connection."
        ) from error
    except EntryNotFoundError as error:
        raise AtlasError(f"{name}: a file that it lists is not there. Try again, or another revision.") from error
    except HfHubHTTPError as error:
        status = getattr(getattr(error, "response", None), "status_code", None)
        if status in (401, 403):
            right = "a token that may write there" if writes else "a token that may read it"
            raise AtlasError(f"{name}: the hub refuses access (HTTP {status}); it needs {right}. {LOG_IN}.") from error
        if status in (409, 412):
            raise AtlasError(
                f"{name}: it exists already and cannot be seen with this token, or was changed at the same time "
                f"(HTTP {status}). Run the same again, or choose another name."
            ) from error
        raise AtlasError(f"{name}: the hub answers with an error (HTTP {status}). Run the same again later.") from error
    except RuntimeError as error:  # of a file's transfer, which the library leaves to other packages
        raise AtlasError(f"{name}: a transfer failed ({one_line(error)}). Run the same again.") from error
    except transport as error:
        raise AtlasError(
            f"{name}: the hub cannot be reached ({type(error).__name__}). Run the same again with a connection."
        ) from error
    except UNEXPECTED as error:
        raise AtlasError(
            f"{name}: expected an answer of the hub as its library knows them, found another one "
            f"({type(error).__name__}). Run the same again later."
        ) from error


def one_line(error: Exception) -> str:
    """The message of an error of the hub's library, in one line and not too long."""
    text = " ".join(str(error).split())
    return text if len(text) <= 300 else f"{text[:300]}..."
