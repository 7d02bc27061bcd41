"""Pickled metadata of nodule blocks: numpy's own files are read, everything else is refused and nothing is run."""

import builtins
import io
import os
import pickle
import random
import struct
import subprocess

import numpy as np
import pytest

from luna_pipeline.core.ct.formats import luna25_metadata
from luna_pipeline.core.ct.formats.luna25_metadata import RefusedPickleError, read_metadata

RIGHT = {
    "origin": np.array([-310.5, -20.25, 1e-3]),
    "spacing": np.array([2.5, 0.703125, 0.703125]),
    "transform": np.array([[1.0, 0.1, 0.0], [0.0, -1.0, 0.2], [0.3, 0.0, 1.0]]),
}


def saved(value, *, protocol=None):
    """A file as `numpy.save` writes it; with a protocol, as an older numpy does."""
    array, stream = np.empty((), dtype=object), io.BytesIO()
    array[()] = value
    if protocol is None:
        np.save(stream, array, allow_pickle=True)
    else:
        np.lib.format.write_array_header_1_0(stream, {"descr": "|O", "fortran_order": False, "shape": ()})
        stream.write(pickle.dumps(array, protocol=protocol))
    return stream.getvalue()


def with_pickle(content):
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, {"descr": "|O", "fortran_order": False, "shape": ()})
    return stream.getvalue() + content


@pytest.mark.parametrize("protocol", [None, 3, 4])
@pytest.mark.parametrize(
    "change",
    [
        lambda values: values,
        lambda values: {name: values[name].astype(np.float32).astype(">f4") for name in values},
        lambda values: values | {"transform": np.asfortranarray(values["transform"])},
        lambda values: values | {"spacing": (2.5, 0.703125, 0.703125), "origin": [1, 2.0, -3]},
        lambda values: values | {"origin": np.array([1, -2, 3])},
    ],
)
def test_what_numpy_saves_is_read(protocol, change):
    values = change(RIGHT)
    read = read_metadata(saved(values, protocol=protocol))
    assert list(read) == ["origin", "spacing", "transform"]
    for name, expected in values.items():
        np.testing.assert_array_equal(read[name], np.asarray(expected, dtype=np.float64))
        assert read[name].dtype == np.float64


def test_files_of_numpy_1_name_another_module():
    # Protocol 3 writes modules as lines of text, of any length.
    content = saved(RIGHT, protocol=3)
    older = content.replace(b"numpy._core.multiarray", b"numpy.core.multiarray")
    assert older != content
    np.testing.assert_array_equal(read_metadata(older)["transform"], RIGHT["transform"])


class Calls:
    """Pickled, it calls a function when it is loaded."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def attacks(place):
    touch = f"touch {place}"
    yield "system in the values", RIGHT | {"origin": Calls(os.system, touch)}
    yield "system instead of the dictionary", Calls(os.system, touch)
    yield "a process", RIGHT | {"spacing": Calls(subprocess.call, ["touch", str(place)])}
    yield "eval", RIGHT | {"transform": Calls(builtins.eval, f"open({str(place)!r}, 'w')")}
    yield "exec as a name", RIGHT | {"more": Calls(builtins.exec, f"open({str(place)!r}, 'w')")}
    yield "open", RIGHT | {"origin": Calls(open, str(place), "w")}
    yield "nested in an array of objects", RIGHT | {"origin": np.array([Calls(os.system, touch)], dtype=object)}
    yield "numpy's own loader", RIGHT | {"origin": Calls(np.load, str(place))}
    yield "numpy's memmap", RIGHT | {"origin": Calls(np.memmap, str(place), "u1", "w+", 0, (8,))}
    yield "another class", RIGHT | {"origin": random.Random(0)}


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4, 5])
def test_pickles_that_call_functions_are_refused_and_run_nothing(tmp_path, protocol):
    names = [name for name, _ in attacks(tmp_path / "ran")]
    for name, value in attacks(tmp_path / "ran"):
        with pytest.raises(RefusedPickleError):
            read_metadata(saved(value, protocol=protocol))
        assert not (tmp_path / "ran").exists(), name
    assert len(names) == 10
    # The attacks work where a file is unpickled.
    pickle.loads(pickle.dumps(dict(attacks(tmp_path / "ran"))["system in the values"], protocol=protocol))
    assert (tmp_path / "ran").exists()


def test_handwritten_opcodes_are_refused(tmp_path):
    touch = f"touch {tmp_path / 'ran'}".encode()
    for content in (
        b"cos\nsystem\n(S'" + touch + b"'\ntR.",
        b"\x80\x04cos\nsystem\n\x8c" + bytes([len(touch)]) + touch + b"\x85R.",
        b"\x80\x04(S'" + touch + b"'\nios\nsystem\n.",
        b"\x80\x04\x82\x01.",
        b"\x80\x04Pnumpy\n.",
        b"\x80\x04\x8c\x05numpy\x8c\x05dtype\x93)\x81.",
        b"\x80\x04N.",
        b"\x80\x04}}.",
        b"\x80\x04t.",
        b"\x80\x04h\x07.",
        b"\x80\x04}(]NNNu.",
        b"\x80\x04)" + b"\x85" * 6000 + b"\x8c\x01a\x93.",
        b"",
        b".",
    ):
        with pytest.raises(RefusedPickleError):
            read_metadata(with_pickle(content))
    assert not (tmp_path / "ran").exists()


def test_other_values_and_huge_sizes_are_refused():
    nested = []
    for _ in range(200):
        nested = [nested]
    for value in (
        {},
        [1, 2],
        RIGHT["origin"],
        {"origin": RIGHT["origin"], "spacing": RIGHT["spacing"]},
        RIGHT | {"more": 1},
        RIGHT | {"origin": np.zeros(4)},
        RIGHT | {"transform": np.zeros(9)},
        RIGHT | {"spacing": np.array([1.0, np.nan, 1.0])},
        RIGHT | {"spacing": (1.0, 2.0)},
        RIGHT | {"spacing": (1.0, 2.0, True)},
        RIGHT | {"spacing": (10**400, 1, 1)},
        RIGHT | {"spacing": "abc"},
        RIGHT | {"spacing": np.array(["a", "b", "c"])},
        RIGHT | {"spacing": np.array([1j, 2, 3])},
        RIGHT | {"origin": nested},
        {1: RIGHT["origin"]},
    ):
        with pytest.raises(RefusedPickleError):
            read_metadata(saved(value))
    right = saved(RIGHT, protocol=4)
    # A size of 2^31 - 1 instead of 3, and bytes said to be 2^62.
    three = right.index(b"K\x03\x85")
    for content in (
        right[:three] + b"J" + struct.pack("<i", 2**31 - 1) + right[three + 2 :],
        with_pickle(b"\x80\x04\x8e" + struct.pack("<Q", 1 << 62) + b"abc."),
        with_pickle(b"\x80\x04\x8a\xff" + b"\xff" * 255 + b"."),
        right + b"\0" * luna25_metadata.MAX_METADATA_BYTES,
    ):
        with pytest.raises(RefusedPickleError):
            read_metadata(content)


def test_files_of_other_arrays_are_refused():
    for array in (np.zeros(3), np.array([{}, {}], dtype=object)):
        stream = io.BytesIO()
        np.save(stream, array, allow_pickle=True)
        with pytest.raises(RefusedPickleError, match="instead of a dictionary"):
            read_metadata(stream.getvalue())
    for content in (b"", b"PK\x03\x04", b"\x93NUMPY\x01\x00\xff\xff{", pickle.dumps(RIGHT)):
        with pytest.raises(RefusedPickleError, match="no header"):
            read_metadata(content)


@pytest.mark.parametrize("protocol", [3, 4])
def test_changed_bytes_are_read_as_numbers_or_refused(protocol):
    """Mutations of the pickle: nothing but a dictionary of numbers or the refusal comes of them."""
    right, rng = saved(RIGHT, protocol=protocol), random.Random(protocol)
    start, num_read = right.index(b"\x80"), 0
    for _ in range(1500):
        content = bytearray(right)
        for _ in range(rng.randint(1, 4)):
            place = rng.randrange(start, len(content))
            kind = rng.random()
            if kind < 0.6:
                content[place] = rng.randrange(256)
            elif kind < 0.8:
                del content[place]
            else:
                content.insert(place, rng.randrange(256))
        try:
            read = read_metadata(bytes(content))
        except RefusedPickleError:
            continue
        num_read += 1
        assert {name: values.shape for name, values in read.items()} == luna25_metadata.SHAPES
    assert num_read > 50, "some changes are of numbers only"
