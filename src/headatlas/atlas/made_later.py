"""A field of a dataclass that may be given in a plain form, and becomes its value when somebody first looks at it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar

Value = TypeVar("Value")
Plain = TypeVar("Plain")


class MadeLater(Generic[Value, Plain]):
    """A descriptor for such a field.

    Args:
        plain: type of the plain form.
        make: the value from it.
        default: of the field; none: it has to be given.
    """

    def __init__(self, plain: type[Plain], make: Callable[[Plain], Value], *default: Value) -> None:
        self._plain, self._make, self._default = plain, make, default

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, instance: Any, owner: type) -> Value:
        if instance is None:  # a dataclass asks for its default
            if not self._default:
                raise AttributeError(self._name)
            return self._default[0]
        value = instance.__dict__[self._name]
        if isinstance(value, self._plain):
            value = instance.__dict__[self._name] = self._make(value)
        return value

    def __set__(self, instance: Any, value: Value | Plain) -> None:
        instance.__dict__[self._name] = value

    def plain(self, instance: Any) -> Plain | None:
        """The plain form, if the field still has it."""
        value = instance.__dict__[self._name]
        return value if isinstance(value, self._plain) else None
