"""The tokenizer inside a GGUF file: both kinds that models have, and those that cannot be built."""

import json

import gguf
import pytest

from gguf_models import D_VOCAB, make_model, write
from headatlas.architectures.open import open_checkpoint
from headatlas.errors import CheckpointError

WORDS = ["▁", "a", "b", "c", "▁a", "ab", "▁ab", "▁c", "▁abc"]


def sentencepiece(writer):
    """As the converter writes a SentencePiece model: bytes, scores, no merges."""
    data = writer.kv_data[0]
    for key in [key for key in data if key.startswith("tokenizer.")]:
        del data[key]
    tokens = ["<unk>", "<s>", "</s>", *WORDS]
    tokens += [f"<0x{number:02X}>" for number in range(D_VOCAB - len(tokens))]
    writer.add_tokenizer_model("llama")
    writer.add_tokenizer_pre("default")
    writer.add_token_list(tokens)
    writer.add_token_scores([0.0] * 3 + [float(-number) for number in range(len(tokens) - 3)])
    writer.add_token_types([2, 3, 3] + [1] * len(WORDS) + [6] * (len(tokens) - 3 - len(WORDS)))
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)


def message(path):
    with pytest.raises(CheckpointError) as caught:
        open_checkpoint(path).load_tokenizer()
    return str(caught.value)


def put(key, value, kind=gguf.GGUFValueType.UINT32, sub=None):
    def more(writer):
        writer.kv_data[0][f"tokenizer.ggml.{key}"] = gguf.GGUFValue(value, kind, sub)

    return more


@pytest.mark.parametrize("case", ["llama", "gemma2", "phi3", "olmo2"])
def test_tokens_of_sentencepiece(tmp_path, case):
    checkpoint = open_checkpoint(write(make_model(case), case, tmp_path / "m.gguf", more=sentencepiece))
    tokenizer = checkpoint.load_tokenizer()
    assert tokenizer.bos_token == "<s>" and tokenizer.unk_token == "<unk>"
    ids = tokenizer(" ab", add_special_tokens=False)["input_ids"]
    assert tokenizer.convert_ids_to_tokens(ids)[-1] == "▁ab"
    assert tokenizer.decode(tokenizer("ab c", add_special_tokens=False)["input_ids"]).strip() == "ab c"


@pytest.mark.parametrize("case", ["llama", "olmo2", "cohere", "gpt_oss", "bloom"])
def test_tokens_of_bytes(tmp_path, case):
    tokenizer = open_checkpoint(write(make_model(case), case, tmp_path / "m.gguf")).load_tokenizer()
    assert tokenizer(" abc", add_special_tokens=False)["input_ids"] == tokenizer.convert_tokens_to_ids(["Ġabc"])
    assert tokenizer.decode(tokenizer(" abc ab", add_special_tokens=False)["input_ids"]) == " abc ab"
    assert tokenizer.eos_token == "<|end|>"


def test_no_other_file_is_read_or_run(tmp_path):
    path = write(make_model("llama"), "llama", tmp_path / "m.gguf")
    (tmp_path / "evil.py").write_text("raise SystemExit('this ran')\nclass T: ...\n", "utf-8")
    auto = {"auto_map": {"AutoTokenizer": ["evil.T", "evil.T"]}, "tokenizer_class": "T", "bos_token": "<other>"}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(auto), "utf-8")
    (tmp_path / "config.json").write_text(json.dumps(auto | {"model_type": "evil"}), "utf-8")
    (tmp_path / "tokenizer.json").symlink_to("/etc/passwd")
    tokenizer = open_checkpoint(path).load_tokenizer()
    assert tokenizer.bos_token is None and tokenizer.vocab_size == D_VOCAB


def without(key):
    return lambda writer: writer.kv_data[0].pop(f"tokenizer.ggml.{key}")


LIES = {
    "none": (without("tokens"), "expected a tokenizer, found none. Use a file that holds its tokenizer."),
    "no words": (
        put("tokens", 7),
        "expected a tokenizer, found none. Use a file that holds its tokenizer.",
    ),
    "kind": (
        put("model", "rwkv", gguf.GGUFValueType.STRING),
        "transformers cannot build a tokenizer of the kind 'rwkv' from this file (ValueError). "
        "Use the model's safetensors checkpoint.",
    ),
    "no kind": (
        without("model"),
        "transformers cannot build a tokenizer of the kind None from this file (ValueError). "
        "Use the model's safetensors checkpoint.",
    ),
    "special": (
        put("bos_token_id", D_VOCAB),
        "expected 'tokenizer.ggml.bos_token_id' below 101, the number of tokens, found 101. Fetch the file again.",
    ),
    "types": (
        put("token_type", [1, 1], gguf.GGUFValueType.ARRAY, gguf.GGUFValueType.INT32),
        "expected 101 numbers for 'tokenizer.ggml.token_type', one per token, found 2. Fetch the file again.",
    ),
    "types that are no numbers": (
        put("token_type", ["a"], gguf.GGUFValueType.ARRAY, gguf.GGUFValueType.STRING),
        "expected 101 numbers for 'tokenizer.ggml.token_type', one per token, found 0. Fetch the file again.",
    ),
    "merges": (
        put("merges", ["nothing such"], gguf.GGUFValueType.ARRAY, gguf.GGUFValueType.STRING),
        "transformers cannot build a tokenizer of the kind 'gpt2' from this file (Exception). "
        "Use the model's safetensors checkpoint.",
    ),
    "merges that are a number": (
        put("merges", 7),
        "transformers cannot build a tokenizer of the kind 'gpt2' from this file (TypeError). "
        "Use the model's safetensors checkpoint.",
    ),
}


@pytest.mark.parametrize("name", LIES)
def test_tokenizers_that_cannot_be_built(tmp_path, name):
    more, what = LIES[name]
    path = write(make_model("qwen2"), "qwen2", tmp_path / "m.gguf", more=more)
    assert message(path) == f"{path}: {what}"


def test_tokens_that_are_not_utf8(tmp_path):
    path = write(make_model("qwen2"), "qwen2", tmp_path / "m.gguf")
    content = path.read_bytes()
    at = content.index("Ġabc".encode()) - 0
    path.write_bytes(content[:at] + b"\xff" + content[at + 1 :])
    assert message(path) == (
        f"{path}: expected a GGUF file, found a damaged one (the text at byte {at} is not UTF-8). Fetch it again."
    )
    assert open_checkpoint(path).read("model.norm.weight").isfinite().all()
