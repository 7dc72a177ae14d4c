"""Configuration files: what is read, and what a mistake in one is called."""

from __future__ import annotations

from pathlib import Path

import pytest

from diqkd_postproc.delivery.configuration import host_and_port, load_configuration
from diqkd_postproc.delivery.trial import _configuration
from diqkd_postproc.protocol.errors import ParameterError

TEXT = _configuration(0, "../alice/keys.sqlite", ("kme-a", "kme-b"), ("sae-a", "sae-b"), (8443, 8444))


def test_paths_are_relative_to_the_file(tmp_path: Path) -> None:
    (tmp_path / "delivery.toml").write_text(TEXT)
    configuration = load_configuration(tmp_path / "delivery.toml")
    assert configuration.kme.key_store == tmp_path / "../alice/keys.sqlite"
    assert configuration.kme.passphrase_file is None
    assert configuration.api.limits().key_size == 256
    assert configuration.may_share("sae-a", "sae-b") and configuration.may_share("sae-b", "sae-a")
    assert not configuration.may_share("sae-a", "sae-a") and not configuration.may_share("sae-a", "x")
    assert host_and_port("[::1]:8443") == ("::1", 8443)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('role = "alice"', 'role = "eve"', "kme.role: Input should be 'alice' or 'bob'"),
        ("127.0.0.1:8443", "127.0.0.1:99999", "api.listen: an address is HOST:PORT"),
        ("[api]", "[api]\nkey_sizes = 8", "api.key_sizes: Extra inputs are not permitted"),
        ("[api]", "[api]\nkey_size = 12", "api.key_size: Input should be a multiple of 8"),
        ("[api]", "[api]\nkey_size = 8192", "api: min_key_size <= key_size <= max_key_size does not hold"),
        ("[api]", '[link]\npeer = "kme-b"\n[api]', "remove it, and write peer = KME ID in [kme]"),
        ('peer = "kme-b"', 'peer = "kme-a"', "kme.id and kme.peer are the same"),
        ('id = "sae-b"', 'id = "sae-a"', "two SAEs have the same id"),
        ('id = "sae-b"', 'id = "kme-b"', "an SAE has the name of a KME"),
        ('id = "sae-b"', 'id = "sae b"', "sae.1.id: a name has 1 to 64 letters"),
        ('id = "sae-b"\nkme = "kme-b"', 'id = "sae-b"\nkme = "kme-c"', "SAE sae-b is at kme-c"),
        ('id = "sae-b"', 'id = "sae-b"\npeers = ["x"]', "names unknown peers: x"),
        ("[kme]", '[kme]\npassphrase_file = "p"\nkey_file = "k"', "passphrase_file or key_file, not both"),
        ("[kme]", "[kme", "is not TOML"),
    ],
)
def test_mistakes_are_named(tmp_path: Path, old: str, new: str, message: str) -> None:
    assert old in TEXT
    path = tmp_path / "delivery.toml"
    path.write_text(TEXT.replace(old, new, 1))
    with pytest.raises(ParameterError) as caught:
        load_configuration(path)
    assert message in str(caught.value) and str(path) in str(caught.value)
