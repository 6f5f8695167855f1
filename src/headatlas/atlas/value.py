"""The result of a measurement: labelled arrays, the pairs behind them, and where they came from; save and load.

An atlas folder holds `atlas.json` (the manifest, written last: without it the folder is no atlas), `scores.parquet`
(a row per relation, layer and head), where pairs were measured `hits.parquet` (a row per hit), and a table for each
kind of evidence that was gathered since.
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headatlas.atlas.statistics import benjamini_hochberg, wilson_interval
from headatlas.errors import AtlasError, SettingsError, expected_names
from headatlas.settings import MAX_Q, MIN_EXCESS, checked_profile, parse_threshold

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    import xarray as xr
    from matplotlib.figure import Figure

    from headatlas.analysis.card import Card

SCHEMA_VERSION = 3
NOT_APPLICABLE, NOT_KNOWN = "not applicable", "not known"
"""Validity of a layer without attention heads, and of imported scores; else one of `architectures.VALIDITIES`."""

MANIFEST, SCORES, HITS = "atlas.json", "scores.parquet", "hits.parquet"
MEASURES = ("weights", "attention-fixed", "in-context")
"""What was measured: the weights, or a running model, with attention fixed on the source or as it is."""

KINDS = ("score", "suppression")
CHANCE_VARIABLES = {
    "score": ("chance", "chance_exact", "p_value"),
    "suppression": ("suppression_chance", "suppression_chance_exact", "suppression_p_value"),
}
"""Of each kind: the expected share under re-paired targets, whether it is exact, and a bound of the p-value."""

EVIDENCE = {
    "operations": "salient",
    "similar": "salient",
    "descriptions": "salient",
    "validation": "validate",
    "ablation": "ablate",
}
"""Tables that other measurements add to an atlas, see docs/folder.md, and the command that gathers each."""

COVERAGE_COLUMNS = (
    "relation", "category", "k", "in_file", "pairs", "duplicates", "source_dropped", "target_dropped", "measurable",
)  # fmt: skip


@dataclass
class Atlas:
    """Scores of every head for every measured relation.

    Args:
        data: dimensions (relation, layer, head). Variables `score` and `suppression` (share of a relation's pairs,
            0 to 1; `suppression` is absent when it was not measured) and, where whole numbers are known, `hits` and
            `suppression_hits`. Coordinates along relation: `category`, `k`, `pairs` (0 where unknown); along layer:
            `validity`, how far its heads' circuits are exact. Layers without heads ("not applicable") have NaN shares.
        manifest: what was measured, how, and with which versions; JSON types only.
        pair_hits: a row per hit (relation, source, target, source_id, target_id, layer, head, kind) with kind
            `promoted` or `suppressed`; None for imported scores.
        folder: where it was loaded from; evidence is read from there when it is asked for, and written there.
    """

    data: xr.Dataset
    manifest: dict[str, Any]
    pair_hits: pd.DataFrame | None = None
    folder: Path | None = None
    _evidence: dict[str, pd.DataFrame] = field(default_factory=dict, repr=False)

    # What it is

    @property
    def name(self) -> str:
        """The model's name, for titles."""
        return self.manifest["model"]["name"]

    @property
    def measure(self) -> str:
        return self.manifest["measure"]

    @property
    def label(self) -> str:
        """The profile, and each setting that differs from it, in a few words."""
        return self.manifest["label"]

    @property
    def threshold(self) -> str:
        return self.manifest["settings"]["threshold"]

    @property
    def profile(self) -> str:
        """How its heads are classified unless one says otherwise: `maps` or `calibrated`."""
        return self.manifest["settings"].get("profile", "maps")

    @property
    def relations(self) -> list[str]:
        return [str(name) for name in self.data["relation"].values]

    def check_relation(self, name: str) -> None:
        """Refuse a relation that has no scores here.

        Raises:
            AtlasError: the relation was not measurable on this model.
            SettingsError: no such relation.
        """
        if name in self.relations:
            return
        if name in [item["relation"] for item in self.manifest["relations"]["items"]]:
            raise AtlasError(f"{self.name}: the relation {name!r} was not measurable on this model; it has no scores.")
        raise SettingsError(f"relation: expected {expected_names(self.relations, name)}, found {name!r}.")

    @property
    def n_layers(self) -> int:
        return self.data.sizes["layer"]

    @property
    def n_heads(self) -> int:
        return self.data.sizes["head"]

    @property
    def validity(self) -> list[str]:
        """How far the heads' circuits are exact, by layer; `not known` for imported scores."""
        return [str(kind) for kind in self.data["validity"].values]

    @property
    def has_heads(self) -> np.ndarray:
        """The layers that have attention heads; those of linear attention, say, have none: Bool[ndarray, "layer"]."""
        return self.data["validity"].values != NOT_APPLICABLE

    @property
    def validity_told(self) -> list[tuple[str, str, list[int]]]:
        """(validity, why, layers) as the manifest tells it; nothing for imported scores."""
        told = self.manifest["model"].get("validity") or []
        return [(str(each["kind"]), str(each["why"]), list(each["layers"])) for each in told]

    @property
    def scores(self) -> xr.DataArray:
        """Score, 0 to 1: Float[DataArray, "relation layer head"]."""
        return self.data["score"]

    @property
    def suppression(self) -> xr.DataArray:
        """Suppression, 0 to 1: Float[DataArray, "relation layer head"]. Raises `AtlasError` where unknown."""
        return self.kind("suppression")

    def kind(self, kind: str) -> xr.DataArray:
        """`score` or `suppression` by name."""
        if kind not in KINDS:
            raise SettingsError(f"kind: expected one of {', '.join(KINDS)}, found {kind!r}.")
        if kind not in self.data:
            raise AtlasError(
                f"{self.name}: these scores came without suppression; only the map of scores can be shown."
            )
        return self.data[kind]

    @property
    def has_suppression(self) -> bool:
        return "suppression" in self.data

    @property
    def counts_known(self) -> bool:
        """Whether scores are whole numbers of hits; not so for imported ones."""
        return "hits" in self.data

    # How far it could be chance

    def chance(self, kind: str = "score") -> xr.DataArray | None:
        """Expected share of hits if the targets were paired anew, as `score`; None where it was not measured."""
        return self.data.get(CHANCE_VARIABLES[kind][0])

    def chance_exact(self, kind: str = "score") -> xr.DataArray | None:
        """Where `chance` is exact; elsewhere it is a mean over seeded re-pairings. None where it was not measured."""
        return self.data.get(CHANCE_VARIABLES[kind][1])

    def p_values(self, kind: str = "score") -> xr.DataArray | None:
        """Upper bound of the probability of as many hits under re-paired targets, 0 to 1; None if not measured."""
        return self.data.get(CHANCE_VARIABLES[kind][2])

    def q_values(self, kind: str = "score") -> xr.DataArray | None:
        """Benjamini-Hochberg over all heads and measured relations, as `p_values`; None if not measured."""
        p_values = self.p_values(kind)
        if p_values is None:
            return None
        q_values = p_values.copy()
        q_values[:, self.has_heads] = benjamini_hochberg(p_values.values[:, self.has_heads])
        return q_values

    def beyond_chance(self, kind: str = "score") -> np.ndarray:
        """Which shares are significant (q < MAX_Q) and exceed chance by more than MIN_EXCESS, as `above`.

        Raises:
            AtlasError: chance was not measured.
        """
        chance, q_values = self.chance(kind), self.q_values(kind)
        if chance is None or q_values is None:
            raise AtlasError(f"{self.name}: the profile calibrated needs chance levels, which this atlas lacks.")
        excess = self.kind(kind).values - chance.values
        return (q_values.values < MAX_Q) & (excess > MIN_EXCESS)

    def interval(self, kind: str = "score") -> tuple[xr.DataArray, xr.DataArray] | None:
        """Wilson's 95 % interval of each share, (low, high); None where the number of pairs is not known."""
        if not self.counts_known:
            return None
        share = self.kind(kind)
        low, high = wilson_interval(share, self.data["pairs"])
        return low.transpose(*share.dims), high.transpose(*share.dims)

    # Evidence from other measurements

    def evidence(self, name: str) -> pd.DataFrame | None:
        """A table of EVIDENCE, or None where it was not gathered.

        Raises:
            AtlasError: its file is not the one that was written with the manifest.
        """
        if name not in EVIDENCE:
            raise SettingsError(f"evidence: expected one of {', '.join(EVIDENCE)}, found {name!r}.")
        if name not in self.manifest.get("evidence", {}):
            return None
        if name not in self._evidence:
            import pandas as pd

            remedy = f"Run `headatlas {EVIDENCE[name]}` again."
            path = _checked(Path(self.folder or "."), f"{name}.parquet", self.manifest, remedy)
            self._evidence[name] = pd.read_parquet(path)
        return self._evidence[name]

    def add_evidence(self, name: str, table: pd.DataFrame, facts: dict[str, Any]) -> None:
        """Add or replace a table of EVIDENCE; where the atlas has a folder, it is safe there when this returns.

        Args:
            facts: settings, versions and counts behind the table, for the manifest; JSON types only.

        Raises:
            AtlasError: the folder cannot be written, or holds another atlas by now.
        """
        from filelock import FileLock

        if name not in EVIDENCE:
            raise SettingsError(f"evidence: expected one of {', '.join(EVIDENCE)}, found {name!r}.")
        if self.folder is not None:
            try:
                with FileLock(self.folder / ".evidence.lock"):
                    manifest = load_manifest(self.folder)
                    if manifest.get("identity") != self.manifest.get("identity"):
                        raise AtlasError(f"{self.folder}: holds another atlas by now. Load it again.")
                    self.manifest = manifest
                    self._note_evidence(name, facts)
                    _write_table(self.folder, name, table, self.manifest)
                    _write_manifest(self.folder, self.manifest)
            except OSError as error:
                raise AtlasError(f"{self.folder}: {name} cannot be written ({error.strerror or error}).") from error
        else:
            self._note_evidence(name, facts)
        self._evidence[name] = table

    def _note_evidence(self, name: str, facts: dict[str, Any]) -> None:
        self.manifest["evidence"] = self.manifest.get("evidence", {}) | {name: facts}

    @cached_property
    def coverage(self) -> pd.DataFrame:
        """A row per relation, measured or not: pairs in the file, kept, why the others dropped, measurable or not.

        Counts are <NA> for imported scores, whose pairs are not known.
        """
        import pandas as pd

        rows = [
            {column: item.get(column) for column in COVERAGE_COLUMNS} for item in self.manifest["relations"]["items"]
        ]
        counts = [column for column in COVERAGE_COLUMNS[2:-1]]
        return pd.DataFrame(rows, columns=list(COVERAGE_COLUMNS)).astype(dict.fromkeys(counts, "Int64"))

    @cached_property
    def table(self) -> pd.DataFrame:
        """A row per relation, layer and head, with the columns of `scores.parquet`; <NA> where a count is unknown."""
        import numpy as np
        import pandas as pd

        n_relations, n_layers, n_heads = self.data["score"].shape
        per_relation, grid = n_layers * n_heads, self.data["score"].size
        columns: dict[str, Any] = {
            "relation": self.data["relation"].values.repeat(per_relation),
            "category": self.data["category"].values.repeat(per_relation),
            "layer": np.tile(np.arange(n_layers).repeat(n_heads), n_relations),
            "head": np.tile(np.arange(n_heads), n_relations * n_layers),
        }
        for name in ("k", "pairs"):
            values = self.data[name].values.repeat(per_relation)
            columns[name] = pd.array([value or None for value in values.tolist()], dtype="Int64")
        for name in ("hits", "suppression_hits"):
            known = name in self.data
            columns[name] = pd.array(self.data[name].values.ravel() if known else [None] * grid, dtype="Int64")
        for name in KINDS:
            columns[name] = self.data[name].values.ravel() if name in self.data else [None] * grid
        for name in _all_chance_variables():
            if name in self.data:
                columns[name] = self.data[name].values.ravel()
        columns["validity"] = np.tile(self.data["validity"].values.repeat(n_heads), n_relations)
        table = pd.DataFrame(columns).astype({"suppression": "float64"})
        table.loc[table["validity"] == NOT_APPLICABLE, ["hits", "suppression_hits"]] = pd.NA
        return table

    def above(self, threshold: str | float | None = None, kind: str = "score") -> np.ndarray:
        """Which scores are strictly above the threshold: Bool[ndarray, "relation layer head"].

        Exact where hits are known: 3 of 20 is not above 0.15.
        """
        import numpy as np

        limit = parse_threshold(self.threshold if threshold is None else threshold)
        shares = self.kind(kind).values
        if not self.counts_known:
            return shares > float(limit)
        hits = self.data["hits" if kind == "score" else "suppression_hits"].values
        # Python's whole numbers: no overflow, however many digits the threshold has.
        most = [limit.numerator * int(pairs) // limit.denominator for pairs in self.data["pairs"].values]
        return hits > np.asarray(most)[:, None, None]

    def heads(
        self,
        category: str | None = None,
        relation: str | None = None,
        min_score: str | float | None = None,
        kind: str = "score",
        profile: str | None = None,
    ) -> pd.DataFrame:
        """The heads whose score is strictly above `min_score` (default: the threshold), strongest first.

        With the profile `calibrated` (default: the atlas's own) only those whose score is also beyond chance.

        Returns a row per head and relation: name (`L23H4`), layer, head, relation, category, score, hits, pairs,
        chance, q, low and high (Wilson's 95 % interval), validity; None where not measured.

        >>> atlas.heads("Knowledge", min_score=0.9)[["name", "relation", "hits", "pairs"]]
           name            relation  hits  pairs
        0  L1H2  country_to_capital    40     40
        """
        import pandas as pd

        for what, value, known in (
            ("relation", relation, [item["relation"] for item in self.manifest["relations"]["items"]]),
            ("category", category, sorted({item["category"] for item in self.manifest["relations"]["items"]})),
        ):
            if value is not None and value not in known:
                raise SettingsError(f"{what}: expected {expected_names(known, value)}, found {value!r}.")
        chosen = self.above(min_score, kind)
        if (self.profile if profile is None else checked_profile(profile)) == "calibrated":
            chosen = chosen & self.beyond_chance(kind)
        chosen, table = chosen.ravel(), self.table
        if category is not None:
            chosen = chosen & (table["category"] == category).to_numpy()
        if relation is not None:
            chosen = chosen & (table["relation"] == relation).to_numpy()
        hits = "hits" if kind == "score" else "suppression_hits"
        rows = table.loc[chosen, ["layer", "head", "relation", "category", kind, hits, "pairs", "validity"]]
        rows = rows.rename(columns={kind: "score", hits: "hits"})
        low, high = self.interval(kind) or (None, None)
        for name, values in (("chance", self.chance(kind)), ("q", self.q_values(kind)), ("low", low), ("high", high)):
            column = None if values is None else values.values.ravel()[chosen]
            rows.insert(len(rows.columns) - 1, name, column)
        rows.insert(0, "name", [head_name(*place) for place in zip(rows["layer"], rows["head"], strict=True)])
        order = ["score", "pairs", "layer", "head", "relation"]
        rows = rows.sort_values(order, ascending=[False, False, True, True, True], ignore_index=True)
        return pd.DataFrame(rows)

    # Drawing and telling know the atlas, not the reverse: these only pass the call on.

    def head(self, name: str, profile: str | None = None) -> Card:
        """The card of a head such as `L23H4`; see `headatlas.analysis.card.Card`."""
        from headatlas.analysis.card import make_card

        return make_card(self, name, profile)

    def figure(self, **options: Any) -> Figure:
        """The map as a matplotlib figure; options as in `headatlas.figures.draw_map`."""
        from headatlas.figures import draw_map

        return draw_map(self, **options)

    def report(self, **options: Any) -> str:
        """The report as Markdown; options as in `headatlas.reports.write_report`."""
        from headatlas.reports import write_report

        return write_report(self, **options)

    def explore(self, other: Atlas | None = None) -> Any:
        """The explorer as a widget for notebooks, of this atlas or of two; `headatlas.explorer.ExplorerWidget`.

        Raises:
            SettingsError: the package anywidget is not installed.
        """
        try:
            from headatlas.explorer.widget import ExplorerWidget
        except ModuleNotFoundError as error:
            raise SettingsError(
                "explore: expected the package anywidget, found none. Install headatlas[notebook], or open the page "
                "that `headatlas explore` writes."
            ) from error
        return ExplorerWidget(*(self,) if other is None else (self, other))

    def _repr_png_(self) -> bytes:
        from headatlas.figures import render

        return render(self.figure(), "png")

    def __repr__(self) -> str:
        return (
            f"<Atlas of {self.name}: {len(self.relations)} relations, {self.n_layers} layers x {self.n_heads} heads, "
            f"{self.measure}, {self.label}>"
        )

    # On disk

    def save(self, folder: str | Path) -> Path:
        """Write the atlas into a folder, the manifest last, each file whole or not at all.

        Raises:
            AtlasError: the folder cannot be written.
        """
        folder = Path(folder)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            tables = {"scores": self.table} | ({} if self.pair_hits is None else {"hits": self.pair_hits})
            tables |= {name: self.evidence(name) for name in self.manifest.get("evidence", {})}
            (folder / MANIFEST).unlink(missing_ok=True)
            manifest = self.manifest | {"schema": SCHEMA_VERSION, "files": {}}
            for name, table in tables.items():
                _write_table(folder, name, table, manifest)
            _write_manifest(folder, manifest)
        except OSError as error:
            raise AtlasError(f"{folder}: the atlas cannot be written ({error.strerror or error}).") from error
        return folder

    @classmethod
    def load(cls, folder: str | Path) -> Atlas:
        """Read an atlas folder and check that its files are those that the manifest describes.

        Raises:
            AtlasError: no manifest, another schema, or a file that is missing or was changed.
        """
        folder = Path(folder)
        manifest = load_manifest(folder)
        import pandas as pd

        known = {SCORES, HITS, *(f"{name}.parquet" for name in EVIDENCE)}
        if unknown := sorted(set(manifest["files"]) - known):
            raise AtlasError(f"{folder / MANIFEST}: expected files of an atlas, found {unknown[0]!r}.")
        table = pd.read_parquet(_checked(folder, SCORES, manifest))
        pair_hits = pd.read_parquet(_checked(folder, HITS, manifest)) if HITS in manifest["files"] else None
        return cls(dataset_from_table(table), manifest, pair_hits, folder)


def load_atlas(folder: str | Path) -> Atlas:
    """Read an atlas folder, as `Atlas.load`."""
    return Atlas.load(folder)


def head_name(layer: int, head: int) -> str:
    """A head's name, both counted from 0: `L23H4`."""
    return f"L{layer}H{head}"


def load_manifest(folder: Path) -> dict[str, Any]:
    """Read and check `atlas.json` alone."""
    path = folder / MANIFEST
    if not path.is_file():
        there = "no such folder" if not folder.exists() else f"no {MANIFEST}"
        raise AtlasError(f"{folder}: expected an atlas folder (made by `headatlas map`), found {there}.")
    try:
        manifest = json.loads(path.read_text("utf-8"))
        schema = manifest["schema"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise AtlasError(
            f"{path}: expected a manifest with a schema version, found something else ({error})."
        ) from error
    if schema != SCHEMA_VERSION:
        raise AtlasError(
            f"{path}: expected schema {SCHEMA_VERSION}, found {schema!r}. Use the headatlas version that wrote it."
        )
    needed = {"measure", "label", "model", "settings", "relations", "files"}
    if missing := sorted(needed - set(manifest)):
        raise AtlasError(f"{path}: expected the key {missing[0]!r}, found none. Run the map again.")
    return manifest


def build_dataset(
    relations: list[tuple[str, str, int, int]], variables: dict[str, np.ndarray], validity: list[str] | None = None
) -> xr.Dataset:
    """Labelled arrays from plain ones.

    Args:
        relations: (name, category, k, pairs) of each; k and pairs are 0 where unknown.
        variables: `hits` and `suppression_hits`, from which the shares are computed, or `score` and, if it was
            measured, `suppression`; any of CHANCE_VARIABLES; each (relation, layer, head).
        validity: of each layer; default: not known.
    """
    import numpy as np
    import xarray as xr

    names, categories, k, pairs = zip(*relations, strict=True) if relations else ((), (), (), ())
    if "hits" in variables:
        n_pairs = np.asarray(pairs, dtype=np.float64)[:, None, None]
        variables = variables | {
            "score": variables["hits"] / n_pairs,
            "suppression": variables["suppression_hits"] / n_pairs,
        }
    dims = ("relation", "layer", "head")
    _, n_layers, n_heads = next(iter(variables.values())).shape
    kinds = [NOT_KNOWN] * n_layers if validity is None else validity
    without = np.asarray([kind == NOT_APPLICABLE for kind in kinds])[None, :, None]
    variables = {
        name: np.where(without, np.nan, values) if values.dtype.kind == "f" else values
        for name, values in variables.items()
    }
    return xr.Dataset(
        {name: (dims, values) for name, values in variables.items()},
        coords={
            "relation": np.asarray(names, dtype=object),
            "layer": np.arange(n_layers),
            "head": np.arange(n_heads),
            "category": ("relation", np.asarray(categories, dtype=object)),
            "k": ("relation", np.asarray(k, dtype=np.int64)),
            "pairs": ("relation", np.asarray(pairs, dtype=np.int64)),
            "validity": ("layer", np.asarray(kinds, dtype=object)),
        },
    )


def dataset_from_table(table: pd.DataFrame) -> xr.Dataset:
    """The labelled arrays of a complete table of scores, whatever the order of its rows.

    Raises:
        AtlasError: a relation lacks a layer or head, or has one twice.
    """
    names = list(dict.fromkeys(table["relation"]))
    n_layers, n_heads = (int(table[name].to_numpy().max()) + 1 for name in ("layer", "head"))
    order = {name: number for number, name in enumerate(names)}
    table = table.assign(_relation=[order[name] for name in table["relation"]])
    table = table.sort_values(["_relation", "layer", "head"])
    places = table[["_relation", "layer", "head"]].to_numpy(dtype="int64")
    expected = len(names) * n_layers * n_heads
    index = (places[:, 0] * n_layers + places[:, 1]) * n_heads + places[:, 2]
    if len(index) != expected or (index != range(expected)).any():
        raise AtlasError(
            f"scores: expected one row for each of {len(names)} relations x {n_layers} layers x {n_heads} heads "
            f"({expected} rows), found {len(index)} rows, {expected - len(set(index.tolist()))} places without one."
        )
    first = table.drop_duplicates("_relation")
    relations = [
        (str(row["relation"]), str(row["category"]), _known(row.get("k")), _known(row.get("pairs")))
        for row in first.to_dict("records")
    ]
    shape = (len(names), n_layers, n_heads)
    validity = None
    if "validity" in table:
        validity = [str(kind) for kind in table["validity"].iloc[: n_layers * n_heads : n_heads].tolist()]
        without = table["validity"] == NOT_APPLICABLE
        counted = [name for name in (*KINDS, "hits", "suppression_hits") if name in table]
        known = [name for name in counted if table.loc[~without, name].notna().all()]
        table = table.assign(**{name: table[name].mask(without, 0) for name in known})
    complete = [name for name in table if table[name].notna().to_numpy().all()]
    whole = [name for name in ("hits", "suppression_hits") if name in complete]
    chosen = whole if len(whole) == 2 else [name for name in KINDS if name in complete]
    dtype = "int32" if len(whole) == 2 else "float64"
    arrays = {name: table[name].to_numpy(dtype=dtype).reshape(shape) for name in chosen}
    arrays |= {name: table[name].to_numpy().reshape(shape) for name in _all_chance_variables() if name in table}
    return build_dataset(relations, arrays, validity)


def records(table: pd.DataFrame) -> list[dict[str, Any]]:
    """A table's rows as JSON types; None where a value is unknown."""
    import pandas as pd

    return [
        {str(name): None if pd.isna(value) else value for name, value in row.items()}
        for row in table.to_dict("records")
    ]


def write_atomically(path: Path, write: Any) -> None:
    """Call `write` with a path beside `path`, bring it safely to disk, then put it in place."""
    partial = path.with_name(f".{path.name}.partial")
    try:
        write(partial)
        with open(partial, "rb") as file:
            os.fsync(file.fileno())
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def _known(value: Any) -> int:
    import pandas as pd

    return 0 if value is None or pd.isna(value) else int(value)


def _all_chance_variables() -> list[str]:
    return [name for names in CHANCE_VARIABLES.values() for name in names]


def _write_table(folder: Path, name: str, table: pd.DataFrame, manifest: dict[str, Any]) -> None:
    """Write a table and note its hash in the manifest."""
    path = folder / f"{name}.parquet"
    write_atomically(path, lambda file: table.to_parquet(file, index=False))
    manifest["files"] = manifest["files"] | {path.name: {"sha256": _sha256(path)}}


def _write_manifest(folder: Path, manifest: dict[str, Any]) -> None:
    text = json.dumps(manifest, indent=2, ensure_ascii=False) + "\n"
    write_atomically(folder / MANIFEST, lambda file: file.write_text(text, "utf-8"))


def _checked(folder: Path, name: str, manifest: dict[str, Any], remedy: str = "Run the map again.") -> Path:
    """The path of a file that the manifest names, if it is the one that was written with it."""
    entry, path = manifest["files"].get(name), folder / name
    if entry is None:
        raise AtlasError(f"{folder / MANIFEST}: expected {name} among its files, found none. {remedy}")
    if not path.is_file():
        raise AtlasError(f"{folder}: the manifest names {name!r}, which is not there. {remedy}")
    if _sha256(path) != entry["sha256"]:
        raise AtlasError(f"{path}: the file is not the one that was written with atlas.json. {remedy}")
    return path


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
