"""The list of tensors in a file of `torch.save`, read from its pickle without running it.

A pickle is a program. Here its instructions are interpreted one by one: those that build strings, numbers and
containers are followed, the few functions with which torch describes a tensor are read as descriptions, and everything
else is refused. The file cannot import, call or allocate anything.
"""

from __future__ import annotations

import math
import pickletools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

from headatlas.checkpoints.tensor_store import BITS

LONGEST = 16 << 20
"""Largest number of bytes of instructions; a file of 50,000 tensors has about as many."""

MOST = 1_500_000
"""Largest number of instructions, since each may take more memory than it has bytes."""

MOST_AXES = 64
"""As in torch."""

DEEPEST = 100
"""Largest number of containers inside each other; a file of tensors has about five."""

STORAGES = {
    "torch DoubleStorage": "F64",
    "torch FloatStorage": "F32",
    "torch HalfStorage": "F16",
    "torch BFloat16Storage": "BF16",
    "torch LongStorage": "I64",
    "torch IntStorage": "I32",
    "torch ShortStorage": "I16",
    "torch CharStorage": "I8",
    "torch ByteStorage": "U8",
    "torch BoolStorage": "BOOL",
    "torch.storage UntypedStorage": "U8",
}
DTYPES = {
    "torch float8_e4m3fn": "F8_E4M3",
    "torch float8_e5m2": "F8_E5M2",
    "torch float8_e8m0fnu": "F8_E8M0",
    "torch uint16": "U16",
    "torch uint32": "U32",
    "torch uint64": "U64",
}


def width(dtype: str) -> int:
    """Bytes of one value."""
    return BITS[dtype] // 8


class Unreadable(Exception):
    """The pickle is damaged, or does not list tensors; the message says what was found."""


class NeedsCode(Unreadable):
    """The pickle names a function that would have to be called."""


class Source(Protocol):
    def read(self, n: int, /) -> bytes: ...
    def readline(self) -> bytes: ...
    def tell(self) -> int: ...


@dataclass(frozen=True)
class StoredStorage:
    """A stretch of values that tensors share."""

    key: str
    dtype: str
    n_values: int


@dataclass(frozen=True)
class StoredTensor:
    """A tensor as a view of a storage; `start` and `strides` count values."""

    storage: StoredStorage
    dtype: str
    start: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    @property
    def n_values(self) -> int:
        return math.prod(self.shape)

    @property
    def is_contiguous(self) -> bool:
        step = 1
        for length, stride in zip(reversed(self.shape), reversed(self.strides), strict=True):
            if length != 1 and stride != step:
                return False
            step *= length
        return True


@dataclass(frozen=True)
class _Name:
    """A global that the pickle names; it is never looked up."""

    text: str


class _Mark:
    pass


def tensors_of(pickled: Any) -> dict[str, StoredTensor]:
    """Names and tensors of a model's file: a flat dict, or one under the key `state_dict`."""
    if isinstance(pickled, dict) and isinstance(pickled.get("state_dict"), dict):
        pickled = pickled["state_dict"]
    if not isinstance(pickled, dict):
        raise Unreadable("it holds something else than tensors by name")
    for name, tensor in pickled.items():
        if not isinstance(name, str) or not isinstance(tensor, StoredTensor):
            raise Unreadable("it holds something else besides tensors by name")
    return pickled


def read_pickle(source: Source) -> Any:
    """What one pickle describes: strings, numbers, containers, storages and tensors.

    Raises:
        NeedsCode: it names a function that does not describe a tensor.
        Unreadable: it is damaged, or uses instructions that a list of tensors does not need.
    """
    return _Machine().run(_instructions(source))


def _instructions(source: Source) -> Iterator[tuple[str, Any]]:
    try:
        limited: Any = _Limited(source)
        for number, (opcode, argument, _) in enumerate(pickletools.genops(limited)):
            if number == MOST:
                raise Unreadable(f"its pickle has more than {MOST:,} instructions")
            yield opcode.name, argument
    except (ValueError, OverflowError, UnicodeError) as error:
        raise Unreadable(f"its pickle is damaged: {str(error)[:200]}") from error


class _Limited:
    """Returns no more than `LONGEST` bytes in total."""

    def __init__(self, source: Source) -> None:
        self._source, self._left = source, LONGEST
        self.tell = source.tell

    def read(self, n: int) -> bytes:
        if n > self._left:
            raise ValueError(f"it announces {n:,} bytes")
        self._left -= n
        return self._source.read(n)

    def readline(self) -> bytes:
        line = self._source.readline()
        self._left -= len(line)
        if self._left < 0:
            raise ValueError("a line has no end")
        return line


class _Machine:
    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}
        self.depths: dict[int, int] = {}
        """Identity of a container that holds others -> how many are inside each other."""

    def run(self, instructions: Iterator[tuple[str, Any]]) -> Any:
        try:
            for name, argument in instructions:
                if name == "STOP":
                    return self.pop()
                self.step(name, argument)
        except (IndexError, KeyError, TypeError, ValueError) as error:
            raise Unreadable("its pickle is damaged: an instruction lacks its operand") from error
        raise Unreadable("its pickle has no end")

    def step(self, name: str, argument: Any) -> None:
        if name in CONSTANTS:
            self.stack.append(CONSTANTS[name])
        elif name in LITERALS:
            self.stack.append(argument)
        elif name in ("BINGET", "LONG_BINGET"):
            self.stack.append(self.memo[argument])
        elif name in ("BINPUT", "LONG_BINPUT"):
            self.memo[argument] = self.stack[-1]
        elif name == "MEMOIZE":
            self.memo[len(self.memo)] = self.stack[-1]
        elif name == "MARK":
            self.stack.append(_Mark())
        elif name == "EMPTY_DICT":
            self.make({})
        elif name == "EMPTY_LIST":
            self.make([])
        elif name == "TUPLE":
            self.make(tuple(self.marked()))
        elif name in TUPLES:
            items = [self.pop() for _ in range(TUPLES[name])]
            self.make(tuple(reversed(items)))
        elif name in ("APPEND", "APPENDS"):
            items = self.marked() if name == "APPENDS" else [self.pop()]
            _as(list, self.stack[-1]).extend(items)
            self.measure(self.stack[-1], items)
        elif name in ("SETITEM", "SETITEMS"):
            items = self.marked() if name == "SETITEMS" else [self.pop(), self.pop()][::-1]
            target = _as(dict, self.stack[-1])
            for key, value in zip(items[::2], items[1::2], strict=True):
                # The hash of a container is that of all that it holds: a few bytes can make it endless.
                if key is not None and not isinstance(key, str | int | float):
                    raise Unreadable("a key is neither text nor a number")
                if isinstance(key, str) and key in target and isinstance(value, StoredTensor):
                    raise Unreadable(f"the tensor {key[:200]!r} is there twice")
                target[key] = value
            self.measure(target, items[1::2])
        elif name == "GLOBAL":
            self.stack.append(_Name(argument))
        elif name == "STACK_GLOBAL":
            attribute, module = self.pop(), self.pop()
            self.stack.append(_Name(f"{_as(str, module)} {_as(str, attribute)}"))
        elif name == "BINPERSID":
            self.stack.append(_storage(self.pop()))
        elif name == "REDUCE":
            arguments, function = self.pop(), self.pop()
            self.make(_described(_as(_Name, function).text, _as(tuple, arguments)))
        elif name == "BUILD":
            self.pop()  # attributes of a container, such as a state dict's `_metadata`
            _as((dict, StoredTensor), self.stack[-1])
        elif name not in ("PROTO", "FRAME"):
            raise NeedsCode(f"the instruction {name}")

    def make(self, value: Any) -> None:
        """Put a new value on the stack."""
        if isinstance(value, dict | list | tuple):
            self.depths.pop(id(value), None)  # of an earlier one that is gone
        self.stack.append(value)
        if isinstance(value, tuple):
            self.measure(value, value)

    def measure(self, container: Any, items: Iterable[Any]) -> None:
        """Note how deep a container is, now that it holds these."""
        held = (each for each in items if isinstance(each, dict | list | tuple))
        inner = max((self.depths.get(id(each), 1) for each in held), default=0)
        if inner >= DEEPEST:
            raise Unreadable(f"more than {DEEPEST} containers are inside each other")
        if inner:
            self.depths[id(container)] = max(self.depths.get(id(container), 1), inner + 1)

    def pop(self) -> Any:
        value = self.stack.pop()
        if isinstance(value, _Mark):
            raise IndexError
        return value

    def marked(self) -> list[Any]:
        items = []
        while not isinstance(value := self.stack.pop(), _Mark):
            items.append(value)
        return items[::-1]


CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}
LITERALS = {
    *("BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT"),
    *("BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "SHORT_BINSTRING", "BINSTRING"),
}
TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}


def _storage(identity: Any) -> StoredStorage:
    """From `("storage", type, key, place, number of values)`; old files have a view as a sixth, which must be None."""
    if _as(tuple, identity)[0] != "storage":
        raise NeedsCode("a whole model")
    _, type_, key, _place, n_values, *view = identity
    dtype = STORAGES.get(_as(_Name, type_).text)
    if dtype is None:
        raise Unreadable("a storage has an unknown type")
    if any(part is not None for part in view):
        raise Unreadable("a storage is a part of another one")
    return StoredStorage(_as(str, key), dtype, _count(n_values))


def _described(function: str, arguments: tuple) -> Any:
    if function == "collections OrderedDict":
        if arguments not in ((), ([],)):
            raise Unreadable("a dictionary is written in an unknown way")
        return {}
    if function in ("torch._utils _rebuild_parameter", "torch._utils _rebuild_parameter_with_state"):
        return _as(StoredTensor, arguments[0])
    if function not in ("torch._utils _rebuild_tensor_v2", "torch._utils _rebuild_tensor_v3"):
        raise NeedsCode(repr(function.replace(" ", ".")[:200]))
    storage, start, shape, strides, *more = arguments
    storage = _as(StoredStorage, storage)
    dtype, n_values = storage.dtype, storage.n_values
    if function.endswith("_v3"):
        dtype = DTYPES.get(_as(_Name, more[2]).text)
        if dtype is None:
            raise Unreadable("a tensor has an unknown type")
        n_values //= width(dtype)
    shape, strides = (tuple(_count(number) for number in _as(tuple, numbers)) for numbers in (shape, strides))
    if len(shape) != len(strides):
        raise Unreadable("a tensor's shape and strides have different lengths")
    if len(shape) > MOST_AXES:
        raise Unreadable(f"a tensor has {len(shape):,} axes")
    tensor = StoredTensor(storage, dtype, _count(start), shape, strides)
    end = tensor.start + sum((length - 1) * stride for length, stride in zip(shape, strides, strict=True)) + 1
    # A view may repeat a value, and so be larger than the file; no weight is such a view.
    if tensor.n_values and (end > n_values or tensor.n_values > n_values):
        raise Unreadable(f"a tensor of the shape {shape} reaches beyond its {n_values:,} stored values")
    return tensor


def _count(number: Any) -> int:
    if type(number) is not int or not 0 <= number < 1 << 62:
        raise Unreadable("a size is no whole number from 0 up")
    return number


def _as(kind: Any, value: Any) -> Any:
    if not isinstance(value, kind):
        raise TypeError
    return value
