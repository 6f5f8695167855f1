"""An atlas: scores of every head for every measured relation, and where they came from; knows no other room."""

from headatlas.atlas.evidence import EVIDENCE
from headatlas.atlas.files import MANIFEST, load_manifest
from headatlas.atlas.folder import load_atlas, save_atlas, save_evidence
from headatlas.atlas.manifest import HITS, MEASURES, PAIRS, SCHEMA_VERSION, SCORES, Manifest
from headatlas.atlas.table import (
    CHANCE_VARIABLES,
    COPYING_VARIABLES,
    HITS_SIDES,
    HITS_VARIABLES,
    NOT_APPLICABLE,
    NOT_KNOWN,
    SIDES,
    build_dataset,
    dataset_from_table,
    head_name,
    records,
)
from headatlas.atlas.value import BY_COPYING, Atlas

__all__ = [
    "BY_COPYING",
    "CHANCE_VARIABLES",
    "COPYING_VARIABLES",
    "EVIDENCE",
    "HITS",
    "HITS_SIDES",
    "HITS_VARIABLES",
    "MANIFEST",
    "MEASURES",
    "NOT_APPLICABLE",
    "NOT_KNOWN",
    "PAIRS",
    "SCHEMA_VERSION",
    "SCORES",
    "SIDES",
    "Atlas",
    "Manifest",
    "build_dataset",
    "dataset_from_table",
    "head_name",
    "load_atlas",
    "load_manifest",
    "records",
    "save_atlas",
    "save_evidence",
]
