"""The scripts of tools/ that the Makefile and the release workflow run."""

import csv
import importlib.util
import json
import re
import subprocess
import sys

import pytest

from atlases import make_atlas, make_evidence
from needs import ROOT


def run(script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "tools" / script), *arguments]
    return subprocess.run(command, capture_output=True, encoding="utf-8", timeout=300)


def versions(text: str) -> dict[str, tuple[int, ...]]:
    found = re.findall(r"^([\w.-]+)==([\d.]+)$", text, re.M)
    return {name.lower(): tuple(map(int, version.split("."))) for name, version in found}


def test_lowest_versions_are_not_above_those_of_make():
    lowest = versions(run("lowest_versions.py").stdout)
    installed = versions((ROOT / "constraints.txt").read_text("utf-8"))
    assert {"torch", "transformers", "pytest"} < set(lowest)
    for name, version in lowest.items():
        assert version <= installed[name], name


def test_a_tag_must_name_the_version():
    from headatlas import __version__

    assert run("check_tag.py", f"v{__version__}").returncode == 0
    wrong = run("check_tag.py", "v9.9.9")
    assert wrong.returncode == 1
    assert f"Expected the tag v{__version__}, as in _version.py, found v9.9.9" in wrong.stderr


def test_the_citation_has_the_version():
    import yaml

    from headatlas import __version__

    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text("utf-8"))
    assert str(citation["version"]) == __version__


@pytest.mark.parametrize("path", sorted((ROOT / ".github").rglob("*.yml")), ids=lambda path: path.name)
def test_github_s_files_are_yaml(path):
    import yaml

    assert isinstance(yaml.safe_load(path.read_text("utf-8")), dict)


def load_tool(name):
    spec = importlib.util.spec_from_file_location(name, ROOT / "tools" / f"{name}.py")
    tool = sys.modules[name] = importlib.util.module_from_spec(spec)  # where its data classes look for it
    spec.loader.exec_module(tool)
    return tool


def test_separation_counts_uncopied_hits_below_k():
    import pandas as pd

    tool = load_tool("separation_by_k")
    # Source n has the target n; copying gives the first two pairs rank 0, and the others none that counts.
    copied = {(name, at, at): 0 if at < 2 else 99 for name in ("r", "r-shuffled") for at in range(14)}
    hits = [("r", 0, 1, at, at, at % 3) for at in range(9)] + [("r-shuffled", 1, 0, 5, 5, 0)]
    ranks = pd.DataFrame(hits, columns=["relation", "layer", "head", "source_id", "target_id", "rank"])
    # Uncopied are the pairs 2 to 13; of the hits among them, 2 to 8, those of rank 0 are 3 and 6.
    assert tool.separation(ranks, copied, "r", 1) == (2 / 12, 1 / 12)
    assert tool.separation(ranks, copied, "r", 3) == (7 / 12, 1 / 12)
    assert tool.separation(ranks, copied, "r", 100) is None


def test_evidence_compares_both_profiles_with_one_running_model():
    import numpy as np

    evidence = load_tool("evidence")
    alone, maps = make_evidence(make_atlas(5, 3)), make_atlas(5, 3, seed=1)
    table = evidence.running(alone, "in-context")
    for atlas in (alone, maps):
        expected = [
            np.corrcoef(atlas.share("score").sel(relation=name).values.ravel(), of_relation["score"])[0, 1]
            for name, of_relation in table.groupby("relation")
        ]
        assert evidence.mean(atlas, table).mean == pytest.approx(np.mean(expected))
    figure = evidence.draw_agreement({"model": {"alone": alone, "maps": maps}})
    fixed_maps, fixed_alone, *_ = (axes.collections[0].get_offsets() for axes in figure.axes)
    assert len(fixed_maps) == len(fixed_alone) == len(alone.relations) * 15
    assert np.array_equal(fixed_maps[:, 1], fixed_alone[:, 1]) and not np.array_equal(fixed_maps, fixed_alone)


def test_a_small_run_learns_what_its_survey_measures(tmp_path):
    """A short one: the task is what its description says, and the checkpoints can be listed and read."""
    import torch

    from headatlas.measuring.survey_list import read_model_list
    from headatlas.relations import load_relations

    tool = load_tool("train_small_run")
    words = tool.VOCABULARY
    lists = tool.relations(0)
    ids = {name: torch.tensor([[tool.NUMBER[word] for word in pair] for pair in each]) for name, each in lists.items()}
    given, wanted = tool.batch(ids, "second_pairs", torch.Generator().manual_seed(0))
    half = tool.BATCH // 2
    assert given.shape == wanted.shape == (tool.BATCH, tool.LENGTH + 1) and (given[:, 0] == 0).all()
    n = int((wanted[0] == -100).sum()) - 1
    assert tool.LEAST_REPEATED <= n <= 31
    assert (given[:half, 1:-n] == given[:half, 1 + n :]).all() and (
        wanted[:half, 1 + n :] == given[:half, 1 + n :]
    ).all()
    pairs = dict(lists["second_pairs"])
    for source, question, answer in given[half:, 1:].reshape(-1, 3).tolist():
        asked = {tool.SAME: words[source], tool.PAIR: pairs[words[source]]}
        assert words[answer] == asked[words[question]]
    with torch.random.fork_rng():
        tool.main(tmp_path / "run", 24, 0)
    models = read_model_list(tmp_path / "run" / "models.toml")
    assert [model.step for model in models] == [0, 1, 3, 6, 9, 12, 15, 24]
    assert all((tmp_path / "run" / model.name / "model.safetensors").is_file() for model in models)
    assert [len(each.pairs) for each in load_relations(tmp_path / "run" / "relations")] == [tool.N_PAIRS] * 3


def test_the_gallery_opens_by_itself(tmp_path):
    gallery = load_tool("make_gallery")
    hostile = '../evil/"><script>alert(1)</script>'
    atlases = [make_atlas(n_layers=3, n_heads=2, name=name, chance=True) for name in (hostile, hostile, "..")]
    index = gallery.make_gallery(tmp_path / "gallery", atlases)
    text = index.read_text("utf-8")
    assert "<script" not in text and "http" not in re.sub("http-equiv", "", text)
    pages = re.findall('<h2><a href="([^"]+)"', text)
    assert len(set(pages)) == 3 and all((tmp_path / "gallery" / page).is_file() for page in pages)
    assert [path.name for path in tmp_path.iterdir()] == ["gallery"]
    assert "of 6 attention heads" in text and text.count("data:image/png;base64,") == 3


@pytest.mark.usefixtures("rendered")
def test_the_figures_of_the_documentation(tmp_path):
    from headatlas.atlas import save_atlas

    gallery = load_tool("make_gallery")
    for name in ("images", "a", "b"):
        (tmp_path / name).mkdir()
    page = tmp_path / "gallery.md"
    page.write_text(f"# Gallery\n\n{gallery.START}\nold\n{gallery.END}\n\nRest\n", "utf-8")
    relations = ("name_copying", "country_to_capital", "noun_to_plural")
    atlas = make_atlas(4, 3, ("Algorithmic", "Knowledge", "Linguistic"), relations=relations, chance=True)
    save_atlas(make_evidence(atlas), tmp_path / "a")
    save_atlas(
        make_atlas(4, 3, ("Algorithmic", "Knowledge", "Linguistic"), relations=relations, seed=1), tmp_path / "b"
    )
    # Not those that need ranks of hits, curves of this relation, or two atlases.
    without = ("sensitivity", "ablation")
    gallery.FIGURES = tuple(each for each in gallery.FIGURES if each[0] not in without)
    drawn = gallery.make_figures(tmp_path, tmp_path / "a", tmp_path / "b")
    assert drawn == [*gallery.MAPS, *(name for name, *_ in gallery.FIGURES)]
    assert {f"{name}.png" for name in gallery.MAPS} <= {path.name for path in (tmp_path / "images").iterdir()}
    text = page.read_text("utf-8")
    assert text.startswith("# Gallery") and text.endswith("Rest\n") and "old" not in text
    for name, title, _ in gallery.FIGURES:
        assert (tmp_path / "images" / f"figure-{name}.png").stat().st_size > 5000
        assert f"### {title}" in text and f"(images/figure-{name}.png)" in text
    assert "headatlas figure demo-atlas -o column.pdf --width column --font serif --no-caption" in text


def test_the_gallery_has_the_figures_of_its_tool():
    gallery = load_tool("make_gallery")
    text = (ROOT / "docs" / "gallery.md").read_text("utf-8")
    drawn = {*gallery.MAPS, *(f"figure-{name}" for name, *_ in gallery.FIGURES)}
    assert set(re.findall(r"\(images/(.+?)\.png\)", text)) <= drawn
    for name, title, command in gallery.FIGURES:
        if (ROOT / "docs" / "images" / f"figure-{name}.png").is_file():
            assert f"### {title}\n\n```text\nheadatlas {command.format(f'{name}.pdf')}\n" in text


def test_a_compressed_variant_is_the_model_with_other_matrices(tmp_path):
    import gguf
    import numpy as np

    from gguf_models import make_model as make_gguf_model
    from gguf_models import write

    tool = load_tool("compression")
    source = write(make_gguf_model("llama"), "llama", tmp_path / "model.gguf")
    assert tool.write_variant(source, tmp_path / "same.gguf", lambda weight: weight) == 0
    before, after = (gguf.GGUFReader(each) for each in (source, tmp_path / "same.gguf"))
    assert {name for name in before.fields if not name.startswith("GGUF.")} <= set(after.fields)
    assert [each.name for each in before.tensors] == [each.name for each in after.tensors]
    weight = np.random.default_rng(0).standard_normal((64, 96)).astype(np.float32)
    errors = {}
    for name, (_, change) in tool.VARIANTS.items():
        moved, noise = (np.linalg.norm(each(weight) - weight) for each in (change, tool.noisy(change)))
        assert noise == pytest.approx(moved, rel=1e-3), name
        errors[name] = moved
    by_bits = [errors[name] for name in ("Q8_0", "Q5_0", "Q4_0", "3 bits", "2 bits")]
    assert by_bits == sorted(by_bits) and len(np.unique(tool.rounded(2)(weight)[0, : tool.BLOCK])) <= 4
    assert (tool.pruned(0.3)(weight) == 0).mean() == pytest.approx(0.3, abs=0.01)


def test_a_merge_moves_the_model_half_as_far_as_its_fine_tune(tmp_path):
    import gguf
    import torch
    from safetensors.torch import load_file, save_file

    from gguf_models import make_model as make_gguf_model
    from gguf_models import write

    tool = load_tool("compression")
    source = write(make_gguf_model("llama"), "llama", tmp_path / "model.gguf")
    name = "base_model.model.model.layers.1.self_attn.v_proj"
    generator = torch.Generator().manual_seed(3)
    A, B = (torch.randn(shape, generator=generator) for shape in ((2, 48), (20, 2)))
    (tmp_path / "tuned").mkdir()
    save_file(
        {f"{name}.lora_A.weight": A, f"{name}.lora_B.weight": B}, tmp_path / "tuned" / "adapter_model.safetensors"
    )
    (tmp_path / "tuned" / "adapter_config.json").write_text('{"r": 2, "lora_alpha": 8}', "utf-8")
    whole = sum(
        float((gguf.dequantize(each.data, each.tensor_type).astype("float64") ** 2).sum())
        for each in gguf.GGUFReader(source).tensors
        if len(each.shape) == 2
    )
    found = {}
    for by_chance in (False, True):
        relative = tool.write_merge(source, tmp_path / "tuned", tmp_path / "merged", by_chance)
        assert relative == pytest.approx(float((B @ A).norm()) * 2 / whole**0.5, rel=1e-5)
        config = json.loads((tmp_path / "merged" / "adapter_config.json").read_text("utf-8"))
        tensors = load_file(tmp_path / "merged" / "adapter_model.safetensors")
        change = tensors[f"{name}.lora_B.weight"] @ tensors[f"{name}.lora_A.weight"]
        found[by_chance] = change * config["lora_alpha"] / config["r"]
    torch.testing.assert_close(found[False], B @ A * 2)
    assert found[True].norm() == pytest.approx(float(found[False].norm()), rel=1e-5)
    assert (found[True] - found[False]).norm() > found[False].norm()


SOURCES, TARGETS = [1, 2, 3, 4, 5, 6, 7, 8], [11, 11, 13, 13, 15, 16, 17, 8]
"""Two clusters of two pairs, and four of one pair."""


def ways_to_pair(scheme):
    """All new targets of these pairs: Int[ndarray, "n_ways n_pairs"]."""
    from itertools import permutations, product

    import numpy as np

    if scheme == "free":
        return np.array(list(permutations(TARGETS)))
    if scheme == "clusters":
        both, single = permutations([[11, 11], [13, 13]]), permutations([15, 16, 17, 8])
        return np.array([[*one, *other, *rest] for (one, other), rest in product(both, single)])
    distinct = sorted(set(TARGETS))
    return np.array([[dict(zip(distinct, to, strict=True))[t] for t in TARGETS] for to in permutations(distinct)])


@pytest.mark.parametrize(("scheme", "least"), [("free", 1 / 40_320), ("clusters", 1 / 48), ("classes", 1 / 720)])
def test_p_values_of_pairs_that_share_words_are_those_of_all_ways(scheme, least):
    import numpy as np

    tool = load_tool("shared_words")
    words = tool.Words.of_pairs(np.array(SOURCES), np.array(TARGETS))
    assert words.cluster[0] == words.cluster[1] != words.cluster[2] == words.cluster[3]
    assert len(set(words.cluster)) == 6
    assert tool.least_p(words, scheme) == pytest.approx(least)
    ways, generator = ways_to_pair(scheme), np.random.default_rng(5)
    drawn = next(tool.columns(words, scheme, 300, generator))
    assert set(map(tuple, words.targets[drawn])) <= set(map(tuple, ways)) and len(np.unique(drawn, axis=0)) > 40
    expected = {}
    for head in range(5):
        D = generator.random((8, 6)) < 0.4
        D[np.arange(0, 8, 2), words.column[::2]] = True
        words.hits[0, head] = D
        weight = D - D.mean(0) if scheme == "classes" else D.astype(float)
        place = {target: at for at, target in enumerate(words.targets)}
        at = np.vectorize(place.get)(ways)
        found = weight[words.row, at].sum(1)
        expected[0, head] = (found >= weight[words.row, words.column].sum() - 1e-9).mean()
    draws = 20_000
    for head, p in tool.simulate(words, scheme, draws).items():
        assert abs(p - expected[head]) < 5 * np.sqrt(expected[head] / draws) + 2 / draws
    assert min(expected.values()) < 0.2


def test_words_that_are_sources_and_targets_join_pairs():
    import numpy as np

    tool = load_tool("shared_words")
    cluster = tool.clusters(np.array([1, 2, 3, 5, 6]), np.array([2, 1, 4, 6, 7]))
    assert cluster[0] == cluster[1] and cluster[3] == cluster[4] and len(set(cluster)) == 3


# Of Python's own pickletools, about bytes in a text; users are not shown it.
@pytest.mark.filterwarnings("ignore:invalid escape sequence:DeprecationWarning")
@pytest.mark.parametrize("reader", ["gguf", "safetensors", "pickle", "adapter", "manifest"])
def test_mutated_checkpoints_are_read_or_refused(reader, tmp_path):
    """A short run of the fuzzer; docs/promises.md has what a long one found."""
    tool = load_tool("fuzz_checkpoints")
    make_seeds, read = tool.readers(tmp_path)[reader]
    seeds = make_seeds()
    for content in seeds:
        read(content)  # each seed is sound
    mutated = tool.mutations(seeds, 300, 0, tool.JSON.get(reader))
    assert [found for content in mutated if (found := tool.problem(read, content))] == []


@pytest.mark.parametrize("reader", ["relations", "pairs", "models", "prompts", "templates", "scores", "headvis", "part",
                                    "version", "answer"])  # fmt: skip
def test_mutated_inputs_are_read_or_refused(reader, tmp_path):
    """A short run of the fuzzer; docs/promises.md has what a long one found."""
    assert load_tool("fuzz_inputs").failures(reader, 100, 0, tmp_path) == []


def test_mutated_atlases_are_read_or_refused(tmp_path):
    """A short run of the fuzzer; CONTRIBUTING.md has the command for a long one."""
    from atlases import with_pairs
    from headatlas.atlas import save_atlas

    atlas = make_atlas(
        3, 2, chance=True, without_heads=(1,), unmeasured=("Geometry",), categories=("Knowledge", "Code")
    )
    folder = save_atlas(make_evidence(with_pairs(atlas), n_tokens=2), tmp_path / "atlas")
    assert load_tool("fuzz_atlas").fuzz(folder, 60) == []


def test_changed_descriptions_are_marked_without_their_version(tmp_path):
    """Two sentences differ from the marked ones: both versions are in the sheet, which only the key tells apart."""
    from headatlas.atlas import save_atlas

    save_atlas(make_evidence(make_atlas()), tmp_path / "atlas")
    assert run("mark_descriptions.py", "write", str(tmp_path / "atlas"), str(tmp_path / "all.csv")).returncode == 0
    marked = rows_of(tmp_path / "all.csv")
    now = {row["id"]: row["sentence"] for row in marked}
    before = now | dict.fromkeys(list(now)[:2], "Writes stones")
    write_rows(tmp_path / "marks.csv", [{"id": name, "sentence": text} for name, text in before.items()])
    files = [str(tmp_path / name) for name in ("atlas", "sheet.csv")]
    options = ["--marks", str(tmp_path / "marks.csv"), "--key", str(tmp_path / "key.csv")]
    assert run("mark_descriptions.py", "changes", *files).returncode == 2  # without marks and key
    found = run("mark_descriptions.py", "changes", *files, *options)
    assert found.stdout.startswith("2 sentences differ"), found.stderr
    sheet, key = rows_of(tmp_path / "sheet.csv"), {row["id"]: row for row in rows_of(tmp_path / "key.csv")}
    assert list(sheet[0]) == ["number", "id", "sentence", "pairs"] and len(sheet) == len(key) == 4
    for row in sheet:
        versions = {"old": before, "new": now}
        assert row["sentence"] == versions[key[row["id"]]["version"]][key[row["id"]]["of"]]


def rows_of(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def write_rows(path, rows):
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
