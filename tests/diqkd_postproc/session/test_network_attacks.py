"""Eve on the line, and Eve in Bob's place, as `diqkd demo --attack` has them."""

from pathlib import Path

import numpy as np
import pytest

from diqkd_postproc.key_store import KeyStore
from diqkd_postproc.protocol.errors import AuthenticationError
from diqkd_postproc.session import SessionResult
from sim_devices.adversaries.man_in_the_middle import ManInTheMiddle, byte_of_setting
from tests.support.joined_parties import correlated_records, small_parameters
from tests.support.sessions_over_tcp import both, make_stores


@pytest.mark.parametrize("index", [0, 1000, 1992])
def test_a_changed_setting_is_noticed_by_both(folder: Path, index: int) -> None:
    parameters = small_parameters()
    records, stores = correlated_records(parameters), make_stores(folder, parameters)
    place = byte_of_setting(parameters, stores[0].key_id, records[0].run_id, index)
    eve: list[ManInTheMiddle] = []

    def through(port: int) -> int:
        eve.append(ManInTheMiddle(("127.0.0.1", port), place))
        return eve[0].address[1]

    try:
        results = both(records, stores, through=through)
    finally:
        eve[0].close()
    assert eve[0].happened
    for result in results:
        assert isinstance(result, AuthenticationError) and "a message was changed" in str(result)
    # The byte that was changed is the one that holds that round's setting.
    packed = np.packbits(records[0].setting)
    assert eve[0].recorded["alice"][place] == packed[index // 8]
    for store in stores:
        assert store.balance_sheet().generated == 0


def test_bob_without_the_initial_key_is_not_bob(folder: Path) -> None:
    """With his record and the public name of the key: secrets are what she lacks."""
    parameters = small_parameters()
    records, stores = correlated_records(parameters), make_stores(folder, parameters)
    num_bytes = (stores[1].k0_bits + 7) // 8
    forged = KeyStore.import_initial_key(
        folder / "eve" / "keys.db", parameters, bytes(num_bytes), stores[1].key_id
    )
    alice, _ = both(records, (stores[0], forged))
    assert isinstance(alice, AuthenticationError) and not isinstance(alice, SessionResult)
    assert "tag of the round types" in str(alice)
