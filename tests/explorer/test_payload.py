"""What the explorer is given equals the atlas, number by number and word by word."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from atlases import HOSTILE, PAIRS, WRITTEN, make_atlas, make_composition, make_evidence, make_others, with_manifest
from explorer_payload import unpack
from headatlas.analysis.compare_functions import compare_functions
from headatlas.analysis.composition import KINDS, TITLES, find_composition
from headatlas.analysis.reading import find_reading
from headatlas.analysis.sentences import Sentences
from headatlas.analysis.written import read_written
from headatlas.atlas import COPYING_VARIABLES, SIDES, Atlas, head_name
from headatlas.atlas.evidence import CONDITIONS, TOKENS
from headatlas.errors import AtlasError
from headatlas.explorer.packing import NOTHING
from headatlas.explorer.payload import build_payload
from headatlas.figures import PALETTES
from headatlas.measuring.import_scores import import_scores
from headatlas.reports.blocks import Code, CodeBlock, Picture, Strong, Title, bullets, heading, paragraph, table
from headatlas.reports.report import build_report
from headatlas.settings import MAX_Q, MIN_EXCESS, MIN_UNCOPIED

N_LAYERS, N_HEADS = 7, 3


@pytest.fixture
def atlas() -> Atlas:
    """Every size is another: 4 relations, 7 layers, 3 heads, and no heads in layer 5."""
    return make_evidence(make_atlas(N_LAYERS, N_HEADS, chance=True, without_heads=(5,)), n_tokens=5, n_mapped=2)


def places(table: pd.DataFrame, prefix: str = "") -> list[int]:
    return [row[f"{prefix}layer"] * N_HEADS + row[f"{prefix}head"] for row in table.to_dict("records")]


def test_counts_and_chance_are_the_atlas_s_own(atlas: Atlas) -> None:
    _, arrays = unpack(build_payload([atlas]))
    for side, variable in (("score", "hits"), ("suppression", "suppression_hits")):
        np.testing.assert_array_equal(arrays[f"0.{side}.hits"], atlas.data[variable].values)
        exact, chance, q_values = atlas.chance_exact(side), atlas.chance(side), atlas.q_values(side)
        assert exact is not None and chance is not None and q_values is not None
        np.testing.assert_array_equal(arrays[f"0.{side}.exact"], exact.values)
        np.testing.assert_array_equal(arrays[f"0.{side}.chance"], np.nan_to_num(chance.values))
        np.testing.assert_array_equal(arrays[f"0.{side}.q"], np.nan_to_num(q_values.values, nan=1.0))
        uncopied, q_values = atlas.uncopied_chance(side), atlas.uncopied_q_values(side)
        assert uncopied is not None and q_values is not None
        np.testing.assert_array_equal(arrays[f"0.{side}.uncopied.hits"], atlas.data[COPYING_VARIABLES[side][0]].values)
        np.testing.assert_array_equal(arrays[f"0.{side}.uncopied.chance"], np.nan_to_num(uncopied.values, nan=1.0))
        np.testing.assert_array_equal(arrays[f"0.{side}.uncopied.q"], np.nan_to_num(q_values.values, nan=1.0))
    np.testing.assert_array_equal(arrays["0.copied"], atlas.data["copied"].values)


def test_the_header_has_the_atlas_and_its_rule(atlas: Atlas) -> None:
    header, _ = unpack(build_payload([atlas]))
    (facts,) = header["atlases"]
    assert (header["maxQ"], header["minExcess"], header["minUncopied"]) == (MAX_Q, MIN_EXCESS, MIN_UNCOPIED)
    assert (facts["layers"], facts["heads"], facts["kvHeads"]) == (N_LAYERS, N_HEADS, 3)
    assert (facts["name"], facts["threshold"], facts["rule"]) == ("demo-135M", "0.15", "plain")
    assert facts["hasHeads"] == [layer != 5 for layer in range(N_LAYERS)]
    assert {"kind": "not applicable", "why": "linear attention", "layers": [5]} in facts["validityGroups"]
    assert [(r["name"], r["category"], r["k"], r["pairs"]) for r in facts["relations"]] == [
        (f"{category.lower()}_relation", category, 10, PAIRS)
        for category in ("Algorithmic", "Knowledge", "Linguistic", "Translation")
    ]
    for name, palette in PALETTES.items():
        assert header["palettes"][name]["unclassified"] == palette.unclassified
        assert len(header["palettes"][name]["scale"]) == 256


def test_sentences_of_a_language_model_are_at_their_head(atlas: Atlas) -> None:
    header, arrays = unpack(build_payload([atlas]))
    rows = read_written(atlas)
    assert rows and header["atlases"][0]["written"] == {"model": WRITTEN.model, "chance": 0.2}
    for place in range(N_LAYERS * N_HEADS):
        row = rows.get(divmod(place, N_HEADS))
        number = arrays["0.written.sentence"][place]
        assert (None if number == NOTHING else header["words"][number]) == (None if row is None else row.sentence)
        if row is not None:
            assert arrays["0.written.right"][place].tolist() == [row.correct, row.rules_correct, row.questions]


def test_a_prompt_of_another_model_is_refused(atlas: Atlas) -> None:
    prompt = SimpleNamespace(fingerprint="0" * 64, model="another")
    with pytest.raises(AtlasError, match="expected a prompt of the atlas's model, found one of another"):
        build_payload([atlas], prompt=prompt)  # type: ignore[arg-type]


def test_the_report_is_blocks_of_printable_text_without_pictures(atlas: Atlas) -> None:
    report = (
        Title(("Heads of ", Code("a\x1b[31m"))),
        Picture("map", "figure.png"),
        heading("*h*"),
        paragraph("<b> & ", Strong("✓")),
        bullets(["one", Code("two")]),
        table(["a", "b"], [["|", "1"]], right=(1,)),
        CodeBlock("x\n\ty", "bibtex"),
    )

    def plain(text: str) -> dict[str, str]:
        return {"style": "plain", "text": text}

    (facts,) = unpack(build_payload([atlas], [report]))[0]["atlases"]
    assert facts["report"] == [
        {"type": "title", "text": [plain("Heads of "), {"style": "code", "text": "a\\x1b[31m"}]},
        {"type": "heading", "text": [plain("*h*")]},
        {"type": "paragraph", "text": [plain("<b> & "), {"style": "strong", "text": "✓"}]},
        {"type": "list", "items": [[plain("one")], [{"style": "code", "text": "two"}]]},
        {"type": "table", "header": [[plain("a")], [plain("b")]], "rows": [[[plain("|")], [plain("1")]]], "right": [1]},
        {"type": "code", "text": "x\n\\ty"},
    ]


def test_the_report_of_the_atlas_is_built_if_none_is_given(atlas: Atlas) -> None:
    assert build_payload([atlas]) == build_payload([atlas], [build_report(atlas)])


def test_salient_operations_are_at_their_head_rank_and_side(atlas: Atlas) -> None:
    header, arrays = unpack(build_payload([atlas]))
    table = atlas.evidence("salient")
    assert table is not None and header["atlases"][0]["salient"] == {"tokens": 5, "mapped": 2}
    words = header["words"]
    for row, place in zip(table.to_dict("records"), places(table), strict=True):
        side = int(row["side"] == "suppressed")
        assert words[arrays["0.salient.token"][place, row["rank"]]] == row["token"]
        assert words[arrays["0.salient.mapped"][place, row["rank"], side, row["to_rank"]]] == row["to_token"]
        assert arrays["0.salient.amplification"][place, row["rank"]] == np.float32(row["amplification"])
    without = slice(5 * N_HEADS, 6 * N_HEADS)
    assert (arrays["0.salient.token"][without] == NOTHING).all()
    assert (arrays["0.salient.mapped"][without] == NOTHING).all()


def test_similar_heads_and_descriptions_are_at_their_head(atlas: Atlas) -> None:
    header, arrays = unpack(build_payload([atlas]))
    similar, descriptions = atlas.evidence("similar"), atlas.evidence("descriptions")
    assert similar is not None and descriptions is not None
    at = (places(similar), similar["rank"].to_numpy())
    assert arrays["0.similar.place"][at].tolist() == places(similar, "other_")
    np.testing.assert_array_equal(arrays["0.similar.value"][at], similar["similarity"].astype("float32"))
    for name in ("description", "rule"):
        assert [header["words"][number] for number in arrays[f"0.{name}"][places(descriptions)]] == list(
            descriptions[name]
        )
    np.testing.assert_array_equal(
        arrays["0.confidence"][places(descriptions)], descriptions["confidence"].astype("float32")
    )


def test_validation_holds_what_was_measured_and_nan_elsewhere(atlas: Atlas) -> None:
    table = atlas.evidence("validation")
    assert table is not None
    _, arrays = unpack(build_payload([atlas]))
    for side in SIDES:
        values = arrays[f"0.validation.{side}"].copy()
        for row, place in zip(table.to_dict("records"), places(table), strict=True):
            at = (atlas.relations.index(row["relation"]), CONDITIONS.index(row["condition"]),
                  TOKENS.index(row["tokens"]), place)  # fmt: skip
            assert values[at] == np.float32(row[side])
            values[at] = np.nan
        assert np.isnan(values).all()


def test_ablation_curves_go_by_the_number_of_removed_heads(atlas: Atlas) -> None:
    table = atlas.evidence("ablation")
    assert table is not None
    (facts,) = unpack(build_payload([atlas]))[0]["atlases"]
    rows = [
        (curve["relation"], curve["task"], curve["order"], *each)
        for curve in facts["ablation"]
        for each in zip(curve["removed"], curve["correct"], curve["prompts"], strict=True)
    ]
    names = ["relation", "task", "order", "removed", "correct", "prompts"]
    assert sorted(rows) == sorted(table[names].itertuples(index=False, name=None))
    assert all(curve["removed"] == sorted(curve["removed"]) for curve in facts["ablation"])
    assert {curve["order"]: curve["random"] for curve in facts["ablation"]} == {
        "score": False, "random 1": True, "random 2": True
    }  # fmt: skip


def test_pair_hits_are_the_atlas_s_and_sorted_by_place() -> None:
    atlas = make_atlas(N_LAYERS, N_HEADS)
    relation = atlas.relations[1]
    table = pd.DataFrame(
        [
            (relation, 6, 2, 11, " a", 12, HOSTILE[0], "promoted", 0),
            (relation, 0, 1, 11, " a", 12, HOSTILE[0], "suppressed", 3),
            (relation, 0, 1, 13, HOSTILE[4], 14, " d", "promoted", 1),
        ],
        columns=["relation", "layer", "head", "source_id", "source", "target_id", "target", "side", "rank"],
    )
    atlas = replace(atlas, pair_hits=table)
    header, arrays = unpack(build_payload([atlas]))
    words = header["words"]
    assert arrays["0.hit.place"].tolist() == sorted(arrays["0.hit.place"].tolist())
    found = {
        (int(place), words[arrays["0.pair.source"][pair]], words[arrays["0.pair.target"][pair]], int(side))
        for place, pair, side in zip(arrays["0.hit.place"], arrays["0.hit.pair"], arrays["0.hit.side"], strict=True)
    }
    assert found == {(20, " a", HOSTILE[0], 0), (1, " a", HOSTILE[0], 1), (1, HOSTILE[4], " d", 0)}
    assert len(arrays["0.pair.relation"]) == 2 and set(arrays["0.pair.relation"]) == {1}


def test_evidence_that_an_atlas_lacks_is_absent_and_not_zero() -> None:
    header, arrays = unpack(build_payload([make_atlas(N_LAYERS, N_HEADS)]))
    (facts,) = header["atlases"]
    assert (facts["salient"], facts["similar"], facts["ablation"]) == (None, 0, None)
    assert not (facts["pairs"] or facts["descriptions"] or facts["validation"])
    assert facts["reading"] is None and "0.reading.value" not in arrays
    assert set(arrays) == {"0.score.hits", "0.suppression.hits", "0.sentence"}


def test_imported_shares_are_shown_as_shares_without_counts_or_suppression(tmp_path: Path) -> None:
    path = tmp_path / "scores.csv"
    rows = [f"capitals,Knowledge,{layer},{head},{(layer * 3 + head) / 7}" for layer in range(2) for head in range(3)]
    path.write_text("\n".join(["relation,category,layer,head,score", *rows]), "utf-8")
    atlas = import_scores(path, "weights")
    header, arrays = unpack(build_payload([atlas]))
    (facts,) = header["atlases"]
    assert not facts["hasCounts"] and not facts["pairs"] and facts["relations"][0]["pairs"] == 0
    assert set(arrays) == {"0.score.share", "0.sentence"}
    np.testing.assert_array_equal(arrays["0.score.share"], atlas.scores.values)
    assert arrays["0.score.share"][0, 1, 2] == 5 / 7


def test_a_relation_that_was_not_measurable_is_named_with_its_pairs() -> None:
    (facts,) = unpack(build_payload([make_atlas(N_LAYERS, N_HEADS, unmeasured=("Knowledge",))]))[0]["atlases"]
    assert facts["notMeasured"] == [{"name": "knowledge_words", "category": "Knowledge", "pairs": 3}]
    assert "knowledge_words" not in [relation["name"] for relation in facts["relations"]]


def test_a_lone_surrogate_does_not_stop_the_page(atlas: Atlas) -> None:
    table = atlas.evidence("descriptions")
    assert table is not None
    table["description"] = table["description"].astype(object)
    table.loc[0, "description"] = "maps \udcff to x"
    header, arrays = unpack(build_payload([atlas]))
    assert header["words"][arrays["0.description"][0]] == "maps ? to x"


def test_two_atlases_keep_their_numbers_apart() -> None:
    one, two = (make_atlas(N_LAYERS, N_HEADS, seed=seed, name=f"model {seed}") for seed in (1, 2))
    header, arrays = unpack(build_payload([one, two]))
    assert [facts["name"] for facts in header["atlases"]] == ["model 1", "model 2"]
    for prefix, atlas in zip(("0.", "1."), (one, two), strict=True):
        np.testing.assert_array_equal(arrays[f"{prefix}score.hits"], atlas.data["hits"].values)
    assert (arrays["0.score.hits"] != arrays["1.score.hits"]).any()


def test_atlases_that_cannot_be_compared_are_refused() -> None:
    with pytest.raises(AtlasError, match="expected the pairs that were measured, found none"):
        build_payload([make_atlas(N_LAYERS, N_HEADS), make_atlas(N_LAYERS + 1, N_HEADS)])


def test_atlases_whose_heads_do_not_correspond_are_compared_by_function() -> None:
    first, second = make_others()
    header, _ = unpack(build_payload([first, second]))
    assert list(header["functions"]) == list(SIDES)
    for side, functions in header["functions"].items():
        found = compare_functions(first, second, side=side)
        assert [each["name"] for each in functions["relations"]] == [each.relation for each in found.relations]
        for each, expected in zip(functions["relations"], found.relations, strict=True):
            assert (each["category"], each["pairs"]) == (expected.category, expected.pairs)
            for name, atlas in (("first", first), ("second", second)):
                best, place = getattr(expected, name), each[name]["place"]
                assert (None if place is None else head_name(*divmod(place, atlas.n_heads))) == best.name
                assert all(each[name][key] == getattr(best, key) for key in ("score", "chance", "copying"))
        assert functions["matched"] == [
            {
                "first": each.first[0] * first.n_heads + each.first[1],
                "second": each.second[0] * second.n_heads + each.second[1],
                "similarity": each.similarity,
                "q": each.q_value,
                "common": each.common,
                "expected": each.expected_common,
            }
            for each in found.matched
        ]
        assert (functions["tried"], functions["byChance"]) == (len(found.matches), found.by_chance)
        assert functions["onlyFirst"] == list(found.only_first) and functions["onlySecond"] == list(found.only_second)
    assert len(header["functions"]["score"]["matched"]) == 1
    assert {name for name, _ in header["palettes"]["paper"]["categories"]} == {
        "Algorithmic", "Knowledge", "Linguistic", "Translation", HOSTILE[0]
    }  # fmt: skip


def test_atlases_whose_heads_correspond_are_not_compared_by_function() -> None:
    header, _ = unpack(build_payload([make_atlas(3, 2, seed=seed) for seed in (0, 1)]))
    assert header["functions"] is None


def test_two_thresholds_do_not_stop_the_page() -> None:
    first, second = make_others()
    strict = with_manifest(second, settings=replace(second.manifest.settings, threshold="0.3"))
    header, _ = unpack(build_payload([first, strict]))
    assert [facts["threshold"] for facts in header["atlases"]] == ["0.15", "0.3"]
    # As the page begins: with the first atlas's threshold for both.
    assert header["functions"] == unpack(build_payload([first, second]))[0]["functions"]
    with pytest.raises(AtlasError, match="the same threshold"):
        compare_functions(first, strict)


def test_the_bytes_hold_no_time(atlas: Atlas) -> None:
    payload = build_payload([atlas])
    assert payload == build_payload([atlas])
    assert payload[4:8] == bytes(4)  # gzip's time stamp


def test_each_head_has_its_sentence(atlas: Atlas) -> None:
    for each in (atlas, make_atlas(N_LAYERS, N_HEADS, without_heads=(5,))):
        header, arrays = unpack(build_payload([each]))
        told = Sentences(each)
        for place, number in enumerate(arrays["0.sentence"].tolist()):
            sentence = told.of(*divmod(place, N_HEADS))
            assert sentence == (None if number == NOTHING else header["words"][number])
            assert (sentence is None) == (place // N_HEADS == 5)
            if each is atlas:
                shown = [name for name in ("sentence", "description") if arrays[f"0.{name}.shown"][place]]
                assert shown == list(told.shown(*divmod(place, N_HEADS)))


def test_where_heads_look_is_at_its_behaviour_and_head(atlas: Atlas) -> None:
    header, arrays = unpack(build_payload([atlas]))
    (facts,) = header["atlases"]
    found = find_reading(atlas)
    assert found is not None
    assert [each["name"] for each in facts["reading"]] == list(found.names)
    assert [each["limit"] for each in facts["reading"]] == [found.limits[name] for name in found.names]
    shape = (len(found.names), N_LAYERS * N_HEADS)
    np.testing.assert_array_equal(arrays["0.reading.value"], found.value.reshape(shape))
    np.testing.assert_array_equal(arrays["0.reading.has"], found.has.reshape(shape))
    titles = [each["title"] for each in facts["reading"]]
    for name, palette in header["readingPalettes"].items():
        assert [title for title, _ in palette["categories"]] == titles and name in PALETTES


EDGES = [
    ("previous", 0, 1, 2, 0, "key", 3.0, 1e-3),
    ("previous", 1, 2, 4, 0, "key", 5.0, 2e-3),
    ("induction", 2, 0, 6, 1, "query", 0.9, 1e-3),
    ("previous", 0, 1, 6, 2, "key", 9.0, 0.02),  # not beyond chance
]


def test_edges_are_those_that_the_card_names(atlas: Atlas) -> None:
    atlas = make_composition(atlas, EDGES)
    paths, facts = atlas.evidence("paths"), atlas.manifest.evidence.paths
    assert paths is not None and facts is not None
    atlas = atlas.with_evidence({"paths": (pd.DataFrame(paths[paths["edge"] > 0]), facts)})  # the first not removed
    header, arrays = unpack(build_payload([atlas]))
    found = find_composition(atlas)
    assert found is not None
    assert header["atlases"][0]["composition"] == {
        "tried": 4, "edges": 3, "kinds": list(KINDS), "about": list(TITLES.values())
    }  # fmt: skip
    for name in ("previous", "share", "chance", "q", "measured"):
        np.testing.assert_array_equal(arrays[f"0.composed.{name}"], getattr(found, name).ravel())
    for number, edge in enumerate(found.edges):
        assert divmod(int(arrays["0.edge.sender"][number]), N_HEADS) == edge.sender
        assert divmod(int(arrays["0.edge.receiver"][number]), N_HEADS) == edge.receiver
        assert KINDS[arrays["0.edge.kind"][number]] == edge.kind
        assert list(TITLES)[arrays["0.edge.about"][number]] == edge.about
        for name in ("strength", "chance", "q"):
            assert arrays[f"0.edge.{name}"][number] == getattr(edge, name)
        removed = arrays["0.edge.removed"][number]
        assert (
            np.isnan(removed).all() if edge.removed is None else removed.tolist() == list(vars(edge.removed).values())
        )
    assert [edge.removed is None for edge in found.edges] == [False, True, False]


def test_an_atlas_without_a_named_edge_has_empty_arrays(atlas: Atlas) -> None:
    header, arrays = unpack(build_payload([make_composition(atlas, [])]))
    assert header["atlases"][0]["composition"]["edges"] == 0 and arrays["0.edge.removed"].shape == (0, 7)
    assert unpack(build_payload([make_atlas(N_LAYERS, N_HEADS)]))[0]["atlases"][0]["composition"] is None
