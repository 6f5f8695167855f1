"""The explorer in a notebook, if the package that it needs is installed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from headatlas.errors import SettingsError

if TYPE_CHECKING:
    from headatlas.atlas import Atlas
    from headatlas.explorer.widget import ExplorerWidget


def explore(atlas: Atlas, other: Atlas | None = None) -> ExplorerWidget:
    """The explorer as a widget for notebooks, of one atlas or of two that are compared.

    Raises:
        SettingsError: the package anywidget is not installed.
        AtlasError: two atlases that cannot be compared.
    """
    try:
        from headatlas.explorer.widget import ExplorerWidget
    except ModuleNotFoundError as error:
        raise SettingsError(
            "explore: expected the package anywidget, found none. Install headatlas[notebook], or open the page "
            "that `headatlas explore` writes."
        ) from error
    return ExplorerWidget(*(atlas,) if other is None else (atlas, other))
