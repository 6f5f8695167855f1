"""Tables of an atlas of somebody else: what no table holds is refused in one sentence, before it takes memory."""

import os
import time

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from atlases import replace_table
from headatlas.atlas import EVIDENCE, load_atlas
from headatlas.atlas.parquet_footer import codecs
from headatlas.atlas.schema import SCHEMAS
from headatlas.errors import AtlasError

MILLIONS = 20_000_000


def refusal(folder, name):
    started = time.process_time()
    with pytest.raises(AtlasError) as caught:
        atlas = load_atlas(folder)
        if name in EVIDENCE:
            atlas.evidence(name)
    assert time.process_time() - started < 1
    assert str(caught.value).startswith(str(folder)) and str(caught.value).isprintable()
    return str(caught.value).removeprefix(f"{folder}/")


def test_every_table_has_a_schema_and_what_is_written_is_read_again(folder):
    assert set(SCHEMAS) == {"scores", "hits", "pairs", *EVIDENCE}
    atlas = load_atlas(folder)
    for name in EVIDENCE:
        pd.testing.assert_frame_equal(atlas.evidence(name), pd.read_parquet(folder / f"{name}.parquet"))
    for name, table in {"hits": atlas.pair_hits, "pairs": atlas.pairs}.items():
        pd.testing.assert_frame_equal(table, pd.read_parquet(folder / f"{name}.parquet"))


def cell(column, value, row=0):
    def change(table):
        values = table[column].tolist()
        values[row] = value
        return table.assign(**{column: values})

    return change


CASES = {
    "null for a text": ("scores", cell("category", None), "'category': expected a value in each row, found none"),
    "null for a column": ("similar", lambda t: t.assign(rank=None), "'rank': expected whole numbers, found null"),
    "texts for numbers": ("similar", lambda t: t.assign(rank="1"), "'rank': expected whole numbers, found"),
    "lists": ("pairs", lambda t: t.assign(source=[["a"]] * len(t)), "'source': expected texts, found list"),
    "bytes": ("pairs", lambda t: t.assign(source=[b"a"] * len(t)), "'source': expected texts, found binary"),
    "no such layer": ("similar", cell("other_layer", 5), "'other_layer': expected whole numbers from 0 to 4, found 5"),
    "negative": ("hits", cell("layer", -1), "'layer': expected whole numbers from 0 to 4, found -1"),
    "no such relation": ("hits", cell("relation", "gone"), "'relation': expected measurable relations of the"),
    "no such side": ("hits", cell("side", "up"), "'side': expected one of promoted, suppressed, found 'up'"),
    "more than a share": ("attention", cell("p_value", 1.5), "'p_value': expected numbers from 0 to 1, found 1.5"),
    "infinite": ("salient", cell("amplification", np.inf), "'amplification': expected numbers from 0 to 3e+38"),
    "no float32": ("salient", cell("amplification", 1e300), "'amplification': expected numbers from 0 to 3e+38"),
    "missing": ("salient", cell("amplification", np.nan), "'amplification': expected a value in each row"),
    "a far rank": ("salient", cell("rank", 10**9), "'rank': expected numbers from 0 without large gaps, found up to"),
    "a row twice": (
        "similar", lambda t: pd.concat([t.iloc[:-1], t[:1]]),
        "expected each combination of layer, head, rank",
    ),
    "too few rows": ("scores", lambda t: t[:-1], "expected 30 rows, as the manifest has it, found 29"),
    "another column": ("edges", lambda t: t.assign(further=1), "'further': expected only the columns about, "),
    "no column": ("scores", lambda t: t.drop(columns="hits"), "expected a column 'hits', found none"),
    "half of a group": ("scores", lambda t: t.drop(columns="p_value"), "expected a column 'p_value', found none"),
    "another category": ("scores", cell("category", "x"), "'category': expected 'Knowledge' for 'knowledge_relation'"),
    "another k": ("scores", cell("k", 3), "'k': expected 10 for 'knowledge_relation' as in the manifest, found 3"),
    "no pairs": ("scores", lambda t: t.assign(pairs=0), "'pairs': expected 40 for 'knowledge_relation' as in"),
    "more hits than pairs": ("scores", cell("hits", 41), "'hits': expected at most the number of pairs, 40, found 41"),
    "another validity": ("scores", cell("validity", "best"), "'validity': expected one for all heads of a layer"),
    "a score is missing": ("scores", cell("p_value", np.nan), "'p_value': expected a value for each head, found"),
    "a hit is missing": ("hits", lambda t: t[1:], "hits.parquet: expected"),
    "a pair is missing": ("pairs", lambda t: t[1:], "expected 80 rows, as the manifest has it, found 79"),
    "another pair": (
        "pairs", cell("target_id", 7),
        "hits.parquet: expected pairs of pairs.parquet, found '</script><b>'",
    ),
    "a long text": ("salient", cell("token", "x" * 10_001), "'token': expected texts of at most 10,000 bytes, found"),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_what_no_table_holds_is_named(folder, case):
    name, change, message = CASES[case]
    replace_table(folder, name, change(pd.read_parquet(folder / f"{name}.parquet")))
    assert message in refusal(folder, name)


def test_a_codec_without_a_name_ends_no_process(folder):
    """pyarrow's own answer to the question for its name is the end of the process."""
    content = (folder / "similar.parquet").read_bytes()
    footer = len(content) - 8 - int.from_bytes(content[-8:-4], "little")
    damaged = (content[:at] + b"\x10" + content[at + 1 :] for at in range(footer, len(content) - 8))
    replace_table(folder, "similar", next(each for each in damaged if found_codecs(each) == {"SNAPPY", "codec 8"}))
    assert "expected columns compressed with" in (said := refusal(folder, "similar")) and "found codec 8" in said


@pytest.mark.parametrize("name", sorted(SCHEMAS))
def test_codecs_are_those_that_pyarrow_finds(folder, name):
    path = folder / f"{name}.parquet"
    if not path.exists():
        pytest.skip("a table that this atlas does not have")
    facts = pq.ParquetFile(path).metadata
    columns = [(group, at) for group in range(facts.num_row_groups) for at in range(facts.num_columns)]
    assert codecs(path.read_bytes()) == {facts.row_group(group).column(at).compression for group, at in columns}


def found_codecs(content):
    try:
        return codecs(content)
    except ValueError:
        return set()


@pytest.mark.parametrize("codec", ["gzip", "zstd", "brotli"])
def test_files_that_can_unpack_to_thousands_of_times_their_size_are_refused(folder, codec):
    replace_table(folder, "pairs", pq.read_table(folder / "pairs.parquet"), compression=codec)
    assert f"expected columns compressed with SNAPPY or UNCOMPRESSED, found {codec.upper()}" in refusal(folder, "pairs")


def test_a_small_file_of_many_rows_takes_no_memory(folder):
    rows = pd.read_parquet(folder / "attention.parquet")[:1]
    replace_table(folder, "attention", pa.table({name: pa.repeat(pa.scalar(rows[name][0]), MILLIONS) for name in rows}))
    assert (folder / "attention.parquet").stat().st_size < 2**20
    message = refusal(folder, "attention")
    assert "attention.parquet: expected a table of at most" in message and "bytes, found 1,920,000,000" in message


def test_a_text_that_is_repeated_counts_as_often_as_it_is_there(folder):
    n = 20_000
    table = pq.read_table(folder / "ablation.parquet").slice(0, 1)
    columns = {name: pa.repeat(table[name][0], n) for name in table.column_names}
    columns |= {"removed": pa.array(range(n)), "task": pa.array(["x" * 9_999] * n)}
    replace_table(folder, "ablation", pa.table(columns))
    assert "column 'task': expected texts of at most" in refusal(folder, "ablation")


def test_files_that_are_none_and_links_that_lead_out(folder, tmp_path):
    replace_table(folder, "hits", b"PAR1")
    assert "expected a table in Parquet, found a damaged one" in refusal(folder, "hits")
    (tmp_path / "elsewhere").write_bytes((folder / "hits.parquet").read_bytes())
    (folder / "hits.parquet").unlink()
    (folder / "hits.parquet").symlink_to(tmp_path / "elsewhere")
    assert "hits.parquet: cannot be read (it is a link that leads out of its folder)" in refusal(folder, "hits")
    if hasattr(os, "mkfifo"):
        (folder / "hits.parquet").unlink()
        os.mkfifo(folder / "hits.parquet")
        assert "hits.parquet: cannot be read (it is no file, but a device, a pipe" in refusal(folder, "hits")
        (folder / "atlas.json").unlink()
        os.mkfifo(folder / "atlas.json")
        assert "atlas.json: cannot be read (it is no file, but a device, a pipe" in refusal(folder, "hits")


def test_numbers_of_single_precision_are_compared_with_limits_beyond_theirs(folder):
    table = pd.read_parquet(folder / "headvis.parquet")
    name = next(name for name in table if table[name].dtype == "float64")
    replace_table(folder, "headvis", table.astype({name: "float32"}))
    assert load_atlas(folder).evidence("headvis")[name].dtype == "float32"
