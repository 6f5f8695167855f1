"""Mutate lists, tables and notes that others can write, and read the result with the readers of headatlas.

    python tools/fuzz_inputs.py READER N [SEED]

READER is relations, pairs, models, prompts, templates, scores, headvis, part, version or answer. Each mutation must be
read, or refused by a `HeadatlasError` of one printable line, in the time that `fuzz_checkpoints.py` allows. Prints
what is not, and exits with 1. Half of the mutations of what is written in JSON change a value of it; the others bytes.
"""

from __future__ import annotations

import io
import json
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from fuzz_checkpoints import MAGIC, Json, Read, mutations, problem

MARKS = (
    *MAGIC,
    *(b"=", b"\n", b"\r", b",", b"\t", b".a", b"[[", b"'", b'"""', b"true", b"nan", b"1979-05-27", b"~nobody-at-all/x"),
    *(b"0x" + b"f" * 5_000, b"9" * 5_000, b"[" * 3_000, b'{"a":' * 2_000, b"x" * 20_000, b"a." * 3_000),
    *(b"\x1b[31m", b"\xc2\x85", b"\xe2\x80\xa8"),
)
"""What mutations write: also marks of TOML and of tables, long and deep values, and ends of lines that few know."""

METRICS = ("self_attention_score", "pattern_entropy", "induction_score")


def scores() -> bytes:
    rows = [f"{name},Knowledge,{layer},{head},0.{head},0.1" for name in "ab" for layer in (0, 1) for head in (0, 1, 2)]
    return "\n".join(["relation,category,layer,head,score,suppression", *rows]).encode()


def part() -> bytes:
    import numpy as np

    packed = io.BytesIO()
    np.savez(packed, found=np.array('{"a": 1}'), hits=np.arange(6).reshape(2, 3), whole=np.zeros(2, bool))
    return packed.getvalue()


SEEDS: dict[str, Callable[[], list[bytes]]] = {
    "relations": lambda: [
        json.dumps({"name": "n", "category": "Mine", "k": 3, "source": "s", "pairs": [["a", "b"], ["c", "d"]]}).encode()
    ],
    "pairs": lambda: [b'rank,Target,Source\n1,Paris,France\n2,"a ""b"" c",y\n'],
    "models": lambda: [
        b'relations = ["r.json"]\nk = 5\nthreshold = 0.10\nattention = { seeds = 2, text = "t.txt" }\n\n[[model]]\n'
        b'name = "a"\nsource = "./tiny"\nadapter = "lora"\nstep = 1\nvalidate = true\n'
    ],
    "prompts": lambda: [b'[country_to_capital]\nprompt = "The capital of {source} is"\nshots = 4\n'],
    "templates": lambda: [b'templates = ["The word {source} is", "a {source} b"]\n'],
    "scores": lambda: [scores()],
    "headvis": lambda: [
        json.dumps({"config": {"seq_len": 5}, "metrics": {name: [[0.1] * 3] * 2 for name in METRICS}}).encode(),
        json.dumps([{"layer": at // 3, "head": at % 3, **dict.fromkeys(METRICS, 0.5)} for at in range(6)]).encode(),
    ],
    "part": lambda: [part()],
    "version": lambda: [b'["\\"tag\\"", 1000]'],
    "answer": lambda: [json.dumps({"choices": [{"message": {"role": "assistant", "content": "Maps a"}}]}).encode()],
}

JSON = dict.fromkeys(("relations", "headvis", "version", "answer"), Json())
"""Readers of files with JSON."""


def readers(folder: Path) -> dict[str, Read]:
    """Reader by name; what must be a file is written into `folder`."""
    from headatlas import import_headvis, import_scores, load_relations
    from headatlas.analysis.written import clean_sentence
    from headatlas.checkpoints.remote.cache import _read_version
    from headatlas.measuring.endpoint import ChatEndpoint
    from headatlas.measuring.run_folder import RunParts
    from headatlas.measuring.running.contexts import load_templates
    from headatlas.measuring.running.questions import load_prompts
    from headatlas.measuring.survey_list import read_model_list

    def of_file(name: str, read: Callable[[Path], object]) -> Read:
        def write_and_read(content: bytes) -> object:
            (folder / name).write_bytes(content)
            return read(folder / name)

        return write_and_read

    def answered(content: bytes) -> object:
        sentence = clean_sentence(ChatEndpoint("http://127.0.0.1/v1", "m")._read(200, content))
        return sentence and sentence.encode()

    def kept(path: Path) -> object:
        with RunParts(folder, ".parts", {}, "fuzzing") as parts:
            parts.save("kept", {})
            path.replace(folder / ".parts" / "kept.npz")
            found = parts.load("kept") or {}
            assert sum(array.nbytes for array in found.values()) <= (folder / ".parts" / "kept.npz").stat().st_size
            parts.remove()
        return found

    (folder / "atlas.csv").write_bytes(scores())
    atlas = import_scores(folder / "atlas.csv", "weights")
    return {
        "relations": of_file("r.json", load_relations),
        "pairs": of_file("r.csv", load_relations),
        "models": of_file("models.toml", read_model_list),
        "prompts": of_file("prompts.toml", load_prompts),
        "templates": of_file("templates.toml", load_templates),
        "scores": of_file("scores.csv", lambda path: import_scores(path, "weights")),
        "headvis": of_file("headvis.json", lambda path: import_headvis(atlas, path)),
        "part": of_file("part.npz", kept),
        "version": of_file("version.json", _read_version),
        "answer": answered,
    }


def failures(name: str, n: int, seed: int, folder: Path) -> list[str]:
    """What is wrong with how `n` mutations are read."""
    read, seeds = readers(folder)[name], SEEDS[name]()
    for content in seeds:  # each is sound, and imports do not count
        read(content)
    mutated = mutations(seeds, n, seed, JSON.get(name), MARKS)
    return [f"{name}: {found}: {content[:200]!r}" for content in mutated if (found := problem(read, content))]


def main(arguments: list[str]) -> int:
    if len(arguments) not in (2, 3):
        print(__doc__)
        return 2
    name, n, *seed = arguments
    with tempfile.TemporaryDirectory(prefix="headatlas-fuzz-") as work:
        found = failures(name, int(n), int(seed[0]) if seed else 0, Path(work))
    print(*found, f"{name}: {int(n):,} mutations, {len(found)} failures", sep="\n")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
