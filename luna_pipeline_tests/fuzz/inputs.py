"""Malformed inputs: what one is, how it follows from a seed, and what is done to text and bytes."""

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

TEXTS = (
    *("", " ", "0", "-1", "-0", "1", "2", "3", "7", "-2147483649", "32768", "4294967296", "99999999999999999999"),
    *("nan", "NaN", "inf", "-inf", "1e400", "1e-400", "0x10", "1_0", "1,5", "1.5.2", "abc", "\u00e4", "\u0660", "True"),
    *("1 1", "1 1 1 1", "0 0 0", "1,1,1", "-1 -1 -1", "1e9 1e9 1e9", "none", "%s%n", "..", "/", "/dev/zero", "\x00"),
    *("1" * 400, "a" * 5000, "1.0e", "--1", "+", "(1,0,0)", "(nan,0,0) (0,1,0) (0,0,1)"),
)
"""Values for a field of text: extreme, negative, huge, not finite, of another type, empty, repeated."""

NUMBERS = (0, 1, -1, 2, 7, 127, 255, 256, 32767, -32768, 65535, 1 << 31, -(1 << 31), (1 << 32) - 1, 1 << 40)


@dataclass(frozen=True)
class Malformed:
    """A malformed input.

    Attributes:
        name: ``kind-number``; with the seed it gives the same input again.
        uid: Series that it claims to be.
        files: Contents by path, relative to the input's own folder.
        make: Writes what ``files`` cannot hold (links, FIFOs, odd names) into the folder; None for nothing.
        change: What was changed, for the report of a failure.
    """

    name: str
    uid: str
    files: dict[str, bytes] = field(default_factory=dict)
    make: Callable[[Path], object] | None = None
    change: str = ""

    def write(self, folder: Path) -> None:
        """Write the input into its folder."""
        folder.mkdir(parents=True, exist_ok=True)
        for path, content in self.files.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_bytes(content)
        if self.make is not None:
            self.make(folder)


Generator = Callable[[random.Random, str], Malformed]
"""Makes an input from random numbers; the second argument is its name."""


def uid_of(name: str) -> str:
    """Return the uid of an input: the same for the same name, another for another."""
    kind, number = name.rsplit("-", 1)
    return f"1.2.826.{sum(kind.encode())}.{int(number) + 1}"


def inputs_of(generator: Generator, kind: str, *, seed: int, numbers: range) -> list[Malformed]:
    """Return the inputs of a kind; each follows from its seed and number alone."""
    names = [f"{kind}-{number}" for number in numbers]
    return [generator(random.Random(f"{seed} {name}"), name) for name in names]


def damaged(rng: random.Random, content: bytes, *, begin: int = 0) -> tuple[bytes, str]:
    """Flip, remove, insert, repeat or overwrite bytes from an offset on; also say what was done."""
    way = rng.choice(["flip", "flip", "truncate", "extend", "remove", "repeat", "overwrite", "empty"])
    begin = min(begin, max(len(content) - 1, 0))
    place = rng.randrange(begin, max(len(content), begin + 1))
    length = rng.choice([1, 2, 4, 16, 100])
    rest = content[place + length :]
    if way == "flip" and content:
        changed = content[:place] + bytes([content[place] ^ (1 << rng.randrange(8))]) + content[place + 1 :]
    elif way == "truncate":
        changed = content[:place]
    elif way == "extend":
        changed = content + rng.randbytes(length)
    elif way == "remove":
        changed = content[:place] + rest
    elif way == "repeat":
        changed = content[:place] + content[place : place + length] * 2 + rest
    elif way == "overwrite":
        changed = content[:place] + rng.choice([b"\0", b"\xff", b"\n", b"9"]) * length + rest
    else:
        changed = b""
    return changed, f"{way} at byte {place}"


def changed_lines(rng: random.Random, lines: list[str], separator: str) -> tuple[list[str], str]:
    """Change one field of a header: another value, twice, missing, without its value, another order or sign between."""
    lines, place = list(lines), rng.randrange(len(lines))
    key = lines[place].split(separator, 1)[0]
    way = rng.choice(["value", "value", "value", "value", "word", "missing", "twice", "separator", "order", "key"])
    if way == "value":
        lines[place] = f"{key}{separator}{rng.choice(TEXTS)}"
    elif way == "word":
        words = lines[place].split(separator, 1)[-1].split(" ")
        words[rng.randrange(len(words))] = rng.choice(TEXTS)
        lines[place] = f"{key}{separator}{' '.join(words)}"
    elif way == "missing":
        del lines[place]
    elif way == "twice":
        lines.insert(rng.randrange(len(lines)), f"{key}{separator}{rng.choice(TEXTS)}")
    elif way == "separator":
        lines[place] = lines[place].replace(separator, rng.choice(["=", ":", " ", ":=", "\t", ""]), 1)
    elif way == "order":
        lines.insert(rng.randrange(len(lines)), lines.pop(place))
    else:
        lines[place] = lines[place].replace(key, rng.choice([key.lower(), key.upper(), f" {key}", f"{key}x", ""]), 1)
    return lines, f"{way} of {key.strip()!r}: {lines[min(place, len(lines) - 1)][:120]!r}"
