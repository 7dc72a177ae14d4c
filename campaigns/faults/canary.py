"""Finds secrets where they do not belong, in whatever way they were written there.

The secrets are known: a simulated run repeats its random bits from a seed, and its outcomes and keys are in
its private files. A hit is 64 consecutive bits of a secret (40 symbols, where symbols are 0 to 2) in some
encoding: packed at any bit offset in either bit order, one symbol a byte or a machine word, digits with or
without separators, hexadecimal, base64, lists of byte values, large decimal integers, escaped bytes, and HDF5
datasets of any numeric type. Windows that are nearly constant are left out; among the others, random data of
10 MB meets a secret of a million bits with a probability below 1e-6.
"""

from __future__ import annotations

import base64
import binascii
import io
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import h5py
import numpy as np
import numpy.typing as npt

WINDOW = {2: 64, 3: 40}  # symbols, by the number of different ones
MAX_SHARE = {2: 52, 3: 34}  # of one symbol in a window
MAX_DECIMAL_DIGITS = 4000

_HEX = re.compile(rb"[0-9a-fA-F]{16,}")
_BASE64 = re.compile(rb"[A-Za-z0-9+/_-]{11,}")
_DIGITS = re.compile(rb"[0-2](?:[\s,;|\[\]()]{0,4}[0-2]){39,}")
_BYTE_LIST = re.compile(rb"\d{1,3}(?:[\s,;]+\d{1,3}){7,}")
_DECIMAL = re.compile(rb"\d{19,}")
_ESCAPE = re.compile(rb"\\x([0-9a-fA-F]{2})")
_REVERSED = bytes(int(f"{value:08b}"[::-1], 2) for value in range(256))

UInt8 = npt.NDArray[np.uint8]
UInt64 = npt.NDArray[np.uint64]


def windows(symbols: UInt8, base: int) -> UInt64:
    """(n - k + 1,) numbers, one for every window of k symbols; nearly constant windows are left out."""
    length = WINDOW[base]
    count = symbols.size - length + 1
    if count <= 0:
        return np.empty(0, dtype=np.uint64)
    values = np.zeros(count, dtype=np.uint64)
    for start in range(length):
        values = values * np.uint64(base) + symbols[start : start + count]
    varied = np.ones(count, dtype=bool)
    for symbol in range(base):
        total = np.concatenate([[0], np.cumsum(symbols == symbol)])
        varied &= total[length:] - total[:-length] <= MAX_SHARE[base]
    return values[varied]


def _byte_windows(data: bytes) -> UInt64:
    count = len(data) - 7
    values = np.zeros(max(count, 0), dtype=np.uint64)
    octets = np.frombuffer(data, dtype=np.uint8)
    for start in range(8 if count > 0 else 0):
        values = values << np.uint64(8) | octets[start : start + count]
    return values


def _any_of(found: UInt64, known: UInt64) -> bool:
    """Whether a number is among the known ones, which are sorted."""
    places = np.searchsorted(known, found)
    return bool((known[np.minimum(places, known.size - 1)] == found).any())


class Canary:
    """Knows secrets by name, each an array of 0 and 1, or of 0 to 2, and finds them in data."""

    def __init__(self, secrets: Mapping[str, npt.ArrayLike]) -> None:
        self._known: dict[int, dict[str, UInt64]] = {2: {}, 3: {}}
        for name, values in secrets.items():
            symbols = np.asarray(values, dtype=np.uint8)
            base = 2 if symbols.max(initial=0) <= 1 else 3
            found = np.unique(windows(symbols, base))
            if not found.size:
                raise ValueError(f"secret {name!r} is too short or too regular to be recognised")
            self._known[base][name] = found

    def find(self, data: bytes) -> set[tuple[str, str]]:
        """(secret, encoding) of everything found in `data`."""
        hits: set[tuple[str, str]] = set()
        for encoding, base, found in self._encodings(data):
            for name, known in self._known[base].items():
                if _any_of(found, known):
                    hits.add((name, encoding))
        if data.startswith(b"\x89HDF"):
            hits |= self._find_in_hdf5(data)
        return hits

    def find_in_folder(self, folder: Path, private: frozenset[str] = frozenset()) -> dict[str, list[str]]:
        """Hits in all files below a folder, but those with a private name: path -> what was found."""
        hits = {}
        for path in sorted(folder.rglob("*")):
            if path.is_file() and path.name not in private:
                found = self.find(path.read_bytes())
                if found:
                    hits[str(path.relative_to(folder))] = sorted(f"{name} ({how})" for name, how in found)
        return hits

    def _encodings(self, data: bytes) -> Iterator[tuple[str, int, UInt64]]:
        yield "packed", 2, _byte_windows(data)
        yield "packed, bits reversed", 2, _byte_windows(data.translate(_REVERSED))
        yield "packed, bytes reversed", 2, _byte_windows(data[::-1])
        for size in (1, 2, 4, 8):
            for offset in range(min(size, len(data))):
                words = np.frombuffer(
                    data, dtype=f"<u{size}", count=(len(data) - offset) // size, offset=offset
                )
                yield from _symbol_runs(f"words of {size} bytes", words)
        for match in _DIGITS.finditer(data):
            digits = np.frombuffer(re.sub(rb"\D", b"", match[0]), dtype=np.uint8) - ord("0")
            yield from _symbol_runs("digits", digits)
        for match in _HEX.finditer(data):
            for offset in (0, 1):
                text = match[0][offset:]
                yield from _decoded("hexadecimal", binascii.unhexlify(text[: len(text) // 2 * 2]))
        for match in _BASE64.finditer(data):
            standard = match[0].translate(bytes.maketrans(b"-_", b"+/"))
            for offset in range(4):
                text = standard[offset:]
                yield from _decoded("base64", base64.b64decode(text[: len(text) // 4 * 4]))
        for match in _BYTE_LIST.finditer(data):
            numbers = [int(number) for number in re.findall(rb"\d+", match[0])]
            octets = bytes(number for number in numbers if number <= 255)
            yield "list of bytes", 2, _byte_windows(octets)
        for match in _DECIMAL.finditer(data):
            number = int(match[0][:MAX_DECIMAL_DIGITS])
            bits = np.array([int(bit) for bit in f"{number:064b}"], dtype=np.uint8)
            yield "decimal", 2, windows(bits, 2)
        if b"\\x" in data:
            plain = _ESCAPE.sub(lambda match: bytes([int(match[1], 16)]), data)
            yield from _decoded("escaped", plain)

    def _find_in_hdf5(self, data: bytes) -> set[tuple[str, str]]:
        hits: set[tuple[str, str]] = set()

        def visit(_: str, item: h5py.Dataset | h5py.Group) -> None:
            values = [np.asarray(value) for value in item.attrs.values()]
            if isinstance(item, h5py.Dataset):
                values.append(np.asarray(item[()]))
            for value in values:
                if value.dtype.kind in "biuf":
                    for _, base, found in _symbol_runs("", value.ravel()):
                        for name, known in self._known[base].items():
                            if _any_of(found, known):
                                hits.add((name, "HDF5 dataset"))
                # Compressed datasets are plain only here.
                hits.update(self.find(value.tobytes()))

        with h5py.File(io.BytesIO(data), "r") as file:
            visit("", file)
            file.visititems(visit)
        return hits


def _decoded(encoding: str, data: bytes) -> Iterator[tuple[str, int, UInt64]]:
    yield encoding, 2, _byte_windows(data)
    yield from _symbol_runs(encoding, np.frombuffer(data, dtype=np.uint8))


def _symbol_runs(encoding: str, values: npt.NDArray[np.generic]) -> Iterator[tuple[str, int, UInt64]]:
    """Windows of all long runs of 0 and 1, and of 0 to 2, in an array."""
    for base, length in WINDOW.items():
        inside = np.concatenate([[False], (values >= 0) & (values < base), [False]])
        edges = np.flatnonzero(np.diff(inside.astype(np.int8)))
        for start, end in zip(edges[::2], edges[1::2], strict=True):
            if end - start >= length:
                run = values[start:end]
                if np.array_equal(run, run.astype(np.uint8)):
                    yield encoding, base, windows(run.astype(np.uint8), base)
