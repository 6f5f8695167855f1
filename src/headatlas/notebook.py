"""How an atlas shows itself in IPython and notebooks: as its map."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from headatlas.atlas import Atlas


def register() -> None:
    """Tell a running IPython how to show an atlas; nothing happens outside IPython.

    The atlas is registered by the name of its type, so that registering imports nothing heavy.
    """
    IPython = sys.modules.get("IPython")
    shell = None if IPython is None else IPython.get_ipython()
    if shell is not None:
        register_in(shell)


def register_in(shell: Any) -> None:
    """Show atlases as PNG in this `IPython.core.interactiveshell.InteractiveShell`."""
    shell.display_formatter.formatters["image/png"].for_type_by_name("headatlas.atlas.value", "Atlas", map_as_png)


def map_as_png(atlas: Atlas) -> bytes:
    from headatlas.figures import draw_map, render

    return render(draw_map(atlas), "png")
