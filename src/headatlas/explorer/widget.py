"""The explorer inside a notebook: the page's own core as a widget, with the view shared between browser and Python."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anywidget
import traitlets

from headatlas.atlas import Atlas, head_name
from headatlas.errors import SettingsError
from headatlas.explorer.payload import build_payload
from headatlas.figures import draw_map, render

STATIC = Path(__file__).parent / "static"


class ExplorerWidget(anywidget.AnyWidget):
    """One atlas, or two that are compared, to be explored in JupyterLab and other notebooks.

    Attributes:
        view: what is shown, as the page has it in its address (`threshold`, `relation`, `side`, `rule`, ...); read
            and set it. What makes no sense is left out by the browser.
        selection: name of the head whose card is open, such as `L23H4`, or None; of two atlases in the one that `view`
            names as `card`, `a` or `b`.

    Where no widget can run, the notebook keeps the picture of the map.
    """

    _esm = (STATIC / "widget.js").read_text("utf-8")
    _css = (STATIC / "explorer.css").read_text("utf-8")
    payload = traitlets.Bytes().tag(sync=True)
    view = traitlets.Dict().tag(sync=True)

    def __init__(self, *atlases: Atlas) -> None:
        self._atlases = atlases
        super().__init__(payload=build_payload(list(atlases)), view={})

    @property
    def selection(self) -> str | None:
        return self.view.get("head") or None

    @selection.setter
    def selection(self, head: str | None) -> None:
        atlas = self._atlases[1 if self.view.get("card") == "b" and len(self._atlases) > 1 else 0]
        known = {head_name(layer, number) for layer in range(atlas.n_layers) for number in range(atlas.n_heads)}
        if head is not None and head not in known:
            last = head_name(atlas.n_layers - 1, atlas.n_heads - 1)
            raise SettingsError(f"selection: expected L0H0 to {last}, or None, found {head!r}.")
        self.view = {**self.view, "head": head or ""}

    def _repr_mimebundle_(self, **options: Any) -> Any:
        """The widget, and for readers without one the picture of the map."""
        import base64

        shown = super()._repr_mimebundle_(**options)
        data, metadata = shown if isinstance(shown, tuple) else (shown or {}, {})
        picture = base64.b64encode(render(draw_map(self._atlases[0]), "png")).decode()
        return {**data, "image/png": picture}, metadata
