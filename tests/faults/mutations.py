"""Damage to the content of files: seeded, so that a finding can be repeated."""

import json
import random
import re
from collections.abc import Callable
from typing import Any

import yaml

HEADER = 512
"""Most bytes that decide how a file is read are among the first."""
NUMBERS = (0, 1, 2, 3, 255, 2**15, 2**16 - 1, 2**16, 2**24, 2**31 - 1, 2**31, 2**32 - 1, 2**40)
NUMBERS += (2**63 - 1, 2**63, 2**64 - 1)


def _place(content: bytes, rng: random.Random) -> int:
    """An offset, every second time in the header."""
    end = len(content) if rng.random() < 0.5 else min(HEADER, len(content))
    return rng.randrange(end) if end else 0


def _run(content: bytes, rng: random.Random) -> slice:
    start = _place(content, rng)
    return slice(start, min(len(content), start + rng.choice((1, 2, 4, 8, 30, 200))))


def _with(content: bytes, place: slice, new: bytes) -> bytes:
    return content[: place.start] + new + content[place.stop :]


def cut(content: bytes, rng: random.Random) -> bytes:
    """Cut the end off."""
    return content[: _place(content, rng)]


def behead(content: bytes, rng: random.Random) -> bytes:
    """Cut the start off."""
    return content[_place(content, rng) :]


def flip(content: bytes, rng: random.Random) -> bytes:
    """Flip a few bits."""
    flipped = bytearray(content)
    for _ in range(rng.choice((1, 1, 2, 4, 16)) if content else 0):
        flipped[_place(content, rng)] ^= 1 << rng.randrange(8)
    return bytes(flipped)


def overwrite(content: bytes, rng: random.Random) -> bytes:
    """Overwrite a run of bytes with one value, or with any."""
    place = _run(content, rng)
    length = place.stop - place.start
    new = rng.choice((bytes(length), b"\xff" * length, b" " * length, rng.randbytes(length)))
    return _with(content, place, new)


def swap(content: bytes, rng: random.Random) -> bytes:
    """Swap two blocks of the same size."""
    size = rng.choice((1, 4, 12, 64))
    first, second = sorted((_place(content, rng), _place(content, rng)))
    if first + size > second or second + size > len(content):
        return content[second:] + content[:second]
    a, b = content[first : first + size], content[second : second + size]
    return _with(_with(content, slice(first, first + size), b), slice(second, second + size), a)


def renumber(content: bytes, rng: random.Random) -> bytes:
    """Put a number that is often too large where one may be: in binary, or in digits."""
    number = rng.choice(NUMBERS)
    digits = list(re.finditer(rb"\d+", content))
    if digits and rng.random() < 0.3:
        found = rng.choice(digits)
        text = rng.choice((str(number), f"-{number}", "1e400", "1e300", "1e-300", "nan")).encode()
        return _with(content, slice(*found.span()), text)
    size = rng.choice((1, 2, 2, 4, 4, 8))
    start = _place(content, rng)
    start -= rng.choice((0, start % 2))
    new = (number % 2 ** (8 * size)).to_bytes(size, rng.choice(("little", "big")))
    return _with(content, slice(start, start + size), new)


def remove(content: bytes, rng: random.Random) -> bytes:
    """Leave a run of bytes out."""
    return _with(content, _run(content, rng), b"")


def repeat(content: bytes, rng: random.Random) -> bytes:
    """Repeat a run of bytes."""
    place = _run(content, rng)
    return _with(content, place, content[place] * rng.choice((2, 3, 1000)))


def append(content: bytes, rng: random.Random) -> bytes:
    """Append garbage, or the file itself."""
    return content + rng.choice((rng.randbytes(100), bytes(5000), content, b"\n" * 100))


def empty(_content: bytes, _rng: random.Random) -> bytes:
    """Leave nothing."""
    return b""


Mutation = Callable[[bytes, random.Random], bytes]
OF_BYTES: tuple[Mutation, ...] = (cut, behead, flip, flip, overwrite, overwrite, swap)
OF_BYTES += (renumber, renumber, renumber, renumber, remove, repeat, append)


ODD_VALUES: tuple[Any, ...] = (
    None, True, 0, -1, 1, 3, 10**6, 2**31, 2**64, 10**40, 0.5, -0.0, 1e308, float("nan"),
    float("inf"), "", " ", "a", "..", "/", "~", "~nobody", "a" * 5000, "a/" * 3000, "@", "@.", "::",
    "a::b", "*", "**", "[", "{", "é\u2028", "auto", "L2", [], [[]], {}, {"path": "a"}, [1, 2, 3],
    [0, -1], ["a"] * 50, list(range(300)), {"fraction": 0.5}, {"a": {"a": {"a": [{}]}}},
)  # fmt: skip


def _places(tree: Any) -> list[tuple[Any, Any]]:
    """Every list or mapping of a tree with each of its keys."""
    keys = tree if isinstance(tree, dict) else range(len(tree)) if isinstance(tree, list) else ()
    found = [(tree, key) for key in keys]
    return found + [place for key in keys for place in _places(tree[key])]


def _change_tree(tree: Any, rng: random.Random) -> Any:
    """Change, remove, add, move or copy parts of plain data."""
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        places = _places(tree)
        if not places:
            break
        (parent, key), (giver, other) = rng.choice(places), rng.choice(places)
        match rng.randrange(6):
            case 0:
                del parent[key]
            case 1 if isinstance(parent, dict):
                parent[rng.choice((f"{key}s", "path", "a", "", "1", "<<"))] = parent[key]
            case 2:
                parent[key] = json.loads(json.dumps(giver[other]))
            case _:
                parent[key] = json.loads(json.dumps(rng.choice(ODD_VALUES)))
    return tree


def restructure_yaml(content: bytes, rng: random.Random) -> bytes:
    """Change values and keys, or wrap the text in what YAML can do."""
    tree = _change_tree(yaml.safe_load(content), rng)
    text = yaml.safe_dump(tree, sort_keys=False)
    lines = text.splitlines()
    match rng.randrange(8):
        case 0:
            rng.shuffle(lines)
        case 1:
            lines.append(rng.choice(lines or [""]))
        case 2:
            place = rng.randrange(len(lines) + 1)
            odd = ("\ta: 1", "- 1", "? [a]", "a: *a", "a: &a [*a]", "---", "...", "%YAML 9.9")
            odd += ("!!python/object:os.system a", "a: !!int x", "a: !!binary x", "<<: *a", "a: |")
            odd += ("[" * 2000, "{a: " * 2000, "a: " + "9" * 5000, "\0", "\ud800", "a: 'b", "'")
            lines.insert(place, rng.choice(odd))
    return "\n".join(lines).encode("utf-8", "surrogatepass")


def restructure_json(content: bytes, rng: random.Random) -> bytes:
    """Change values and keys."""
    return json.dumps(_change_tree(json.loads(content), rng)).encode()


ODD_LINES = (
    b"", b"#", b"@list.txt", b"@", b"~nobody/a.tif", b"~", b"::", b"a.tif::/b", b"*", b"**",
    b"**/**/**/*.tif", b"[", b"[a-", b"..", b"/", b"/dev/null", b"/dev/zero", b"\0", b"a\0b",
    b"a" * 300, b"a/" * 3000, b"\xff\xfe", b"\xe9", b"{path: a.tif}", b"  ", b"\r", b"\x0c", b".",
    b"a.tif/", b"a.tif/b.tif", b"./././a.tif", b"../" * 2000, "\u2028".encode(), b"a.tif a.tif",
)  # fmt: skip


def restructure_list(content: bytes, rng: random.Random) -> bytes:
    """Change, add, repeat and reorder lines, or change the encoding."""
    lines = content.splitlines()
    for _ in range(rng.choice((1, 1, 3))):
        lines.insert(rng.randrange(len(lines) + 1), rng.choice((*ODD_LINES, *lines)))
    rng.shuffle(lines)
    text = rng.choice((b"\n", b"\n", b"\r\n", b"\r")).join(lines)
    match rng.randrange(8):
        case 0:
            return text.decode("latin-1").encode(rng.choice(("utf-16", "utf-16-be", "utf-32")))
        case 1:
            return b"\xef\xbb\xbf" + text
        case 2:
            return text * 1000
        case _:
            return text


def mutate(name: str, content: bytes, seed: int) -> tuple[str, bytes]:
    """Damage the content of a file.

    Args:
        name: of the file, whose suffix tells which structure the content has.
        content: of the sound file.
        seed: which damage; 0 leaves an empty file.

    Returns:
        What was done, and the new content.
    """
    rng = random.Random(f"{seed} of {name}")  # a string seeds the same numbers in each process
    if seed == 0:
        return "empty", empty(content, rng)
    by_suffix = {"yaml": restructure_yaml, "txt": restructure_list, "json": restructure_json}
    by_suffix |= dict.fromkeys(("zarray", "zattrs", "zgroup"), restructure_json)
    own = by_suffix.get(name.rpartition(".")[2])
    done = []
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        mutation = own if own and not done and rng.random() < 0.6 else rng.choice(OF_BYTES)
        content = mutation(content, rng)
        done.append(mutation.__name__)
    return " ".join(done), content
