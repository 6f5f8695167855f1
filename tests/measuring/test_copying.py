"""Heads that were built to copy are told apart from a head that was built to know the relation."""

import pytest
import torch

import headatlas
from headatlas.architectures import open_model
from headatlas.architectures.open import open_checkpoint
from headatlas.relations import Relation
from models import make_model, save_model

D_MODEL = 64
NEAR, NEAR_LATER, FAR = 30, 20, 30
"""Pairs whose target lies near the source's embedding, near the later layers' input for it, and near neither."""

N_PAIRS = NEAR + NEAR_LATER + FAR
N_KNOWN = NEAR_LATER + FAR
"""The last pairs, which the head that knows the relation maps."""

WORDS = [a + b + c for a in "bdfgh" for b in "aeiou" for c in "klmnprst"]
SOURCES, TARGETS, OTHERS = WORDS[:N_PAIRS], WORDS[N_PAIRS : 2 * N_PAIRS], WORDS[2 * N_PAIRS :]
COPIERS = ("L0H0", "L0H1", "L1H0", "L1H1")
NEGATIVE, KNOWING = "L0H2", "L1H2"


@pytest.fixture(scope="module")
def copiers(tmp_path_factory):
    """L0H0 hands on its input, L0H1 with a gain per channel, L0H2 its negative; L1H0 hands on its own input, L1H1 the
    embedding of its word; L1H2 knows N_KNOWN pairs. All other heads write nothing."""
    words = [*WORDS, *(f"{word}x" for word in WORDS[:80])]
    model = make_model(
        "llama", hidden_size=D_MODEL, num_attention_heads=4, num_key_value_heads=4, head_dim=D_MODEL,
        vocab_size=len(words) + 3,
    )  # fmt: skip
    folder = tmp_path_factory.mktemp("copiers")
    generator = torch.Generator().manual_seed(0)
    source, target = (torch.tensor([1 + words.index(each) for each in column]) for column in (SOURCES, TARGETS))
    with torch.no_grad():
        W_E, W_U = model.model.embed_tokens.weight, model.lm_head.weight
        W_E.copy_(torch.nn.functional.normalize(torch.randn(W_E.shape, generator=generator), dim=1))
        save_model(model, folder, words)
        opened = open_model(open_checkpoint(folder))
        later = torch.nn.functional.normalize(opened.first_mlp(opened.W_E(source)), dim=1)
        W_U.copy_(W_E)
        W_U[target[:NEAR]] = 2 * W_E[source[:NEAR]]
        W_U[target[NEAR : NEAR + NEAR_LATER]] = 2 * later[NEAR : NEAR + NEAR_LATER]
        W_U[target[NEAR + NEAR_LATER :]] *= 2.2  # longer than all rows above, so that each is its own nearest
        reading = torch.linalg.pinv(later.double())
        known = slice(N_PAIRS - N_KNOWN, None)
        knowing = torch.linalg.pinv(later[known].double()) @ W_U[target[known]].double()
        gain = 0.8 + 0.4 * torch.rand(D_MODEL, generator=generator)
        plant(model, 0, [torch.eye(D_MODEL), torch.diag(gain), -torch.eye(D_MODEL)])
        plant(model, 1, [torch.eye(D_MODEL), reading @ W_E[source].double(), knowing])
        plant(model, 2, [])
    return save_model(model, folder, words)


def plant(model, layer, circuits):
    """Let the first heads of a layer be these OV circuits, and the others nothing."""
    attention = model.model.layers[layer].self_attn
    W_V, W_O = attention.v_proj.weight.view(4, D_MODEL, D_MODEL), attention.o_proj.weight.view(D_MODEL, 4, D_MODEL)
    W_O.zero_()
    for head, circuit in enumerate(circuits):
        W_V[head] = circuit.T.float()
        W_O[:, head] = torch.eye(D_MODEL)


@pytest.fixture(scope="module")
def atlas(copiers):
    relations = [
        Relation("planted", tuple(zip(SOURCES, TARGETS, strict=True)), "Knowledge", k=1),
        Relation("near", tuple(zip(SOURCES[:NEAR], TARGETS, strict=False)), "Linguistic", k=1),
        Relation("same", tuple((word, word) for word in OTHERS), "Algorithmic", k="copying"),
    ]
    return headatlas.map_heads(copiers, relations=relations, profile="maps")


def names(atlas, relation, **options):
    return set(atlas.heads(relation=relation, **options)["name"])


def test_copying_heads_lose_the_relation_and_the_head_that_knows_it_keeps_it(atlas):
    assert names(atlas, "planted") == {*COPIERS, KNOWING}
    assert names(atlas, "planted", rule="calibrated") == {KNOWING}
    assert names(atlas, "planted", side="suppression") == {NEGATIVE}
    assert names(atlas, "planted", side="suppression", rule="calibrated") == set()
    strict = headatlas.classify(atlas, rule="calibrated")
    assert strict.of("Knowledge").nonzero() == ([1], [2])


def test_the_embedding_and_the_layers_own_input_are_copies(atlas):
    copied = atlas.copied.sel(relation="planted").values
    assert copied.tolist() == [NEAR, NEAR + NEAR_LATER, NEAR + NEAR_LATER]
    uncopied = atlas.uncopied().sel(relation="planted").values
    knowing = uncopied[1][2]
    uncopied[1][2] = 0
    assert knowing == 1 and uncopied.max() < 0.1
    assert atlas.uncopied_q_values().sel(relation="planted").values[1, 2] < 1e-6


def test_a_relation_of_copied_pairs_cannot_be_told_from_copying(atlas):
    assert atlas.uncopied_pairs.sel(relation="near").values.tolist() == [0, 0, 0]
    assert names(atlas, "near") >= {"L0H0", "L0H1", "L1H1"} and names(atlas, "near", rule="calibrated") == set()
    assert set(atlas.by_copying()[atlas.relations.index("near")].ravel()) == {"inseparable"}


def test_a_relation_that_is_copying_itself_keeps_its_heads(atlas):
    assert atlas.is_copying.tolist() == [name == "same" for name in atlas.relations]
    assert "L0H0" in names(atlas, "same", rule="calibrated")
    assert set(atlas.by_copying()[atlas.relations.index("same")].ravel()) == {"itself"}


def test_the_manifest_says_how_copying_was_measured(atlas, copiers):
    assert atlas.manifest.copying.copiers == (
        "embedding", "row of the unembedding", "input of the layer's heads",
    )  # fmt: skip
    without = headatlas.map_heads(
        copiers,
        relations=[Relation("planted", tuple(zip(SOURCES, TARGETS, strict=True)), k=1)],
        chance=False,
        profile="maps",
    )
    assert without.manifest.copying is None and not without.has_copying
    assert without.heads()["copying"].isna().all() and without.uncopied() is None


def test_an_atlas_keeps_what_copying_hits(atlas, tmp_path):
    headatlas.save_atlas(atlas, tmp_path)
    again = headatlas.load_atlas(tmp_path)
    for name in ("copied", "uncopied_hits", "suppression_uncopied_hits", "uncopied_chance", "uncopied_p_value"):
        assert again.data[name].identical(atlas.data[name]) or again.data[name].equals(atlas.data[name]), name
        assert again.data[name].dtype == atlas.data[name].dtype
