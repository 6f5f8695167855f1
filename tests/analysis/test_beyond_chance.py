"""A map compared with chance: both rules, borderline scores, the dependence on threshold and k."""

from dataclasses import replace

import numpy as np
import pytest
from typer.testing import CliRunner

from atlases import make_atlas
from headatlas import classify
from headatlas.analysis.beyond_chance import count_classified
from headatlas.analysis.findings import analyse
from headatlas.atlas import load_atlas
from headatlas.cli import app
from headatlas.errors import AtlasError, SettingsError
from headatlas.figures import draw_map, draw_sensitivity, render
from headatlas.measuring.output import write_results
from headatlas.reports.report import write_report


def with_hits(atlas):
    """The atlas with a row for each hit, whose ranks go round."""
    import pandas as pd

    rows = []
    for variable, side in (("hits", "promoted"), ("suppression_hits", "suppressed")):
        for (relation, layer, head), hits in np.ndenumerate(atlas.data[variable].values):
            rows += [
                (atlas.relations[relation], f"s{n}", f"t{n}", n, n, layer, head, side, (n * 3 + head) % 10)
                for n in range(hits)
            ]
    names = ["relation", "source", "target", "source_id", "target_id", "layer", "head", "side", "rank"]
    atlas = replace(atlas, pair_hits=pd.DataFrame(rows, columns=names))
    return atlas


def test_the_analysis_lists_what_is_not_beyond_chance():
    atlas = make_atlas(chance=True)
    found = analyse(atlas).beyond_chance
    plain, beyond = classify(atlas).implements, atlas.beyond_chance()
    assert len(found.unproven) == int((plain & ~beyond).sum()) > 0
    for each in found.unproven:
        place = (atlas.relations.index(each.relation), *each.head)
        assert plain[place] and not beyond[place]
        assert each.share == atlas.scores.values[place] and each.chance == atlas.chance().values[place]
    shares = [each.share for each in found.unproven]
    assert shares == sorted(shares, reverse=True)
    assert found.exact == atlas.chance_exact().values.mean()
    assert analyse(make_atlas()).beyond_chance is None


def test_borderline_scores_have_the_threshold_in_their_interval():
    atlas = make_atlas(n_layers=5, n_heads=3, without_heads=(2,))
    low, high = (each.values for each in atlas.interval())
    borderline = analyse(atlas).borderline
    assert borderline.any() and not borderline[:, 2].any()
    for place in zip(*borderline.nonzero(), strict=True):
        assert low[place] <= 0.15 < high[place]
    assert borderline.sum() == np.nansum((low <= 0.15) & (high > 0.15))


def test_classified_heads_by_threshold_and_k_are_a_plain_recount():
    atlas = with_hits(make_atlas(n_layers=7, n_heads=5))
    found = count_classified(atlas, ["0.05", "0.15", "0.5"], [1, 4, 10])
    assert found[10] == [classify(atlas, threshold).n_classified for threshold in ("0.05", "0.15", "0.5")]
    for k in (1, 4):
        for threshold, counted in zip(("0.05", "0.15", "0.5"), found[k], strict=True):
            heads = set()
            near = atlas.pair_hits[(atlas.pair_hits["rank"] < k) & (atlas.pair_hits["side"] == "promoted")]
            for (_, layer, head), rows in near.groupby(["relation", "layer", "head"]):
                if len(rows) * 100 > round(float(threshold) * 100) * 40:
                    heads.add((layer, head))
            assert counted == len(heads)
    assert found[1][0] < found[4][0] < found[10][0] or found[1][1] < found[10][1]
    assert count_classified(make_atlas(), ["0.1"], [1]) is None


def test_reports_and_captions_say_which_rule(tmp_path):
    atlas = make_atlas(chance=True)
    plain, strict = write_report(atlas), write_report(atlas, rule="calibrated")
    assert "## How far it could be chance" in plain and "| Any |" in plain and "not shown to be beyond chance" in plain
    assert "shown with the rule calibrated" in strict and "beyond chance (q < 0.01" in strict
    assert "not measured" in write_report(make_atlas()).split("## How far")[1].split("## ")[0]
    assert draw_map(atlas, rule="calibrated").metadata["Settings"] == "maps, calibrated"
    assert "beyond chance" in draw_map(atlas, rule="calibrated").metadata["Description"]
    with pytest.raises(AtlasError, match="needs chance levels"):
        draw_map(make_atlas(), rule="calibrated")
    with pytest.raises(SettingsError, match="expected one of plain, calibrated"):
        atlas.heads(rule="best")


def test_heads_tell_chance_q_and_interval_where_measured():
    atlas = make_atlas(chance=True)
    rows = atlas.heads()
    assert len(rows) == int(classify(atlas).implements.sum())
    low, high = (each.values for each in atlas.interval())
    for row in rows.head(20).to_dict("records"):
        place = (atlas.relations.index(row["relation"]), row["layer"], row["head"])
        assert row["chance"] == atlas.chance().values[place] and row["q"] == atlas.q_values().values[place]
        assert (row["low"], row["high"]) == (low[place], high[place])
    assert len(atlas.heads(rule="calibrated")) == int(classify(atlas, rule="calibrated").implements.sum())
    assert make_atlas().heads()["chance"].isna().all()


def test_commands_apply_either_rule(tmp_path):
    write_results(with_hits(make_atlas(n_layers=7, n_heads=5, chance=True)), tmp_path)
    assert load_atlas(tmp_path).pair_hits is not None and (tmp_path / "sensitivity.svg").is_file()
    assert "sensitivity.png" in (tmp_path / "report.md").read_text("utf-8")
    run = lambda *given: CliRunner().invoke(app, list(given))  # noqa: E731
    lines = {rule: run("heads", str(tmp_path), "--rule", rule).stdout.splitlines() for rule in
             ("plain", "calibrated")}  # fmt: skip
    assert 0 < len(lines["calibrated"]) < len(lines["plain"]) and lines["plain"][0].count("\t") == 10
    assert "rule calibrated" in run("report", str(tmp_path), "--rule", "calibrated").stdout
    for given in (["--rule", "calibrated"], ["--sensitivity"]):
        assert run("figure", str(tmp_path), "-o", str(tmp_path / "x.png"), *given).exit_code == 0


def test_the_plot_has_a_line_for_each_k():
    figure = draw_sensitivity(with_hits(make_atlas(n_layers=7, n_heads=5)))
    lines = [line for line in figure.axes[0].get_lines() if str(line.get_label()).startswith("k = ")]
    assert [line.get_label() for line in lines] == ["k = 1", "k = 2", "k = 5", "k = 10, as measured"]
    assert render(figure, "png")[:4] == b"\x89PNG"
    strict = draw_sensitivity(with_hits(make_atlas(n_layers=7, n_heads=5, chance=True))).axes[0].get_lines()
    assert "k = 10, calibrated" in [line.get_label() for line in strict]
    with pytest.raises(AtlasError, match="needs the ranks of hits"):
        draw_sensitivity(make_atlas())
