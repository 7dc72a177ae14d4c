"""Trial of key delivery on one machine: certificates, configurations, profiles of two SAEs.

The names and layout:

    delivery/certificates/   authority.crt, and a certificate and a key for each KME and SAE
    delivery/alice.toml      configuration of `diqkd serve` at Alice's node; bob.toml at Bob's
    delivery/sae-alice.toml  profile of an application at Alice's node for `diqkd key`; sae-bob.toml at Bob's
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path

from diqkd_postproc.delivery.certificates import TrialAuthority
from diqkd_postproc.files import make_private_directory, replace_atomically
from diqkd_postproc.protocol.errors import StorageError
from diqkd_postproc.protocol.roles import ROLES

HOSTS = ("localhost", "127.0.0.1", "::1")


def write_certificates(
    directory: Path, services: Sequence[str], clients: Sequence[str], hosts: Sequence[str]
) -> None:
    """Make an authority, whose own key is forgotten at once, and certificates signed by it.

    services, clients: IDs of KMEs and SAEs, which name the files. hosts: names and addresses of the
    services. Raises StorageError where the folder is not private or holds certificates already.
    """
    make_private_directory(directory)
    if _has_certificates(directory):
        raise StorageError(f"{directory} holds certificates already; choose another folder")
    authority = TrialAuthority("diqkd trial authority")
    for name in services:
        authority.issue(directory, name, is_service=True, hosts=hosts)
    for name in clients:
        authority.issue(directory, name, is_service=False)
    authority.write(directory / "authority.crt")


def _has_certificates(directory: Path) -> bool:
    return os.path.lexists(directory / "authority.crt")


def write_trial(run: Path, stores: Sequence[Path], api_ports: Sequence[int]) -> Path:
    """Write a trial for the key stores of Alice and Bob into RUN/delivery; returns that folder.

    Certificates of an earlier trial stay, as services may be running with them; the rest is written anew.
    """
    folder = make_private_directory(run / "delivery")
    kmes = [f"kme-{role}" for role in ROLES]
    saes = [f"sae-{role}" for role in ROLES]
    if not _has_certificates(folder / "certificates"):
        write_certificates(folder / "certificates", kmes, saes, HOSTS)
    for place, role in enumerate(ROLES):
        store = os.path.relpath(stores[place], folder).replace(os.sep, "/")
        replace_atomically(
            folder / f"{role}.toml", _configuration(place, store, kmes, saes, api_ports).encode()
        )
        replace_atomically(folder / f"sae-{role}.toml", _profile(saes[place], api_ports[place]).encode())
    return folder


def _files(name: str) -> str:
    return (
        f"certificate = {json.dumps(f'certificates/{name}.crt')}\n"
        f"private_key = {json.dumps(f'certificates/{name}.key')}\n"
        'authority = "certificates/authority.crt"\n'
    )


def _profile(name: str, port: int) -> str:
    return f'service = "https://localhost:{port}"\n{_files(name)}'


def _configuration(
    place: int,
    store: str,
    kmes: Sequence[str],
    saes: Sequence[str],
    api_ports: Sequence[int],
) -> str:
    me, peer = kmes[place], kmes[1 - place]
    tables = [
        f'[kme]\nid = "{me}"\npeer = "{peer}"\nrole = "{ROLES[place]}"\nkey_store = {json.dumps(store)}\n'
        f'audit_log = "audit-{ROLES[place]}.jsonl"\n{_files(me)}',
        f'[api]\nlisten = "127.0.0.1:{api_ports[place]}"\n',
        *(f'[[sae]]\nid = "{sae}"\nkme = "{kme}"\n' for sae, kme in zip(saes, kmes, strict=True)),
    ]
    return "\n".join(tables)
