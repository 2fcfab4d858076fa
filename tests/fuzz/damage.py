"""Strategies of hypothesis for damaged and hostile files."""

from __future__ import annotations

import json

from hypothesis import strategies as st

# Values that a JSON node may be replaced by: empty, of another type, out of range, or not a number.
JSON_VALUES = st.recursive(
    st.sampled_from([None, True, -1, 0, 1e308, 10**40, float("nan"), float("inf"), "", "x", "\u200b", "1", [], {}])
    | st.integers(-3, 1_000_000)
    | st.text(max_size=8),
    lambda children: st.lists(children, max_size=5) | st.dictionaries(st.text(max_size=4), children, max_size=3),
    max_leaves=6,
)

PIECES = [*',;"\n\r\t\0\u200b\u00a0<&[-', "../"]  # special in CSV, XML or JSON, or invisible


@st.composite
def damaged_bytes(draw, sound: bytes) -> bytes:
    """One to three changes of a sound file: truncated, bytes flipped, a block zeroed, repeated, removed or inserted."""
    data = bytearray(sound)
    for _ in range(draw(st.integers(1, 3))):
        start = draw(st.integers(0, max(0, len(data) - 1)))
        length = draw(st.integers(1, 64))
        kind = draw(st.sampled_from(["truncate", "flip", "flip", "set", "zero", "repeat", "remove", "insert"]))
        if kind == "truncate":
            del data[start:]
        elif kind == "flip" and data:
            data[start] ^= 1 << draw(st.integers(0, 7))
        elif kind == "set" and data:
            data[start : start + 8] = draw(st.binary(min_size=1, max_size=8))
        elif kind == "zero":
            data[start : start + length] = bytes(len(data[start : start + length]))
        elif kind == "repeat":
            data[start:start] = data[start : start + length]
        elif kind == "remove":
            del data[start : start + length]
        elif kind == "insert":
            data[start:start] = draw(st.binary(min_size=1, max_size=16))
    return bytes(data)


@st.composite
def damaged_json(draw, sound: bytes) -> bytes:
    """One to three nodes of a JSON document replaced or removed, or the whole document nested very deeply."""
    content = json.loads(sound)
    if draw(st.integers(0, 30)) == 0:
        depth = draw(st.sampled_from([50, 1_000, 100_000]))
        return b"[" * depth + b"]" * depth
    for _ in range(draw(st.integers(1, 3))):
        parent, key = None, None
        node = content
        while isinstance(node, (dict, list)) and node and (parent is None or draw(st.booleans())):
            keys = list(node) if isinstance(node, dict) else list(range(len(node)))
            parent, key = node, draw(st.sampled_from(keys))
            node = parent[key]
        if parent is None:
            content = draw(JSON_VALUES)
        elif isinstance(parent, dict) and draw(st.integers(0, 4)) == 0:
            del parent[key]
        else:
            parent[key] = draw(JSON_VALUES)
    return json.dumps(content).encode()


@st.composite
def damaged_text(draw, sound: bytes) -> bytes:
    """A text with characters of CSV and XML, invisible ones, NUL or another encoding inserted, or lines exchanged."""
    text = sound.decode()
    if draw(st.integers(0, 9)) == 0:
        return text.encode(draw(st.sampled_from(["utf-16", "utf-32", "utf-8-sig"])))
    for _ in range(draw(st.integers(1, 3))):
        position = draw(st.integers(0, len(text)))
        piece = draw(st.sampled_from([*PIECES]) | st.text(max_size=6))
        text = text[:position] + piece + text[position + draw(st.integers(0, 5)) :]
    return text.encode("utf-8", "surrogatepass")
