"""The command line: every command, one sentence for every error, and exit codes."""

import json
import re
import subprocess
import sys
from io import StringIO

import pytest
from typer.testing import CliRunner

from headatlas.cli import app
from planted import HEAD, LAYER, make_planted, write_relation


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with the planted model `tiny`, its relation `planted.json`, and their atlas `atlas`."""
    place = tmp_path_factory.mktemp("cli")
    make_planted(place / "tiny", profile="alone")
    write_relation(place / "planted.json")
    return place


@pytest.fixture
def run(place, monkeypatch):
    monkeypatch.chdir(place)
    monkeypatch.setenv("COLUMNS", "100")

    def call(*arguments, code=0):
        result = CliRunner().invoke(app, [str(argument) for argument in arguments])
        assert result.exit_code == code, (result.output, result.exception)
        return result

    if not (place / "atlas" / "atlas.json").exists():
        call("map", "tiny", "-o", "atlas", "--relations", "planted.json")
    return call


def test_map_ends_with_the_finding(run):
    result = run("map", "tiny", "-o", "atlas", "--relations", "planted.json")
    assert "atlas already holds this map: same model, relations and settings." in result.stderr
    shown = " ".join(result.stdout.split())
    assert shown.startswith("1 of 12 heads of tiny (8.3 %) implements at least one of 1 measured relation, beyond ")
    assert f"The strongest is L{LAYER}H{HEAD}, for planted (" in shown and "37 of 37 pairs, where chance hits" in shown
    assert "Open: atlas/explorer.html" in shown and f"headatlas head atlas L{LAYER}H{HEAD} #" in shown
    assert "Strongest head of each relation" not in shown
    table = run("map", "tiny", "-o", "atlas", "--relations", "planted.json", "--table").stdout
    assert "Strongest head of each relation" in table and "Unclassified" in table


def test_the_small_map_is_read_without_colours(run):
    lines = run("map", "tiny", "-o", "atlas", "--relations", "planted.json").stdout.splitlines()
    (first,) = (number for number, line in enumerate(lines) if line.startswith("  head  0"))
    cells = [line[10:].split() for line in lines[first : first + 4]]
    assert cells[HEAD][LAYER] == "P" and sum(row.count("P") for row in cells) == 1
    assert all(len(row) == 3 for row in cells) and lines[first + 4].split() == ["0", "1", "2", "layer"]
    assert "P  Planted 1" in lines[first + 5]


def test_map_as_json(run):
    found = json.loads(run("map", "tiny", "-o", "atlas", "--relations", "planted.json", "--json").stdout)
    assert (found["folder"], found["classified"], found["categories"]) == ("atlas", 1, {"Planted": 1})
    assert found["strongest"][0]["name"] == f"L{LAYER}H{HEAD}" and found["strongest"][0]["best"]["hits"] == 37
    assert len(found["finding"]) == 3


@pytest.mark.usefixtures("rendered")
def test_figure(run, place):
    for name in ("m.png", "m.svg", "m.pdf"):
        run("figure", "atlas", "-o", name)
        assert (place / name).stat().st_size > 1_000
    run("figure", "atlas", "-o", "h.png", "--relation", "planted", "--palette", "colour-blind", "--width", "3.25")
    run("figure", "atlas", "-o", "s.png", "--side", "suppression", "--threshold", "0.3", "--width", "column")


def test_report(run, place):
    text = run("report", "atlas").stdout
    assert text.startswith("# ") and f"L{LAYER}H{HEAD}" in text
    run("report", "atlas", "-o", "r.md")
    assert (place / "r.md").read_text("utf-8") == text


def test_heads(run):
    line = run("heads", "atlas").stdout
    chance_and_q = r"0\.\d{3}\t[\d.]+e-\d\d"
    counts, copying = "1.000\t37\t37", "1.000\tbeyond"
    assert re.fullmatch(rf"L{LAYER}H{HEAD}\tplanted\tPlanted\t{counts}\t{chance_and_q}\t{copying}\texact\n", line)
    assert run("heads", "atlas", "--min-score", "0.99", "--category", "Planted").stdout.startswith(f"L{LAYER}H{HEAD}\t")
    (row,) = json.loads(run("heads", "atlas", "--relation", "planted", "--json").stdout)
    assert (row["layer"], row["head"], row["hits"], row["score"]) == (LAYER, HEAD, 37, 1.0)
    assert run("heads", "atlas", "--side", "suppression").stdout == ""


class Terminal(StringIO):
    """Standard output as a terminal has it."""

    def isatty(self):
        return True


@pytest.mark.parametrize("width", [80, 120])
def test_heads_fit_the_screen(run, monkeypatch, width):
    import headatlas
    from headatlas.cli.results import _show_heads

    atlas = headatlas.load_atlas("atlas")
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setattr(sys, "stdout", out := Terminal())
    _show_heads(atlas, headatlas.atlas.records(atlas.heads()), "score", atlas.threshold)
    lines = [re.sub(r"\x1b\[[\d;]*m", "", line).rstrip() for line in out.getvalue().splitlines()]
    assert lines[0] == "1 head, 1 score above 0.15" and all(len(line) <= width for line in lines)
    assert lines[1].split()[:5] == ["head", "relation", "category", "score", "hits"]
    assert ("uncopied" in lines[1]) == (width == 120)
    assert f"L{LAYER}H{HEAD}" in lines[3] and "37/37" in lines[3]


def test_the_report_is_rendered_in_a_terminal_only(run, monkeypatch):
    from headatlas.cli.screen import show_markdown

    text = run("report", "atlas").stdout
    assert "| category | heads |" in text and "## In short" in text
    monkeypatch.setattr(sys, "stdout", out := Terminal())
    show_markdown(text)
    shown = re.sub(r"\x1b\[[\d;]*m", "", out.getvalue())
    assert "In short" in shown and "## In short" not in shown and "| category" not in shown


def test_every_result_is_json_too(run):
    kinds = [block["kind"] for block in json.loads(run("report", "atlas", "--json").stdout)]
    assert kinds[0] == "Title" and {"Heading", "Table", "Paragraph"} <= set(kinds)
    assert json.loads(run("explore", "atlas", "--no-open", "-o", "p.html", "--json").stdout) == {"wrote": "p.html"}
    assert json.loads(run("salient", "atlas", "--json", "-q").stdout)["looked_at"] > 0


def test_names_are_found_whatever_their_case(run, place):
    whole = run("heads", "atlas").stdout
    assert whole and run("heads", "atlas", "--relation", "PLANTED", "--category", "planted").stdout == whole
    assert "France\tParis" in run("relations", "Country_To_Capital").stdout
    run("figure", "atlas", "-o", "case.png", "--relation", "Planted")
    assert f"L{LAYER}H{HEAD} of tiny" in run("head", "atlas", f"l{LAYER}h{HEAD}", "--markdown").stdout


def test_two_thresholds_are_shown_on_one_page(run, place):
    run("map", "tiny", "-o", "strict", "--relations", "planted.json", "--threshold", "0.4", "--no-chance")
    shown = run("explore", "atlas", "strict", "--no-open", "-o", "two.html")
    assert "tiny has another threshold or rule (0.4, plain)" in " ".join(shown.stderr.split())
    assert (place / "two.html").stat().st_size > 10_000


def test_relations(run):
    listed = json.loads(run("relations", "--json").stdout)
    assert len(listed) >= 32 and {"name", "category", "license", "source", "in_file"} <= set(listed[0])
    assert "country_to_capital" in run("relations").stdout
    assert "France\tParis" in run("relations", "country_to_capital").stdout
    checked = json.loads(run("relations", "--check", "planted.json", "--model", "tiny", "--json").stdout)
    assert (checked[0]["kept"], checked[0]["measurable"], checked[0]["k"]) == (37, True, 1)
    assert "1 of 1 relations measurable" in run("relations", "--check", "planted.json", "--model", "tiny").stdout


def test_relations_say_which_words_drop_out(run, place):
    write_relation(place / "mixed.json", [["ba", "be"], ["ba", "nothing"], ["nothing", "be"], ["ba", "be"]])
    shown = run("relations", "mixed", "--check", "mixed.json", "--model", "tiny")
    assert shown.stdout.splitlines() == [
        "ba\tbe\tkept",
        "ba\tnothing\tleft out: the target is not one token",
        "nothing\tbe\tleft out: the source is not one token",
        "ba\tbe\tleft out: the same tokens again",
    ]
    (record,) = json.loads(run("relations", "--check", "mixed.json", "--model", "tiny", "--json").stdout)
    assert (record["kept"], record["measurable"], record["dropped_target"]) == (1, False, 1)


def test_export(run, place):
    assert run("export", "atlas").stdout.startswith("relation,category,layer,head,k,pairs,hits,suppression_hits,score,")
    assert json.loads(run("export", "atlas", "--format", "heads").stdout)["categories"] == {"Planted": [[LAYER, HEAD]]}
    run("export", "atlas", "--format", "json", "-o", "e.json")
    assert json.loads((place / "e.json").read_text("utf-8"))["scores"]


def test_import_what_was_exported(run):
    run("export", "atlas", "-o", "scores.csv")
    result = run("import", "scores.csv", "-o", "imported", "--measure", "weights", "--name", "Tiny")
    assert "1 of 12 heads of Tiny" in result.stdout and "1.00" in result.stdout
    assert run("heads", "imported").stdout == f"L{LAYER}H{HEAD}\tplanted\tPlanted\t1.000\t\t\t-\t-\t-\t-\tnot known\n"
    run("import", "scores.csv", "-o", "imported", "--measure", "weights", "--name", "Tiny")
    renamed = run("import", "scores.csv", "-o", "imported", "--measure", "weights", "--name", "Other", code=2)
    assert "imported: holds an atlas with name=Tiny where this run has Other" in " ".join(renamed.stderr.split())
    other = run("import", "scores.csv", "-o", "imported", "--measure", "in-context", code=2)
    assert "imported: holds an atlas with" in other.stderr


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ("map ./nothing -o x", "nothing: expected a model's folder or a .gguf file, found nothing"),
        ("map tiny -o x --relations no.json", "no.json: expected a relation file or a folder of them, found nothing"),
        ("map tiny -o tiny --relations planted.json", "tiny: expected an empty folder or an atlas"),
        ("map tiny -o x --threshold 2", "threshold: expected a number from 0 to below 1 such as 0.15, found '2'."),
        ("map tiny -o x --profile best", "profile: expected one of maps, alone, found 'best'."),
        ("map tiny -o x --rule best", "rule: expected one of plain, calibrated, found 'best'."),
        ("heads tiny", "tiny: expected an atlas folder (made by `headatlas map`), found no atlas.json."),
        ("heads atlas --category No", "category: expected one of Planted, found 'No'."),
        ("figure atlas -o x.bmp", ""),
        ("figure atlas -o x.png --relation no", ""),
        ("report atlas -o no/such/r.md", "no/such/r.md: cannot be written (No such file or directory)."),
        ("relations nothing", "relations: expected one of"),
        ("import no.csv -o x --measure weights", "no.csv: expected a CSV file of scores, found nothing"),
    ],
)  # fmt: skip
def test_errors_are_one_sentence_and_exit_2(run, place, arguments, sentence):
    result = run(*arguments.split(), code=2)
    assert result.stderr.splitlines()[-1].startswith(f"Error: {sentence}") and "Traceback" not in result.stderr
    assert not (place / "x" / "atlas.json").exists()


def test_the_traceback_comes_with_debug(run, place):
    done = subprocess.run(
        [sys.executable, "-m", "headatlas", "--debug", "heads", "nothing"],
        cwd=place,
        capture_output=True,
        encoding="utf-8",
    )
    assert done.returncode == 1 and "Traceback" in done.stderr and "AtlasError: nothing: expected" in done.stderr


def test_ctrl_c_exits_with_130(run, monkeypatch):
    def stop(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr("headatlas.measuring.map.map_heads", stop)
    result = run("map", "tiny", "-o", "x", "--relations", "planted.json", code=130)
    assert "the same command continues where it stopped" in result.stderr


def test_a_hostile_name_cannot_write_to_the_terminal(run, place):
    write_relation(place / "hostile.json", [["[red]a[/red]\x1b[31m", "b"]])
    shown = run("relations", "--check", "hostile.json", "hostile").output
    assert "\x1b" not in shown and "[red]a[/red]\\x1b[31m" in shown


def test_version_and_help(run):
    import headatlas

    assert run("--version").stdout.strip() == f"headatlas {headatlas.__version__}"
    assert "map" in run("--help").stdout


@pytest.mark.parametrize(("chosen", "expected"), [({}, "PASSIVE"), ({"OMP_WAIT_POLICY": "ACTIVE"}, "ACTIVE")])
def test_threads_give_way_while_they_wait_unless_told_otherwise(chosen, expected, monkeypatch):
    module, seen = sys.modules["headatlas.cli.app"], []
    monkeypatch.setattr(module.os, "environ", dict(chosen))
    monkeypatch.setattr(module, "app", lambda: seen.append(module.os.environ["OMP_WAIT_POLICY"]))
    module.main()
    assert seen == [expected]
