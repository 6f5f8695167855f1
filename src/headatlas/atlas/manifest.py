"""The manifest of an atlas, `atlas.json`: what was measured, with which settings and versions.

The only place that reads or writes it. docs/folder.md describes the file.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Annotated, Any

from headatlas.atlas.evidence import EVIDENCE, Coefficient, EvidenceFacts, Facts
from headatlas.atlas.json_facts import (
    Count,
    Digest,
    Json,
    OneOf,
    Positive,
    Size,
    Text,
    Within,
    describe,
    read_facts,
    write_facts,
)
from headatlas.errors import AtlasError, SettingsError
from headatlas.settings import CONTEXTUALIZE, PROFILES, RULES, Settings, parse_threshold

SCHEMA_VERSION = 5
SCORES, HITS, PAIRS = "scores.parquet", "hits.parquet", "pairs.parquet"

MEASURES = ("weights", "attention-fixed", "in-context")
"""What was measured: the weights, or a running model, with its attention fixed on the source token or its own."""

TABLES = (SCORES, HITS, PAIRS, *(f"{name}.parquet" for name in EVIDENCE))
"""The files whose SHA-256 a manifest can contain."""

PREFIX_RULES = ("tokenizer", "ordinary", "user")

MOST_LAYERS = 100_000
LayerNumber = Annotated[int, Within(0, MOST_LAYERS - 1)]
ModelSize = Annotated[int, Within(1, MOST_LAYERS)]


@dataclass(frozen=True)
class ToolFacts:
    """The program that wrote the atlas."""

    name: Text
    version: Text


@dataclass(frozen=True)
class ValidityFacts:
    """How exact the circuits of some layers' heads are.

    Args:
        kind: such as `exact` or `approximate`.
        why: the reason; empty if there is none to give.
        layers: counted from 0.
    """

    kind: Text
    why: Text
    layers: tuple[LayerNumber, ...]


@dataclass(frozen=True)
class ModelFacts:
    """The model.

    Args:
        name, source: its name for titles, and where it was read.
        n_layers, n_heads: layers, and heads of a layer.
        n_kv_heads, d_head: None if layers differ, or for imported scores.
        fingerprint: digest of the weights that the map reads; this and all below are None for imported scores.
        model_type: of the language model.
        read_by: `entry` of a known family, or `module structure`.
        d_model, d_vocab: sizes.
        note: a sentence on the weights, such as their quantisation; None if there is none.
        validity: each that occurs, with its layers; empty for imported scores.
        underflow: heads whose output is so small that float32, and each smaller type, rounds it to zeros.
    """

    name: Text
    source: Text
    n_layers: ModelSize
    n_heads: ModelSize
    n_kv_heads: ModelSize | None = None
    d_model: Size | None = None
    d_head: Size | None = None
    d_vocab: Size | None = None
    model_type: Text | None = None
    read_by: Annotated[str, OneOf(("entry", "module structure"))] | None = None
    fingerprint: Digest | None = None
    note: Text | None = None
    validity: tuple[ValidityFacts, ...] = ()
    underflow: tuple[Text, ...] = ()


@dataclass(frozen=True)
class SettingsFacts:
    """The settings of the measurement, see `headatlas.settings.Settings`; None is not known, as for imported scores.

    Args:
        min_pairs: a relation with fewer pairs is not measurable.
    """

    threshold: Text
    profile: Annotated[str, OneOf(PROFILES)] = "maps"
    rule: Annotated[str, OneOf(RULES)] = "plain"
    k: Size | None = None
    k_copying: Size | None = None
    contextualize: Annotated[str, OneOf(CONTEXTUALIZE)] | None = None
    prefix: Count | None = None
    value_bias: bool | None = None
    attention_gain: bool | None = None
    final_norm_gain: bool | None = None
    input_norm_gain: bool | None = None
    min_pairs: Count | None = None

    @property
    def settings(self) -> Settings:
        """Settings that score other pairs in the same way; the defaults for those that are not known."""
        known = {each.name: getattr(self, each.name) for each in fields(Settings)}
        return Settings(**{name: value for name, value in known.items() if value is not None})


@dataclass(frozen=True)
class RelationFacts:
    """One relation, measured or not; None is not known, as for imported scores.

    Args:
        relation, category: names.
        measurable: whether it has scores.
        k: how many highest (lowest) logits count.
        in_file: pairs in its file; each is kept, or dropped for one reason.
        pairs: kept pairs, whose words are one token each.
        duplicates: pairs with the same tokens as an earlier pair.
        source_dropped, target_dropped: pairs whose source (otherwise target) is not one token.
        is_copying: whether it maps each word to itself.
        description, source, license: from its file.
        hash: SHA-256 of its pairs.
    """

    relation: Text
    category: Text
    measurable: bool
    k: Size | None = None
    in_file: Count | None = None
    pairs: Count | None = None
    duplicates: Count | None = None
    source_dropped: Count | None = None
    target_dropped: Count | None = None
    is_copying: bool | None = None
    description: Text | None = None
    source: Text | None = None
    license: Text | None = None
    hash: Digest | None = None


@dataclass(frozen=True)
class RelationsFacts:
    """The set of relations.

    Args:
        set: whose relations they are: built-in, the user's, imported.
        version: of the built-in relations; None without them.
        hash: SHA-256 of the set; None for imported scores.
        items: all relations, measured or not.
    """

    set: Text
    items: tuple[RelationFacts, ...]
    version: Text | None = None
    hash: Digest | None = None


@dataclass(frozen=True)
class LayerCheckFacts:
    """The self-check of layers of one kind, see `headatlas.architectures.self_check.LayerCheck`."""

    tried: tuple[LayerNumber, ...]
    layers: tuple[LayerNumber, ...]
    error: Positive
    scaled: bool


@dataclass(frozen=True)
class SelfCheckFacts:
    """The comparison of circuits with the model's own attention modules: the largest relative error, and all."""

    largest_error: Positive
    layers: tuple[LayerCheckFacts, ...]


@dataclass(frozen=True)
class PrefixFacts:
    """The token before each word that passes through the model alone.

    Args:
        token, text: its id and text.
        rule: why this one: the `tokenizer` puts it before every text; an `ordinary` word; or named by the `user`.
        agreement: how much alike words differ behind it and behind ordinary words, -1 to 1; None if not compared.
        error: largest relative difference between what the last layer with heads reads here and in the whole model;
            None if they were not compared.
        why_not: why they were not; None if they were.
    """

    token: Count
    text: Text
    rule: Annotated[str, OneOf(PREFIX_RULES)]
    agreement: Coefficient | None = None
    error: Positive | None = None
    why_not: Text | None = None


@dataclass(frozen=True)
class InputFacts:
    """How far the input that a map assumes is from what the model's own layers hand to the heads.

    Args:
        tokens: sources in the sample; 0 if they were not compared.
        cosines: of each layer, mean over the tokens of the cosine between both, as differences from the mean token;
            None for layers without heads. Empty if they were not compared.
        left_out: terms of the model that are not counted and may change ranks.
        why_not: why the inputs were not compared; None if they were.
    """

    tokens: Count = 0
    cosines: tuple[Coefficient | None, ...] = ()
    left_out: tuple[Text, ...] = ()
    why_not: Text | None = None


@dataclass(frozen=True)
class ChanceFacts:
    """How chance levels were measured: exactly from so many hits on, otherwise as a mean over re-pairings."""

    exact_from_hits: Count
    re_pairings: Count


@dataclass(frozen=True)
class CopyingFacts:
    """How copying was measured.

    Args:
        copiers: what stands for the output of a head that copies; a pair that any of them hits is copied.
        fewest_pairs: with fewer pairs that copying misses, a relation cannot be told from copying.
    """

    copiers: tuple[Text, ...]
    fewest_pairs: Count


@dataclass(frozen=True)
class RunFacts:
    """The run that finished the atlas.

    Args:
        seconds: of scoring.
        layers_from_earlier_run: layers that an interrupted run had finished.
        decided_in_float64: comparisons of logits that float32 could not decide.
        engine, device, threads: where layers were scored; threads of one process.
    """

    seconds: Positive
    layers_from_earlier_run: Count
    decided_in_float64: Count
    engine: Text
    device: Text
    threads: Size


@dataclass(frozen=True)
class ImportedFacts:
    """The file of imported scores."""

    file: Text
    sha256: Digest


@dataclass(frozen=True)
class FileFacts:
    """A file of the folder."""

    sha256: Digest


@dataclass(frozen=True)
class Manifest:
    """What an atlas contains and how it was made.

    Args:
        tool, created: the program, and the time in ISO 8601.
        measure: one of MEASURES.
        label: the profile, the rule unless it is `plain`, and the changed settings, in a few words.
        identity: a JSON value that is equal for two runs that make the same atlas.
        self_check: None if it was switched off, or for imported scores.
        prefix: None unless heads read words alone.
        input: None if they do, or for imported scores.
        chance, copying: None if chance levels were not measured, and if the pairs that copying hits were not.
        packages: versions of Python and libraries; empty for imported scores.
        run: None for imported scores.
        imported: None for scores that were measured here.
        evidence: the facts about each table that other measurements added.
        files: SHA-256 of each table in the folder; empty before the atlas is saved.
    """

    tool: ToolFacts
    created: Text
    measure: Annotated[str, OneOf(MEASURES)]
    label: Text
    identity: Json
    model: ModelFacts
    settings: SettingsFacts
    relations: RelationsFacts
    self_check: SelfCheckFacts | None = None
    prefix: PrefixFacts | None = None
    input: InputFacts | None = None
    chance: ChanceFacts | None = None
    copying: CopyingFacts | None = None
    packages: Mapping[str, Text] = field(default_factory=dict)
    run: RunFacts | None = None
    imported: ImportedFacts | None = None
    evidence: EvidenceFacts = field(default_factory=EvidenceFacts)
    files: Mapping[str, FileFacts] = field(default_factory=dict)

    @classmethod
    def from_json(cls, content: str | Mapping[str, Any], where: str | Path) -> Manifest:
        """The manifest in the text of `atlas.json`, or in the JSON object that was read from it.

        Args:
            where: the file, for messages.

        Raises:
            AtlasError: another schema, or a value that no manifest has; says which.
        """
        try:
            parsed: Any = json.loads(content) if isinstance(content, str) else content
            schema = parsed["schema"]
            rest = {name: value for name, value in parsed.items() if name != "schema"}
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
            raise AtlasError(
                f"{where}: expected a manifest with a schema version, found something else "
                f"({type(error).__name__}). Run the map again."
            ) from error
        if type(schema) is not int or schema != SCHEMA_VERSION:
            raise AtlasError(
                f"{where}: expected schema {SCHEMA_VERSION}, found {describe(schema)}. Use the headatlas version that "
                f"wrote it."
            )
        manifest = read_facts(cls, rest, where)
        for path, expected, found in _contradictions(manifest):
            raise AtlasError(f"{where}: {path}: expected {expected}, found {found}. Run the map again.")
        return manifest

    def as_dict(self) -> dict[str, Any]:
        """The content of `atlas.json` as JSON types; None is null, and evidence that was not gathered is left out."""
        evidence = {name: write_facts(getattr(self.evidence, name)) for name in self.evidence.names}
        return {"schema": SCHEMA_VERSION} | write_facts(self) | {"evidence": evidence}

    def to_json(self) -> str:
        """The text of `atlas.json`."""
        return json.dumps(self.as_dict(), indent=2, ensure_ascii=False) + "\n"

    def with_evidence(self, facts: Mapping[str, Facts]) -> Manifest:
        """The same manifest with the facts about some tables of evidence added or replaced."""
        return replace(self, evidence=self.evidence.having(facts))

    def with_file(self, name: str, sha256: str) -> Manifest:
        """The same manifest with a file of the folder added or replaced."""
        return replace(self, files={**self.files, name: FileFacts(sha256)})


def _contradictions(manifest: Manifest):
    """What does not fit together, as (path, expected, found)."""
    model, settings = manifest.model, manifest.settings
    try:
        parse_threshold(settings.threshold)
    except SettingsError:
        yield "settings.threshold", "a number from 0 to below 1 as text", describe(settings.threshold)
    if model.n_kv_heads is not None and model.n_heads % model.n_kv_heads:
        yield "model.n_kv_heads", f"a divisor of n_heads, {model.n_heads}", str(model.n_kv_heads)
    yield from _layers_contradict(manifest)
    names = [item.relation for item in manifest.relations.items]
    if len(set(names)) < len(names):
        twice = next(name for at, name in enumerate(names) if name in names[:at])
        yield "relations.items", "each relation once", f"{describe(twice)} twice"
    if not any(item.measurable for item in manifest.relations.items):
        yield "relations.items", "at least one measurable relation", "none"
    if unknown := [name for name in manifest.files if name not in TABLES]:
        yield "files", f"files of an atlas ({', '.join(TABLES)})", describe(unknown[0])
    if manifest.input is not None and len(manifest.input.cosines) not in (0, model.n_layers):
        yield "input.cosines", f"none or one of each of {model.n_layers} layers", str(len(manifest.input.cosines))
    if unknown := [head for head in model.underflow if not _is_head(head, model)]:
        yield "model.underflow", "names of heads such as L0H0", describe(unknown[0])
    yield from _ablations_contradict(manifest)


def _is_head(name: str, model: ModelFacts) -> bool:
    place = re.fullmatch(r"L([0-9]{1,6})H([0-9]{1,6})", name)
    return place is not None and int(place[1]) < model.n_layers and int(place[2]) < model.n_heads


def _layers_contradict(manifest: Manifest):
    n_layers, validity = manifest.model.n_layers, manifest.model.validity
    expected = f"layers from 0 to {n_layers - 1}, each once"
    groups = [("model.validity", [layer for each in validity for layer in each.layers])]
    if manifest.self_check is not None:
        for at, check in enumerate(manifest.self_check.layers):
            groups.append((f"self_check.layers[{at}].layers", list(check.layers)))
            groups.append((f"self_check.layers[{at}].tried", list(check.tried)))
    for path, layers in groups:
        if beyond := [layer for layer in layers if layer >= n_layers]:
            yield path, expected, f"layer {beyond[0]}"
        if len(set(layers)) < len(layers):
            yield path, expected, "one twice"
    if validity and len(groups[0][1]) < n_layers:
        yield "model.validity", f"every layer from 0 to {n_layers - 1}", f"{len(groups[0][1])} layers"


def _ablations_contradict(manifest: Manifest):
    known = {item.relation for item in manifest.relations.items}
    ablation, model = manifest.evidence.ablation, manifest.model
    for name, found in ({} if ablation is None else ablation.relations).items():
        if name not in known or found.relation != name:
            yield "evidence.ablation.relations", "relations of the atlas by their names", describe(name)
        for head in found.heads:
            if not _is_head(head, model):
                yield "evidence.ablation.relations", "names of heads such as L0H0", describe(head)
