"""Another implementation's client (etsi-qkd-014-client, LIP6) against two of our services."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from tests.support.delivery_trial import ALICE_SAE, BOB_SAE, Trial, certificate_files, make_stores

peer_client = pytest.importorskip(
    "etsi_qkd_014_client", reason="needs the package etsi-qkd-014-client, of the extra test"
)


def test_the_three_methods_as_another_implementation_reads_them(certificates: Path, folder: Path) -> None:
    make_stores(folder, 20_000)

    def client(port: int, sae: str) -> Any:
        files = [str(path) for path in certificate_files(certificates, sae)]
        return peer_client.QKD014Client(f"localhost:{port}", *files)

    def converse(alice_port: int, bob_port: int) -> None:
        alice, bob = client(alice_port, ALICE_SAE), client(bob_port, BOB_SAE)
        code, status = alice.get_status(BOB_SAE)
        assert code == 200 and (status.key_size, status.max_sae_id_count) == (256, 0)
        assert (status.source_kme_id, status.slave_sae_id) == ("kme-alice", BOB_SAE)
        for asked, count in (
            ({}, 1),
            ({"number": 3, "size": 128}, 3),
            ({"extension_optional": [{"abc_max_age": 30000}]}, 1),
        ):
            code, given = alice.get_key(BOB_SAE, **asked)
            assert code == 200 and len(given.keys) == count
            ids = [key.key_id for key in given.keys]
            code, fetched = bob.get_key_with_key_IDs(ALICE_SAE, ids)
            assert code == 200
            assert [(k.key_id, k.key) for k in fetched.keys] == [(k.key_id, k.key) for k in given.keys]
            code, error = bob.get_key_with_key_IDs(ALICE_SAE, ids)
            assert code == 400 and error.message == "one or more keys specified are not found on KME"
        code, error = alice.get_key(BOB_SAE, extension_mandatory=[{"abc_route_type": "direct"}])
        assert code == 400 and error.message == "not all extension_mandatory parameters are supported"

    async def scenario() -> None:
        async with Trial(certificates, folder) as trial:
            ports = [trial.services[role].api_address[1] for role in ("alice", "bob")]
            await asyncio.to_thread(converse, *ports)

    asyncio.run(scenario())
