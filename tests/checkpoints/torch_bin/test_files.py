"""Files of `torch.save`: the same tensors as torch reads, by rows, and nothing else that a pickle can do."""

import json
import pickle
import struct
import zipfile
from collections import OrderedDict

import pytest
import torch

from headatlas.architectures import open_model
from headatlas.architectures.open import open_checkpoint
from headatlas.checkpoints.tensor_store import open_files
from headatlas.checkpoints.torch_bin.files import TorchFile
from headatlas.errors import CheckpointError
from models import make_model, save_model

FILE = "pytorch_model.bin"
HUGE = 2**60


def tensors():
    generator = torch.Generator().manual_seed(0)
    whole = torch.randn(7, 5, generator=generator)
    return OrderedDict(
        whole=whole,
        shared=whole,
        transposed=whole.T,
        part=whole[2:5, 1:4],
        parameter=torch.nn.Parameter(torch.randn(3, 11, generator=generator).bfloat16()),
        half=whole.half(),
        double=whole.double(),
        scalar=torch.tensor(3.0),
        empty=torch.zeros(0, 13),
        whole_numbers=torch.arange(7),
    )


def save(folder, content, zipped=True):
    folder.mkdir(exist_ok=True)
    torch.save(content, folder / FILE, _use_new_zipfile_serialization=zipped)
    return folder


@pytest.mark.parametrize("zipped", [True, False])
def test_the_tensors_are_those_that_torch_reads(tmp_path, zipped):
    expected = tensors()
    if zipped:
        expected["eight_bits"] = expected["whole"].to(torch.float8_e4m3fn)
    expected._metadata = {"": {"version": 1}}  # pyright: ignore[reportAttributeAccessIssue]
    files = open_files(save(tmp_path / "m", expected, zipped), [FILE], TorchFile)
    assert list(files.names()) == list(expected)
    for name, tensor in expected.items():
        assert files.shape(name) == tuple(tensor.shape) and files.n_bytes(name) == tensor.nbytes
        read = files.read(name)
        assert read.dtype == tensor.dtype and torch.equal(read.float(), tensor.detach().float()), name
        for rows in (slice(1, 3), slice(2, 2), slice(5, 1), slice(-2, None), slice(None, None, 2)) * bool(tensor.ndim):
            assert torch.equal(files.read(name, rows).float(), tensor.detach()[rows].float()), (name, rows)
    assert files.dtype("parameter") == "BF16" and files.dtype("whole_numbers") == "I64"
    assert files.size == sum(tensor.nbytes for tensor in expected.values())
    assert files.file_of("whole") == FILE and files.fetch([]) is None
    files.read("whole").zero_()  # not the file's
    assert torch.equal(files.read("whole"), expected["whole"])


@pytest.mark.parametrize("zipped", [True, False])
def test_a_model_in_one_file_and_in_shards_with_and_without_index(tmp_path, zipped):
    model = make_model("llama")
    folder = save_model(model, tmp_path / "m")
    expected = open_model(open_checkpoint(folder)).fingerprint()
    (folder / "model.safetensors").unlink()
    state = model.state_dict()
    save(folder, state, zipped)
    assert open_model(open_checkpoint(folder)).fingerprint() == expected
    (folder / FILE).unlink()
    names, files = list(state), [f"pytorch_model-0000{number}-of-00002.bin" for number in (1, 2)]
    halves = names[:10], names[10:]
    for half, file in zip(halves, files, strict=True):
        torch.save({name: state[name] for name in half}, folder / file, _use_new_zipfile_serialization=zipped)
    torch.save({"lr": 1}, folder / "training_args.bin")
    assert open_model(open_checkpoint(folder)).fingerprint() == expected
    file_of = {name: file for half, file in zip(halves, files, strict=True) for name in half}
    index = folder / f"{FILE}.index.json"
    index.write_text(json.dumps({"weight_map": file_of}), "utf-8")
    assert open_model(open_checkpoint(folder)).fingerprint() == expected
    index.write_text(json.dumps({"weight_map": file_of | {names[0]: "../x.bin"}}), "utf-8")
    assert refused(folder) == f"{index}: expected names of .bin files in this folder, found '../x.bin'."
    index.unlink()
    (folder / files[0]).unlink()
    assert refused(folder) == f"{folder}: expected the file {files[0]!r}, which belongs to {files[1]!r}, found none."


def test_safetensors_come_first(tmp_path):
    folder = save_model(make_model("llama"), tmp_path / "m")
    (folder / FILE).write_bytes(b"anything")
    assert open_checkpoint(folder).file_of("lm_head.weight") == "model.safetensors"


def refused(folder, act=open_checkpoint):
    with pytest.raises(CheckpointError) as caught:
        act(folder)
    return str(caught.value)


def message(folder):
    return refused(folder, lambda folder: open_files(folder, [FILE], TorchFile))


class Runs:
    """Writes a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


@pytest.mark.parametrize("zipped", [True, False])
def test_code_is_not_run(tmp_path, zipped):
    folder = save(tmp_path / "m", {"a": torch.ones(2), "b": Runs(tmp_path / "ran")}, zipped)
    assert message(folder) == (
        f"{folder / FILE}: expected nothing but tensors, found 'io.open', which needs code to be run; that is never "
        f"done. Use the model's safetensors files."
    )
    assert not (tmp_path / "ran").exists()
    save(folder, torch.nn.Linear(2, 3), zipped)
    what = "the instruction NEWOBJ" if zipped else "a whole model"
    assert message(folder) == (
        f"{folder / FILE}: expected nothing but tensors, found {what}, which needs code to be run; that is never "
        f"done. Use the model's safetensors files."
    )


def damaged(folder, what):
    return (
        f"{folder / FILE}: expected torch's file of tensors, found another or a damaged one ({what}). Fetch it again."
    )


@pytest.mark.parametrize(
    ("content", "what"),
    [
        ([torch.ones(2)], "it holds something else than tensors by name"),
        ({"a": torch.ones(2), "epoch": 3}, "it holds something else besides tensors by name"),
        ({"a": {"b": torch.ones(2)}}, "it holds something else besides tensors by name"),
        ({3: torch.ones(2)}, "it holds something else besides tensors by name"),
        ({"a": torch.ones(1).expand(99, 99)}, "a tensor of the shape (99, 99) reaches beyond its 1 stored values"),
    ],
)
def test_files_of_something_else(tmp_path, content, what):
    folder = save(tmp_path / "m", content)
    assert message(folder) == damaged(folder, what)


def rewritten(folder, pickled=None, drop=(), **entries):
    """A copy of the archive with another pickle, without some entries, or with other entries."""
    path = folder / FILE
    with zipfile.ZipFile(path) as archive:
        old = {entry.filename: archive.read(entry) for entry in archive.infolist()}
    root = next(iter(old)).split("/")[0]
    old |= {f"{root}/{name.replace('__', '/')}": content for name, content in entries.items()}
    if pickled is not None:
        old[f"{root}/data.pkl"] = pickled
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in old.items():
            if name.removeprefix(f"{root}/") not in drop:
                archive.writestr(name, content)
    return folder


def described(storage=None, start=0, shape=(2, 3), strides=(3, 1), more=b""):
    """A pickle of `{"a": tensor}` as torch writes it, with any numbers."""

    def number(value):
        content = value.to_bytes(9, "little", signed=True)
        return b"\x8a\x09" + content

    def text(word):
        return b"X" + struct.pack("<I", len(word)) + word.encode()

    def numbers(values):
        return b"(" + b"".join(map(number, values)) + b"t"

    storage = storage or b"(" + text("storage") + b"ctorch\nFloatStorage\n" + text("0") + text("cpu") + number(6) + b"t"
    tensor = b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + b"Q" + number(start) + numbers(shape)
    tensor += numbers(strides) + b"\x89ccollections\nOrderedDict\n)RtR"
    return b"\x80\x02}(" + text("a") + tensor + more + b"u."


def test_the_pickle_of_these_tests(tmp_path):
    folder = rewritten(save(tmp_path / "m", {"a": torch.arange(6.0).reshape(2, 3)}), described())
    assert torch.equal(open_files(folder, [FILE], TorchFile).read("a"), torch.arange(6.0).reshape(2, 3))
    assert torch.equal(torch.load(folder / FILE)["a"], torch.arange(6.0).reshape(2, 3))


LACKS = "its pickle is damaged: an instruction lacks its operand"
ANNOUNCES = f"its pickle is damaged: it announces {HUGE:,} bytes"
KEY = "a key is neither text nor a number"
DEEP = "more than 100 containers are inside each other"
BAD_PICKLES = {
    "start": (described(start=1), "a tensor of the shape (2, 3) reaches beyond its 6 stored values"),
    "shape": (described(shape=(HUGE, 3)), f"a tensor of the shape ({HUGE}, 3) reaches beyond its 6 stored values"),
    "stride": (described(strides=(HUGE, 1)), "a tensor of the shape (2, 3) reaches beyond its 6 stored values"),
    "no stride": (
        described((), 0, (HUGE, HUGE), (0, 0)),
        f"a tensor of the shape ({HUGE}, {HUGE}) reaches beyond its 6 stored values",
    ),
    "negative": (described(shape=(-2, -3)), "a size is no whole number from 0 up"),
    "negative start": (described(start=-1), "a size is no whole number from 0 up"),
    "lengths": (described(strides=(1,)), "a tensor's shape and strides have different lengths"),
    "axes": (described(shape=(1,) * 65, strides=(1,) * 65), "a tensor has 65 axes"),
    "twice": (described(more=described()[4:-2]), "the tensor 'a' is there twice"),
    "cut": (described()[:40], "its pickle is damaged: "),
    "no end": (described()[:-1], "its pickle is damaged: pickle exhausted before seeing STOP"),
    "empty": (b"", "its pickle is damaged: pickle exhausted before seeing STOP"),
    "long text": (b"\x80\x04\x8d" + struct.pack("<Q", HUGE) + b".", ANNOUNCES),
    "long bytes": (b"\x80\x05\x96" + struct.pack("<Q", HUGE) + b".", ANNOUNCES),
    "far memo": (b"\x80\x02}j\xff\xff\xff\xff.", LACKS),
    "nothing to pop": (b"\x80\x02u.", LACKS),
    "odd items": (b"\x80\x02}(K\x01u.", LACKS),
    "no key": (b"\x80\x02}(}K\x01u.", KEY),
    # Its hash would visit 2**40 items.
    "doubled key": (b"\x80\x02}(K\x01\x85q\x00" + b"h\x00h\x00\x86q\x00" * 40 + b"K\x01u.", KEY),
    # The hash of this one overflows the processor's stack.
    "deep key": (b"\x80\x02}()" + b"\x85" * 200_000 + b"K\x01u.", DEEP),
    "deep value": (b"\x80\x02}(K\x01)" + b"\x85" * 200_000 + b"u.", DEEP),
    "deep dicts": (b"\x80\x02" + b"}K\x01" * 200_000 + b"}" + b"s" * 200_000 + b".", DEEP),
    "deep lists": (b"\x80\x02" + b"]" * 200_000 + b"a" * 199_999 + b".", DEEP),
    "storage": (described(b"K\x01"), LACKS),
}


@pytest.mark.parametrize("case", BAD_PICKLES)
def test_false_pickles(tmp_path, case):
    pickled, what = BAD_PICKLES[case]
    folder = rewritten(save(tmp_path / "m", {"a": torch.ones(2, 3)}), pickled)
    found = message(folder)
    assert found == damaged(folder, what) or (case == "cut" and what in found)


def test_instructions_that_would_run_something(tmp_path):
    folder = save(tmp_path / "m", {"a": torch.ones(2, 3)})
    for pickled, what in [
        (pickle.dumps({"a": Runs(tmp_path / "ran")}, 2), "'io.open'"),
        (pickle.dumps({"a": Runs(tmp_path / "ran")}, 4), "'io.open'"),
        (b"cbuiltins\nbytearray\n(J\xff\xff\xff\x7ftR.", "'builtins.bytearray'"),
        (b"(ios\nsystem\n.", "the instruction INST"),
        (b"\x82\x01.", "the instruction EXT1"),
        (b"ctorch._utils\n_rebuild_sparse_tensor\n)R.", "'torch._utils._rebuild_sparse_tensor'"),
    ]:
        rewritten(folder, pickled)
        assert message(folder) == (
            f"{folder / FILE}: expected nothing but tensors, found {what}, which needs code to be run; that is never "
            f"done. Use the model's safetensors files."
        )
    assert not (tmp_path / "ran").exists()


def test_false_archives(tmp_path):
    folder = save(tmp_path / "m", {"a": torch.ones(2, 3)})
    good = (folder / FILE).read_bytes()

    def found(**changes):
        (folder / FILE).write_bytes(good)
        return message(rewritten(folder, **changes))

    assert found(drop=("data.pkl",)) == damaged(folder, "it holds no data.pkl")
    announced = "the storage '0' does not have the 24 bytes that are announced"
    assert found(drop=("data/0",)) == damaged(folder, announced)
    assert found(data__0=bytes(23)) == damaged(folder, announced)
    assert found(byteorder=b"big") == damaged(folder, "its byte order is not little-endian")
    (folder / FILE).write_bytes(good)
    with zipfile.ZipFile(folder / FILE) as archive:
        old = {entry.filename: archive.read(entry) for entry in archive.infolist()}
    with zipfile.ZipFile(folder / FILE, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in old.items():
            archive.writestr(name, content)
    assert message(folder).endswith("is compressed or encrypted). Fetch it again.")
    (folder / FILE).write_bytes(good[:-30])
    assert "it is no zip archive that can be read: " in message(folder)
    (folder / FILE).write_bytes(b"")
    assert message(folder) == damaged(folder, "cannot mmap an empty file")


def test_false_old_files(tmp_path):
    folder = save(tmp_path / "m", {"a": torch.ones(2, 3)}, zipped=False)
    good = (folder / FILE).read_bytes()
    at = len(good) - 24 - 8  # a storage's length, then its values
    for content, what in [
        (good[:-1], "it ends before the storage {key} does"),
        (
            good[:at] + struct.pack("<Q", HUGE) + good[at + 8 :],
            "the storage {key} does not have the 6 values announced",
        ),
        (b"\x80\x02K\x01." + good, "it does not begin as torch's files do"),
    ]:
        (folder / FILE).write_bytes(content)
        found = message(folder)
        beginning, _, end = damaged(folder, what).partition("{key}")
        assert found.startswith(beginning) and found.endswith(end)


def test_a_tensor_in_two_files_and_one_in_none(tmp_path):
    folder = save(tmp_path / "m", {"a": torch.ones(2)})
    (folder / "b.bin").write_bytes((folder / FILE).read_bytes())
    assert refused(folder, lambda folder: open_files(folder, [FILE, "b.bin"], TorchFile)) == (
        f"{folder}: tensor 'a' is in '{FILE}' and again in 'b.bin'. Expected it once; are these the shards of one "
        f"model?"
    )
    assert refused(folder, lambda folder: open_files(folder, [FILE], TorchFile).read("b")) == (
        f"{folder}: expected a tensor 'b', found none. Is the checkpoint complete?"
    )
    assert refused(folder, lambda folder: open_files(folder, ["c.bin"], TorchFile)) == (
        f"{folder}: expected the file 'c.bin', found none. Is the checkpoint complete?"
    )
