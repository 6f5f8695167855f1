"""What agents are served: tools, resources, refusals; in process, and over standard input and output."""

import json
import os
import sys
from base64 import b64decode

import anyio
import pytest
from typer.testing import CliRunner

from atlases import HOSTILE, make_atlas, make_evidence, make_others, with_model
from headatlas.atlas import save_atlas
from headatlas.cli import app
from headatlas.errors import SettingsError
from headatlas.sharing.answers import NOTICE, Answers, name_atlases
from needs import need_package
from planted import HEAD, LAYER, PAIRS, make_planted, write_relation

need_package("mcp", "mcp")

from mcp import Client, MCPError, StdioServerParameters  # noqa: E402

from headatlas.sharing.mcp_server import build_server  # noqa: E402


@pytest.fixture(scope="module")
def atlases():
    first, second = make_others()
    tiny = make_evidence(make_atlas(3, 3, chance=True, name=HOSTILE[3]))
    return {"tiny": with_model(tiny, source="/home/someone/models/tiny"), "first": first, "second": second}


def ask(atlases, *calls, network=False):
    """The results of some calls of tools (name, arguments), or of reading resources (address)."""

    async def run():
        async with Client(build_server(Answers(atlases, network))) as client:
            return [
                await (client.read_resource(call) if isinstance(call, str) else client.call_tool(*call))
                for call in calls
            ]

    return anyio.run(run)


def data(result):
    assert not result.is_error, result.content
    found = result.structured_content
    assert found["notice"] == NOTICE and json.loads(result.content[0].text) == found
    return found["data"]


def refusal(atlases, tool, **arguments):
    (result,) = ask(atlases, (tool, arguments))
    assert result.is_error
    return result.content[0].text


def test_tools_only_read_and_take_no_paths(atlases):
    async def run():
        async with Client(build_server(Answers(atlases))) as client:
            return (await client.list_tools()).tools, (await client.list_resources()).resources, client.instructions

    tools, resources, instructions = anyio.run(run)
    assert sorted(tool.name for tool in tools) == ["compare", "figure", "find", "head", "heads"]
    for tool in tools:
        assert tool.annotations.read_only_hint and not tool.annotations.destructive_hint
        assert not {"path", "folder", "file", "model", "output"} & set(tool.input_schema["properties"])
    assert sorted(str(each.uri) for each in resources) == sorted(
        ["headatlas://atlases", *(f"headatlas://{name}/{what}" for name in atlases for what in ("manifest", "report"))]
    )
    assert NOTICE in instructions
    assert all(each.title.isprintable() for each in resources)


def test_heads_are_those_of_the_atlas(atlases):
    found, capped = ask(
        atlases,
        ("heads", {"atlas": "tiny", "relation": "knowledge_relation"}),
        ("heads", {"atlas": "tiny", "min_score": 0, "limit": 2}),
    )
    expected = atlases["tiny"].heads(relation="knowledge_relation")
    assert [row["name"] for row in data(found)["heads"]] == expected["name"].tolist()
    assert data(found)["heads"][0]["hits"] == expected["hits"][0]
    assert "ooks" in data(found)["heads"][0]["sentence"]
    assert len(data(capped)["heads"]) == 2 < data(capped)["rows"]


def test_heads_that_look_at_something(atlases):
    (found,) = ask(atlases, ("heads", {"atlas": "tiny", "reads": "sink"}))
    rows = data(found)["heads"]
    assert rows and all(row["behaviour"] == "sink" for row in rows)


def test_a_card_holds_no_place_of_this_machine_and_nothing_unprintable(atlases):
    (found,) = ask(atlases, ("head", {"atlas": "tiny", "name": "l1h2", "relations": 2, "operations": 3}))
    card = data(found)
    assert card["name"] == "L1H2" and card["model"]["source"] == "./tiny"
    assert len(card["relations"]) == 2 < card["relations_measured"] and len(card["salient"]) == 3
    assert "someone" not in found.content[0].text
    texts = [each["token"] for each in card["salient"]] + [card["model"]["name"]]
    assert all(text.isprintable() for text in texts)


def test_two_atlases_are_compared(atlases):
    by_function, by_heads = ask(
        atlases,
        ("compare", {"first": "first", "second": "second", "limit": 1}),
        ("compare", {"first": "tiny", "second": "tiny"}),
    )
    assert data(by_function)["by"] == "function" and len(data(by_function)["relations"]) == 1
    assert data(by_heads)["by"] == "heads"
    assert all(each["gained"] == [] for each in data(by_heads)["categories"])


def test_a_figure_is_a_picture(atlases):
    for arguments in ({}, {"relation": "knowledge_relation"}, {"reading": True, "palette": "colour-blind"}):
        (found,) = ask(atlases, ("figure", {"atlas": "tiny", **arguments}))
        (picture,) = found.content
        assert picture.type == "image" and picture.mime_type == "image/png"
        assert b64decode(picture.data).startswith(b"\x89PNG")


def test_resources_are_marked_as_data(atlases):
    listed, report, manifest = ask(
        atlases, "headatlas://atlases", "headatlas://tiny/report", "headatlas://tiny/manifest"
    )
    every = json.loads(listed.contents[0].text)
    assert every["notice"] == NOTICE and set(every["data"]) == set(atlases)
    assert every["data"]["tiny"]["relations"]["knowledge_relation"] == "Knowledge"
    assert report.contents[0].text.startswith(f"> {NOTICE}\n\n# ")
    assert all(line.isprintable() for line in report.contents[0].text.split("\n"))
    assert json.loads(manifest.contents[0].text)["data"]["model"]["source"] == "./tiny"
    assert not any("/home/someone" in each.contents[0].text for each in (listed, report, manifest))


def test_what_is_not_served_is_refused(atlases):
    assert "atlas: expected one of tiny, first, second, found none." in refusal(atlases, "heads")
    assert "found '../tiny'" in refusal(atlases, "head", atlas="../tiny", name="L0H0")
    assert "L0H0 to L2H2" in refusal(atlases, "head", atlas="tiny", name="L3H0")
    assert "name" in refusal(atlases, "head", atlas="tiny", name="L0H0; rm")
    assert "limit" in refusal(atlases, "heads", atlas="tiny", limit=100_000)
    assert "pairs" in refusal(atlases, "find", atlas="tiny", pairs=["a->b"] * 51)
    assert "found 'nothing'" in refusal(atlases, "find", atlas="tiny", pairs=["nothing"])
    assert "has no relation" in refusal(atlases, "figure", atlas="tiny", reading=True, relation="knowledge_relation")


def test_resources_elsewhere_are_refused(atlases):
    async def run(address):
        async with Client(build_server(Answers(atlases))) as client:
            with pytest.raises(MCPError, match="Unknown resource"):
                await client.read_resource(address)

    for address in ("headatlas://../report", "headatlas://tiny/scores.parquet", "file:///etc/passwd"):
        anyio.run(run, address)


@pytest.mark.parametrize("source", ["org/model", "https://host.invalid/model", "gpt2"])
def test_a_model_elsewhere_is_not_fetched_for_a_client(atlases, source):
    elsewhere = {"tiny": with_model(atlases["tiny"], source=source)}
    assert "--network" in refusal(elsewhere, "find", pairs=["a->b"])


def test_names_are_plain_and_differ(tmp_path):
    atlas = make_atlas(2, 2)
    folders = [save_atlas(atlas, tmp_path / name) for name in ("a", "b/a", "my models/..x y")]
    assert list(name_atlases(folders)) == ["a", "a-2", "x-y"]


def test_without_the_package_the_command_says_what_to_install(tmp_path, monkeypatch):
    folder = save_atlas(make_atlas(2, 2), tmp_path / "atlas")
    monkeypatch.setitem(sys.modules, "headatlas.sharing.mcp_server", None)
    result = CliRunner().invoke(app, ["serve-mcp", str(folder)])
    assert result.exit_code == 2 and "pip install 'headatlas[mcp]'" in " ".join(result.output.split())


def test_the_first_word_is_no_atlas(tmp_path):
    result = CliRunner().invoke(app, ["serve-mcp", str(tmp_path)])
    assert result.exit_code == 2 and "no atlas.json" in " ".join(result.output.split())
    with pytest.raises(SettingsError, match="at least one"):
        Answers({})


def test_words_are_found_in_a_model_of_this_machine(tmp_path):
    from headatlas.measuring.map import map_heads

    make_planted(tmp_path / "tiny", profile="alone")
    relation = write_relation(tmp_path / "planted.json")
    atlas = map_heads(tmp_path / "tiny", relations=[relation], chance=False, self_check=False)
    pairs = [f"{source}->{target}" for source, target in PAIRS[:3]]
    (found,) = ask({"planted": atlas}, ("find", {"pairs": pairs, "top": 1}))
    (best,) = data(found)["heads"]
    assert best["name"] == f"L{LAYER}H{HEAD}" and best["hits"] == 3


def test_over_standard_input_and_output(tmp_path):
    """As an agent starts it: a process of its own, and a client."""
    folder = save_atlas(make_atlas(3, 3, chance=True), tmp_path / "atlas")
    arguments = ["-m", "headatlas", "serve-mcp", str(folder)]
    server = StdioServerParameters(command=sys.executable, args=arguments, env=dict(os.environ))

    async def run():
        async with Client(server) as client:
            return await client.call_tool("heads", {"limit": 1})

    assert data(anyio.run(run))["heads"][0]["name"] == make_atlas(3, 3, chance=True).heads()["name"][0]
