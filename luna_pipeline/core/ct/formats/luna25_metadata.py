"""Metadata of LUNA25's nodule blocks: a dictionary of numpy arrays, pickled, read without unpickling.

Unpickling runs whatever a file names. Here the opcodes are followed on a stack that can hold numbers, texts, tuples,
lists, dictionaries and arrays of numbers, and nothing is ever called: a pickle with anything else is refused.

Source:
    ``numpy.save`` of a dictionary writes a 0-dimensional object array: a header and a pickle of protocol 3 or more. Its
    one value is ``{"origin": (3,), "spacing": (3,), "transform": (3, 3)}``, each along z, y, x
    (DIAGNijmegen/luna25-baseline-public, preprocessing).
"""

import io
import math
import pickletools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

MAX_METADATA_BYTES = 8 << 10
"""Largest file that is read; LUNA25's have about 700 bytes."""
SHAPES = {"origin": (3,), "spacing": (3,), "transform": (3, 3)}

_ARRAY, _NDARRAY, _DTYPE = "array", "ndarray", "dtype"
# numpy 1 and numpy 2 name one function differently.
_KNOWN = {
    ("numpy.core.multiarray", "_reconstruct"): _ARRAY,
    ("numpy._core.multiarray", "_reconstruct"): _ARRAY,
    ("numpy", "ndarray"): _NDARRAY,
    ("numpy", "dtype"): _DTYPE,
}
_DTYPES = {"f8", "f4", "i8", "i4", "O8"}
_MAX_DEPTH = 8
_CONSTANTS: Mapping[str, Callable[[], Any]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_TUPLE": tuple,
    "EMPTY_LIST": list,
    "EMPTY_DICT": dict,
}
_VALUES = {
    *("BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "SHORT_BINUNICODE", "BINUNICODE"),
    *("SHORT_BINBYTES", "BINBYTES"),
}
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}


class RefusedPickleError(ValueError):
    """A pickle is not of the one shape that is read; the message is what was found."""


@dataclass(frozen=True)
class _Named:
    """A name of ``_KNOWN``; it is never looked up."""

    kind: str


@dataclass
class _Type:
    """A numpy type that a pickle describes."""

    name: str
    order: str = "="


@dataclass
class _Array:
    """A numpy array that a pickle describes; its value is known once its state was read."""

    value: Any = None


_MARK = object()


def read_metadata(content: bytes) -> dict[str, NDArray[np.float64]]:
    """Return origin (3,), spacing (3,) and transform (3, 3) along z, y, x, float64, of a file's content.

    Raises:
        RefusedPickleError: If it is anything else than numpy's file of such a dictionary with finite numbers.
    """
    if len(content) > MAX_METADATA_BYTES:
        raise RefusedPickleError(f"more than {MAX_METADATA_BYTES} bytes")
    stream = io.BytesIO(content)
    try:
        version = np.lib.format.read_magic(stream)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = read(stream)
    # Whatever a damaged header makes numpy raise.
    except Exception as error:
        raise RefusedPickleError("no header of a numpy file") from error
    if shape != () or dtype != np.dtype(object):
        raise RefusedPickleError(f"an array of shape {shape} instead of a dictionary")
    return _checked(_followed(stream.read()))


def _checked(value: Any) -> dict[str, NDArray[np.float64]]:
    """Return the arrays of a dictionary with exactly the names of ``SHAPES``."""
    if not isinstance(value, _Array) or not isinstance(value.value, dict):
        raise RefusedPickleError("no dictionary")
    found = value.value
    if set(found) != set(SHAPES):
        raise RefusedPickleError(f"a dictionary of {len(found)} other names than {', '.join(SHAPES)}")
    return {name: _numbers(found[name], name) for name in SHAPES}


def _numbers(value: Any, name: str) -> NDArray[np.float64]:
    array = value.value if isinstance(value, _Array) else value
    rows = array if isinstance(array, np.ndarray) else _row_of(array)
    if rows is None or rows.shape != SHAPES[name] or not np.isfinite(rows).all():
        raise RefusedPickleError(f"a value of {name} that is not {SHAPES[name]} finite numbers")
    return np.asarray(rows, dtype=np.float64)


def _row_of(value: Any) -> NDArray[np.float64] | None:
    """Return a tuple or list of numbers as an array, None for anything else."""
    is_row = isinstance(value, tuple | list) and all(type(item) in (int, float) for item in value)
    if not is_row or any(abs(item) > 1e300 for item in value):
        return None
    return np.asarray(value, dtype=np.float64)


def _followed(content: bytes) -> Any:
    """Follow the opcodes of a pickle and return what is left on the stack."""
    stack: list[Any] = []
    memo: dict[int, Any] = {}
    try:
        for opcode, argument, place in pickletools.genops(content):
            if opcode.name == "STOP":
                _require(place == len(content) - 1 and len(stack) == 1, "more than one value")
                return stack[0]
            _step(opcode.name, argument, stack, memo)
    except RefusedPickleError:
        raise
    # genops: a damaged opcode; the stack: too few values; a key that is a list; tuples in thousands of tuples.
    except (ValueError, IndexError, KeyError, TypeError, OverflowError, RecursionError) as error:
        raise RefusedPickleError("a damaged pickle") from error
    raise RefusedPickleError("a pickle without its end")


def _step(name: str, argument: Any, stack: list[Any], memo: dict[int, Any]) -> None:  # noqa: PLR0912
    """Follow one opcode; an opcode that is not named here is refused."""
    if name == "PROTO":
        _require(argument >= 3, f"protocol {argument}")
    elif name == "FRAME":
        pass
    elif name in _VALUES:
        stack.append(argument)
    elif name in _CONSTANTS:
        stack.append(_CONSTANTS[name]())
    elif name == "MARK":
        stack.append(_MARK)
    elif name == "MEMOIZE":
        memo[len(memo)] = stack[-1]
    elif name in ("BINPUT", "LONG_BINPUT"):
        memo[argument] = stack[-1]
    elif name in ("BINGET", "LONG_BINGET"):
        stack.append(memo[argument])
    elif name in _TUPLES:
        stack[-_TUPLES[name] :] = [tuple(stack[-_TUPLES[name] :])]
    elif name == "TUPLE":
        items = _since_mark(stack)
        stack.append(tuple(items))
    elif name == "APPEND":
        _add_items([stack.pop()], stack[-1])
    elif name == "APPENDS":
        items = _since_mark(stack)
        _add_items(items, stack[-1])
    elif name == "SETITEM":
        value = stack.pop()
        _set_items([stack.pop(), value], stack[-1])
    elif name == "SETITEMS":
        items = _since_mark(stack)
        _set_items(items, stack[-1])
    elif name == "GLOBAL":
        stack.append(_named(*str(argument).split(" ", 1)))
    elif name == "STACK_GLOBAL":
        attribute, module = stack.pop(), stack.pop()
        stack.append(_named(module, attribute))
    elif name == "REDUCE":
        values = stack.pop()
        stack[-1] = _described(stack[-1], values)
    elif name == "BUILD":
        _fill(stack.pop(), stack[-1])
    else:
        raise RefusedPickleError(f"the opcode {name}")


def _require(is_right: bool, got: str) -> None:
    if not is_right:
        raise RefusedPickleError(got)


def _since_mark(stack: list[Any]) -> list[Any]:
    """Take the values above the last mark from the stack."""
    place = max(place for place, value in enumerate(stack) if value is _MARK)
    items = stack[place + 1 :]
    del stack[place:]
    return items


def _add_items(items: list[Any], to: Any) -> None:
    _require(type(to) is list, "values added to no list")
    to.extend(items)


def _set_items(items: list[Any], to: Any) -> None:
    _require(type(to) is dict, "values added to no dictionary")
    names = items[::2]
    _require(all(type(name) is str for name in names), "a name that is no text")
    to.update(zip(names, items[1::2], strict=True))


def _named(module: Any, attribute: Any) -> _Named:
    kind = _KNOWN.get((module, attribute)) if isinstance(module, str) and isinstance(attribute, str) else None
    if kind is None:
        raise RefusedPickleError(f"the name {str(module)[:40]!r} {str(attribute)[:40]!r}")
    return _Named(kind)


def _described(called: Any, values: Any) -> _Array | _Type:
    """Return what a call of a known name describes; nothing is called."""
    _require(isinstance(called, _Named) and type(values) is tuple, "a call")
    if called.kind == _ARRAY:
        _require(len(values) == 3 and values[0] == _Named(_NDARRAY), "an array of another kind")
        return _Array()
    _require(called.kind == _DTYPE and len(values) == 3 and values[0] in _DTYPES, "a type that is no number")
    return _Type(values[0])


def _fill(state: Any, what: Any) -> None:
    """Set the state of an array or type: byte order; shape, type, order of the axes and bytes."""
    _require(type(state) is tuple, "a state that is no tuple")
    if isinstance(what, _Type):
        _require(len(state) >= 2 and state[1] in ("<", ">", "|"), "a byte order that is none")
        what.order = state[1]
        return
    _require(isinstance(what, _Array) and len(state) == 5, "a state of something else")
    _, shape, dtype, is_fortran, values = state
    _require(isinstance(dtype, _Type) and type(shape) is tuple and len(shape) <= _MAX_DEPTH, "an array without type")
    _require(all(type(size) is int and 0 <= size <= MAX_METADATA_BYTES for size in shape), "a size that is none")
    if dtype.name == "O8":
        _require(type(values) is list and shape == () and len(values) == 1, "an array of objects")
        what.value = values[0]
        return
    number = np.dtype(dtype.order.replace("|", "=") + dtype.name)
    _require(type(values) is bytes and len(values) == math.prod(shape) * number.itemsize, "bytes of another number")
    numbers = np.frombuffer(values, dtype=number).astype(np.float64)
    what.value = numbers.reshape(shape[::-1]).T if is_fortran is True else numbers.reshape(shape)
