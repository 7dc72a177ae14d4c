"""The scanner finds a planted secret in every encoding, and nothing in data that has none."""

import base64
import io
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from campaigns.faults.canary import Canary

rng = np.random.default_rng(20)
BITS = rng.integers(0, 2, 500, dtype=np.uint8)
SYMBOLS = rng.integers(0, 3, 300, dtype=np.uint8)
# 150 bits from the middle: a leak need not be whole, nor begin at a byte.
PART = BITS[101:251]
NOISE = rng.bytes(3000)
TEXT = b"INFO:key_generation:run complete: 300 rounds in 0.21 s, 1 0 0 1, 0xdeadbeef\n" * 20


def hdf5(values: np.ndarray, **options: object) -> bytes:
    image = io.BytesIO()
    with h5py.File(image, "w") as file:
        file.create_group("datasets").create_dataset("a", data=values, **options)
    return image.getvalue()


ENCODERS: dict[str, Callable[[], bytes]] = {
    "packed": lambda: np.packbits(PART).tobytes(),
    "packed little": lambda: np.packbits(PART, bitorder="little").tobytes(),
    "bytes": lambda: PART.tobytes(),
    "int32": lambda: PART.astype("<i4").tobytes(),
    "int64": lambda: PART.astype("<i8").tobytes(),
    "digits": lambda: "".join(map(str, PART)).encode(),
    "list": lambda: str(PART.tolist()).encode(),
    "array": lambda: np.array2string(PART, threshold=1000).encode(),
    "hexadecimal": lambda: np.packbits(PART).tobytes().hex().encode(),
    "upper case": lambda: b"0x" + np.packbits(PART).tobytes().hex().upper().encode(),
    "unpacked hexadecimal": lambda: PART.tobytes().hex().encode(),
    "base64": lambda: base64.b64encode(np.packbits(PART).tobytes()),
    "base64 for addresses": lambda: b"key=" + base64.urlsafe_b64encode(np.packbits(PART).tobytes()),
    "list of bytes": lambda: str(list(np.packbits(PART).tobytes())).encode(),
    "bytes in a message": lambda: repr(np.packbits(PART).tobytes()).encode(),
    "integer": lambda: str(int("1" + "".join(map(str, PART)), 2)).encode(),
    "integer in hexadecimal": lambda: hex(int("".join(map(str, PART)), 2)).encode(),
    "little-endian integer": lambda: int("".join(map(str, PART)), 2).to_bytes(19, "little"),
    "compressed dataset": lambda: hdf5(PART, compression="gzip", chunks=(50,)),
    "dataset of floats": lambda: hdf5(PART.astype(float), compression="gzip"),
    "dataset of booleans": lambda: hdf5(PART.astype(bool)),
}


@pytest.mark.parametrize("encoding", ENCODERS)
def test_a_leak_is_found(encoding: str) -> None:
    leak = ENCODERS[encoding]()
    data = leak if leak.startswith(b"\x89HDF") else NOISE + TEXT + b" " + leak + b"\n" + TEXT
    assert {name for name, _ in Canary({"key": BITS, "other": 1 - BITS}).find(data)} == {"key"}


@pytest.mark.parametrize("encode", [lambda part: part.tobytes(), lambda part: str(part.tolist()).encode()])
def test_settings_with_three_values_are_found(encode: Callable[[np.ndarray], bytes]) -> None:
    assert Canary({"y": SYMBOLS}).find(TEXT + encode(SYMBOLS[31:100]))


def test_nothing_is_found_where_nothing_is() -> None:
    """False alarms have a probability below 1e-9 here."""
    canary = Canary({"key": BITS, "y": SYMBOLS})
    zeros, ones = np.zeros(500, np.uint8), np.ones(500, np.uint8)
    for data in (b"", b"\x01", NOISE, TEXT, zeros.tobytes(), str(ones.tolist()).encode(), hdf5(zeros)):
        assert not canary.find(data)


def test_folders_are_searched_but_for_private_files(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "record.h5").write_bytes(np.packbits(BITS).tobytes())
    (tmp_path / "a" / "log").write_bytes(TEXT + np.packbits(BITS).tobytes().hex().encode())
    canary = Canary({"outcomes": BITS})
    assert set(canary.find_in_folder(tmp_path)) == {str(Path("a") / "log"), str(Path("a") / "record.h5")}
    hits = canary.find_in_folder(tmp_path, frozenset({"record.h5"}))
    assert hits == {str(Path("a") / "log"): ["outcomes (hexadecimal)"]}


def test_a_secret_without_information_is_refused() -> None:
    with pytest.raises(ValueError, match="too regular"):
        Canary({"zeros": np.zeros(1000)})
