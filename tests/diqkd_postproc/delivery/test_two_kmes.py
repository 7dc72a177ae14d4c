"""Two services with their stores and connection, over loopback: both sides get the same keys, each once."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from diqkd_postproc.delivery.service import serve_until_stopped
from diqkd_postproc.protocol.errors import StorageError
from tests.support.delivery_trial import (
    ALICE_SAE,
    ALICE_SAE_2,
    BOB_SAE,
    BOB_SAE_2,
    Trial,
    configuration_of,
    key_bytes,
    make_stores,
)

NOT_FOUND = {"message": "one or more keys specified are not found on KME"}


def path_to(sae: str, method: str) -> str:
    return f"/api/v1/keys/{sae}/{method}"


def with_ids(keys: Any) -> dict[str, Any]:
    return {"key_IDs": [{"key_ID": key_id} for key_id in keys]}


def is_in(part: bytes, whole: bytes) -> bool:
    """Whether a key is a range of bits of the generated one, wherever it starts."""
    bits, inside = np.unpackbits(np.frombuffer(whole, np.uint8)), np.unpackbits(np.frombuffer(part, np.uint8))
    return inside.tobytes() in bits.tobytes()


def test_master_and_slave_get_the_same_key_once(certificates: Path, folder: Path) -> None:
    generated = make_stores(folder, 20_000)

    async def scenario() -> None:
        async with Trial(certificates, folder) as trial:
            for master, slave in ((ALICE_SAE, BOB_SAE), (BOB_SAE_2, ALICE_SAE_2)):
                asking, fetching = await trial.client(master), await trial.client(slave)
                _, before = await asking.call("GET", path_to(slave, "status"))
                code, answer = await asking.call(
                    "POST", path_to(slave, "enc_keys"), {"number": 3, "size": 128}
                )
                assert code == 200
                keys = key_bytes(answer)
                assert len(keys) == 3 and {len(key) for key in keys.values()} == {16}
                assert all(is_in(key, generated) for key in keys.values())
                first, *rest = keys
                code, answer = await fetching.call("GET", path_to(master, f"dec_keys?key_ID={first}"))
                assert code == 200 and key_bytes(answer) == {first: keys[first]}
                code, answer = await fetching.call(
                    "POST", path_to(master, "dec_keys"), with_ids([*rest, first])
                )
                assert (code, answer) == (400, NOT_FOUND), "one of them has left: none is given"
                code, answer = await fetching.call("POST", path_to(master, "dec_keys"), with_ids(rest))
                assert code == 200 and key_bytes(answer) == {key_id: keys[key_id] for key_id in rest}
                for key_id in keys:
                    code, answer = await fetching.call("GET", path_to(master, f"dec_keys?key_ID={key_id}"))
                    assert (code, answer) == (400, NOT_FOUND)
                _, after = await asking.call("GET", path_to(slave, "status"))
                assert after["stored_key_count"] < before["stored_key_count"]
                assert after["max_key_count"] == (20_000 - 1280) // 2 // (64 + 256)
                await asking.close()
                await fetching.close()

    asyncio.run(scenario())


def test_only_the_rightful_slave_gets_a_key(certificates: Path, folder: Path) -> None:
    make_stores(folder, 20_000)

    async def scenario() -> None:
        async with Trial(certificates, folder) as trial:
            master = await trial.client(ALICE_SAE)
            _, answer = await master.call("GET", path_to(BOB_SAE, "enc_keys"))
            (key_id,) = keys = key_bytes(answer)
            thief, slave = await trial.client(BOB_SAE_2), await trial.client(BOB_SAE)
            assert (await thief.call("GET", path_to(ALICE_SAE, f"dec_keys?key_ID={key_id}")))[0] == 401
            assert (await slave.call("GET", path_to(ALICE_SAE_2, f"dec_keys?key_ID={key_id}")))[0] == 401
            assert (await master.call("GET", path_to(BOB_SAE, f"dec_keys?key_ID={key_id}")))[0] == 400
            code, answer = await slave.call("GET", path_to(ALICE_SAE, f"dec_keys?key_ID={key_id}"))
            assert code == 200 and key_bytes(answer) == keys
            for client in (master, thief, slave):
                await client.close()

    asyncio.run(scenario())


def test_many_clients_on_both_sides_never_share_a_bit(certificates: Path, folder: Path) -> None:
    num_bits = 40_000
    generated = make_stores(folder, num_bits)

    async def one(trial: Trial, master: str, slave: str, count: int) -> dict[str, bytes]:
        asking, fetching = await trial.client(master), await trial.client(slave)
        got = {}
        for _ in range(count):
            code, answer = await asking.call("POST", path_to(slave, "enc_keys"), {"number": 2, "size": 256})
            assert code in (200, 503), answer
            if code == 503:
                assert answer["message"] == "not enough key is left"
                continue
            keys = key_bytes(answer)
            code, answer = await fetching.call("POST", path_to(master, "dec_keys"), with_ids(keys))
            assert code == 200 and key_bytes(answer) == keys
            got |= keys
        await asking.close()
        await fetching.close()
        return got

    async def scenario() -> None:
        async with Trial(certificates, folder) as trial:
            pairs = [(a, b) for a in (ALICE_SAE, ALICE_SAE_2) for b in (BOB_SAE, BOB_SAE_2)]
            both_ways = pairs + [(b, a) for a, b in pairs]
            results = await asyncio.gather(*(one(trial, m, s, 12) for m, s in both_ways))
            keys = [key for result in results for key in result.values()]
            assert len(keys) > 100, "most of the pool was used, until both halves were used up"
            assert all(is_in(key, generated) for key in keys)
            windows = {key[at : at + 8] for key in keys for at in range(25)}
            assert len(windows) == 25 * len(keys), "no 64 bits occur twice"

    asyncio.run(scenario())


def test_a_key_waits_while_the_other_kme_is_down(certificates: Path, folder: Path) -> None:
    make_stores(folder, 20_000)

    async def scenario() -> None:
        async with Trial(certificates, folder) as trial:
            await trial.stop("bob")
            master = await trial.client(ALICE_SAE)
            code, answer = await master.call("GET", path_to(BOB_SAE, "enc_keys"))
            assert code == 200
            (waiting,) = keys = key_bytes(answer)
            await trial.stop("alice")
            await trial.start("bob")
            slave = await trial.client(BOB_SAE)
            code, answer = await slave.call("GET", path_to(ALICE_SAE, f"dec_keys?key_ID={waiting}"))
            assert code == 200 and key_bytes(answer) == keys
            for client in (master, slave):
                await client.close()

    asyncio.run(scenario())


def test_the_key_runs_out(certificates: Path, folder: Path) -> None:
    make_stores(folder, 6284)

    async def scenario() -> None:
        async with Trial(certificates, folder) as trial:
            master = await trial.client(ALICE_SAE)
            given = 0
            while (outcome := await master.call("GET", path_to(BOB_SAE, "enc_keys")))[0] == 200:
                given += 1
            assert outcome == (503, {"message": "not enough key is left"})
            assert given == (6284 - 1280) // 2 // (64 + 256), "half of what is not set aside, tags included"
            code, answer = await master.call("GET", path_to(BOB_SAE, "status"))
            assert code == 200 and answer["stored_key_count"] == 0
            await master.close()

    asyncio.run(scenario())


def test_the_slaves_kme_decides_by_its_own_configuration(certificates: Path, folder: Path) -> None:
    make_stores(folder, 10_000)

    async def scenario() -> None:
        trial = Trial(certificates, folder)
        await trial.start("alice")
        trial.options = {"sae": {BOB_SAE: {"peers": [ALICE_SAE_2]}}}
        await trial.start("bob")
        master, slave = await trial.client(ALICE_SAE), await trial.client(BOB_SAE)
        _, answer = await master.call("GET", path_to(BOB_SAE, "enc_keys"))
        (key_id,) = key_bytes(answer)
        code, _ = await slave.call("GET", path_to(ALICE_SAE, f"dec_keys?key_ID={key_id}"))
        assert code == 400, "not allowed to share keys"
        code, _ = await slave.call("GET", path_to(ALICE_SAE_2, f"dec_keys?key_ID={key_id}"))
        assert code == 401, "issued for another master"
        for client in (master, slave):
            await client.close()
        for role in ("alice", "bob"):
            await trial.stop(role)

    asyncio.run(scenario())


def test_an_address_in_use_is_named(certificates: Path, folder: Path) -> None:
    make_stores(folder, 2000)

    async def scenario() -> None:
        trial = Trial(certificates, folder)
        service = await trial.start("alice")
        trial.options = {"api": {"listen": f"127.0.0.1:{service.api_address[1]}"}}
        with pytest.raises(StorageError, match=r"cannot listen at 127.0.0.1:\d+: .*choose another address"):
            await trial.start("bob")
        await trial.stop("alice")

    asyncio.run(scenario())


@pytest.mark.skipif(os.name != "posix", reason="Windows cannot send SIGTERM to a process")
def test_sigterm_stops_a_service_with_a_line(
    certificates: Path, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    make_stores(folder, 2000)
    configuration = configuration_of("bob", certificates, folder)
    with caplog.at_level(logging.INFO):
        asyncio.run(serve_until_stopped(configuration, lambda _: os.kill(os.getpid(), signal.SIGTERM)))
    lines = [record.getMessage() for record in caplog.records if record.name.startswith("diqkd")]
    assert lines == [
        "kme-bob issues from 744 free bits of bob's half",
        "kme-bob is stopping: requests that are being served end first",
        "kme-bob has stopped",
    ]
