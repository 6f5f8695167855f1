"""Mutate what checkpoints are made of, and read the result with the readers of headatlas.

    python tools/fuzz_checkpoints.py READER N [SEED]     N mutations of the seeds; needs nothing else
    python tools/fuzz_checkpoints.py READER --atheris [OPTIONS OF LIBFUZZER]     guided by coverage; needs atheris

READER is gguf, safetensors, pickle, adapter or manifest. Each mutation must be read, or refused by a `HeadatlasError`
of one printable line, in SECONDS of processor time. Prints what is not, and exits with 1. The seeds are made here. Half
of the mutations of what is written in JSON, and of a safetensors header, change a value of it; the others change bytes.
"""

from __future__ import annotations

import contextlib
import io
import json
import random
import struct
import sys
import tempfile
import time
import traceback
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from changed_json import change_json

SECONDS = 2.0
MAGIC = (
    *(
        b"\0",
        b"\xff",
        b"\x80",
        b"\xff" * 8,
        b"\0" * 8,
        b"\x7f" + b"\xff" * 7,
        b"{",
        b"[",
        b'"',
        b"1e999",
        b"null",
        b"-1",
    ),
    *(b"9" * 30, b"__metadata__", b"../", b"\\ud800", b"(", b"t", b".", b"}", b"]", b"\x85", b"h\0"),
)
"""What mutations write: edges of numbers, and marks of JSON and of pickles."""

Read = Callable[[bytes], object]


@dataclass(frozen=True)
class Json:
    """Where the JSON of a file lies: all of it, or a header behind its length.

    Args:
        behind_length: as in safetensors files, which go on with data.
    """

    behind_length: bool = False

    def changed(self, content: bytes, chance: random.Random) -> bytes | None:
        """A file with up to three other values; None if it holds no JSON that can be changed."""
        start, end = 0, len(content)
        if self.behind_length:
            start, end = 8, 8 + int.from_bytes(content[:8], "little")
        try:
            found = json.loads(content[start:end])
        except (ValueError, RecursionError):
            return None
        for _ in range(chance.randint(1, 3)):
            if not isinstance(found, dict | list) or not found:
                return None
            change_json(found, chance)
        text = json.dumps(found).encode()
        return struct.pack("<Q", len(text)) + text + content[end:] if self.behind_length else text


def gguf_seeds() -> list[bytes]:
    def text(word: str) -> bytes:
        return struct.pack("<Q", len(word)) + word.encode()

    keys = text("general.architecture") + struct.pack("<I", 8) + text("llama")
    keys += text("a") + struct.pack("<IIQ3f", 9, 6, 3, 1, 2, 3)
    keys += text("tokens") + struct.pack("<IIQ", 9, 8, 2) + text("x") + text("yz")
    tensors = text("t") + struct.pack("<IQQIQ", 2, 4, 2, 0, 0) + text("u") + struct.pack("<IQIQ", 1, 32, 8, 32)
    head = b"GGUF" + struct.pack("<IQQ", 3, 2, 3) + keys + tensors
    return [head + bytes(-len(head) % 32) + bytes(96)]


def safetensors_seeds() -> list[bytes]:
    header = {"__metadata__": {"format": "pt"}, "a": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]},
              "b": {"dtype": "BF16", "shape": [4], "data_offsets": [24, 32]}}  # fmt: skip
    text = json.dumps(header).encode()
    return [struct.pack("<Q", len(text)) + text + bytes(32)]


def pickle_seeds() -> list[bytes]:
    """A tensor as torch writes it, without torch: of both protocols that it has used."""
    storage = b"(X\7\0\0\0storagectorch\nFloatStorage\nX\1\0\0\0000X\3\0\0\0cpuK\6tQ"
    tensor = (
        b"ctorch._utils\n_rebuild_tensor_v2\n("
        + storage
        + b"K\0K\2K\3\x86K\3K\1\x86\x89ccollections\nOrderedDict\n)RtR"
    )
    return [b"\x80\x02}q\0(X\1\0\0\0a" + tensor + b"u.", b"\x80\x04}\x94X\1\0\0\0a" + tensor + b"s."]


def adapter_seeds() -> list[bytes]:
    config = {"peft_type": "LORA", "r": 3, "lora_alpha": 6.0, "use_rslora": False, "target_modules": ["v_proj"],
              "rank_pattern": {"model.layers.1": 2}, "alpha_pattern": {}, "modules_to_save": None}  # fmt: skip
    return [json.dumps(config).encode()]


def manifest_seeds() -> list[bytes]:
    from headatlas.atlas import Manifest
    from headatlas.atlas import manifest as facts

    found = Manifest(
        tool=facts.ToolFacts("headatlas", "1"),
        created="2026-01-01T00:00:00+00:00",
        measure="weights",
        label="maps",
        identity={"measure": "weights", "model": "a"},
        model=facts.ModelFacts(name="a", source="demo", n_layers=2, n_heads=3, d_vocab=50_257, fingerprint="f" * 64),
        settings=facts.SettingsFacts("0.15", k=10, k_copying=1, contextualize="first-mlp"),
        relations=facts.RelationsFacts(
            "test", (facts.RelationFacts("a", "b", measurable=True, k=10, in_file=40, pairs=40),), hash="a" * 64
        ),
    )
    return [json.dumps(found.as_dict()).encode()]


def readers(folder: Path) -> dict[str, tuple[Callable[[], list[bytes]], Read]]:
    """Seeds and reader by name; what must be a file is written into `folder`."""
    from headatlas.atlas import Manifest
    from headatlas.checkpoints.adapter import _Config
    from headatlas.checkpoints.gguf.header import read_header
    from headatlas.checkpoints.safetensors.header import LENGTH_BYTES, Damaged, header_length, parse_header
    from headatlas.checkpoints.safetensors.local import SafetensorsFile
    from headatlas.checkpoints.torch_bin.files import TorchFile
    from headatlas.errors import CheckpointError

    def written(name: str, content: bytes) -> Path:
        (folder / name).write_bytes(content)
        return folder / name

    def gguf(content: bytes) -> object:
        header = read_header(written("m.gguf", content))
        return [header.strings(key) for key in header.strings_at]

    def safetensors(content: bytes) -> object:
        """What local files are read with; then the parser of remote ones, which may refuse what the library allows."""
        found, refusal = {}, None
        try:
            file = SafetensorsFile(written("m.safetensors", content))
            found = {name: (file.dtype(name), file.shape(name), file.n_bytes(name)) for name in file.names()}
        except CheckpointError as error:
            refusal = error
        try:
            header = content[LENGTH_BYTES : LENGTH_BYTES + header_length(content[:LENGTH_BYTES], len(content))]
            remote = parse_header(header, len(content))
        except Damaged as error:
            raise CheckpointError(str(error)) from error
        if refusal is not None:
            raise refusal
        assert found == {name: (each.dtype, each.shape, each.stop - each.start) for name, each in remote.items()}
        return found

    def pickled(content: bytes) -> object:
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w") as archive:
            archive.writestr("a/data.pkl", content)
            archive.writestr("a/data/0", bytes(24))
        file = TorchFile(written("m.bin", packed.getvalue()))
        return [file.read(name) for name in file.names() if file.n_bytes(name) < 1_000]

    def adapter(content: bytes) -> object:
        config = _Config(written("adapter_config.json", content))
        return config.targets("model.layers.1.v_proj"), config.scale("model.layers.1.v_proj")

    def manifest(content: bytes) -> object:
        try:
            text = content.decode()
        except UnicodeDecodeError:
            raise CheckpointError("not UTF-8, which the reader of files refuses") from None
        return Manifest.from_json(text, "atlas.json")

    return {
        "gguf": (gguf_seeds, gguf),
        "safetensors": (safetensors_seeds, safetensors),
        "pickle": (pickle_seeds, pickled),
        "adapter": (adapter_seeds, adapter),
        "manifest": (manifest_seeds, manifest),
    }


JSON = {"safetensors": Json(behind_length=True), "adapter": Json(), "manifest": Json()}
"""Readers of files with JSON."""


def mutations(
    seeds: list[bytes], n: int, seed: int, within: Json | None = None, magic: Sequence[bytes] = MAGIC
) -> Iterator[bytes]:
    """Seeds with up to five changes each: bytes set, inserted, removed, doubled, and numbers of eight bytes.

    Args:
        within: where the JSON is of which half of the mutations change values.
        magic: what is written.
    """
    chance = random.Random(seed)
    for _ in range(n):
        content = bytearray(chance.choice(seeds))
        if within is not None and chance.random() < 0.5 and (changed := within.changed(bytes(content), chance)):
            yield changed
            continue
        for _ in range(chance.randint(1, 5)):
            at = chance.randrange(len(content) + 1)
            new = chance.choice(magic) if chance.random() < 0.6 else chance.randbytes(chance.randint(1, 8))
            match chance.randrange(5):
                case 0:
                    content[at : at + len(new)] = new
                case 1:
                    content[at:at] = new
                case 2:
                    del content[at : at + chance.randint(1, 16)]
                case 3:
                    content[at:at] = content[at : at + chance.randint(1, 64)] * chance.choice((1, 1, 50))
                case 4:
                    content[at : at + 8] = struct.pack(
                        "<Q", chance.choice((0, 1, 2**31, 2**32, 2**62, 2**63, 2**64 - 1))
                    )
        yield bytes(content)


def problem(read: Read, content: bytes) -> str | None:
    """What is wrong with how some bytes are read; None if nothing is."""
    from headatlas.errors import HeadatlasError

    started = time.process_time()
    try:
        read(content)
    except HeadatlasError as error:
        if not str(error).isprintable():
            return f"a message that is no printable line: {error!r}"
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            raise
        where = traceback.extract_tb(error.__traceback__)[-1]
        return f"{type(error).__name__}: {str(error)[:200]} ({Path(where.filename).name}:{where.lineno})"
    seconds = time.process_time() - started
    return f"{seconds:.1f} s" if seconds > SECONDS else None


def main(arguments: list[str]) -> int:
    if len(arguments) < 2:
        print(__doc__)
        return 2
    name, *rest = arguments
    with tempfile.TemporaryDirectory(prefix="headatlas-fuzz-") as work:
        guiding = rest[0] == "--atheris"
        with instrumented() if guiding else contextlib.nullcontext():
            make_seeds, read = readers(Path(work))[name]
        seeds = make_seeds()
        for content in seeds:  # imports do not count
            read(content)
        if guiding:
            return guided(name, read, seeds, rest[1:], Path(work))
        failures = 0
        for content in mutations(seeds, int(rest[0]), int(rest[1]) if len(rest) > 1 else 0, JSON.get(name)):
            if found := problem(read, content):
                failures += 1
                print(f"{name}: {found}: {content[:200]!r}")
        print(f"{name}: {int(rest[0]):,} mutations, {failures} failures")
    return 1 if failures else 0


def instrumented() -> contextlib.AbstractContextManager[None]:
    """While this holds, what is imported of headatlas reports its coverage."""
    import atheris

    return atheris.instrument_imports(include=["headatlas", "json", "pickletools"])


def guided(name: str, read: Read, seeds: list[bytes], options: list[str], work: Path) -> int:
    import atheris

    corpus = work / "corpus"
    corpus.mkdir()
    for number, content in enumerate(seeds):
        (corpus / str(number)).write_bytes(content)

    def check(content: bytes) -> None:
        if found := problem(read, content):
            raise AssertionError(f"{name}: {found}: {content[:200]!r}")

    def mutate(content: bytes, longest: int, seed: int) -> bytes:
        chance = random.Random(seed)
        changed = JSON[name].changed(content, chance) if chance.random() < 0.5 else None
        return atheris.Mutate(content, longest) if changed is None or len(changed) > longest else changed

    own = {"custom_mutator": mutate} if name in JSON else {}
    atheris.Setup([sys.argv[0], *options, str(corpus)], check, **own)
    atheris.Fuzz()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
