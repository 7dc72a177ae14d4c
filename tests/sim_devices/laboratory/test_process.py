"""The laboratory as a process of its own, and its command line."""

import threading

import pytest

from sim_devices.apparatus.client import LaboratoryClient
from sim_devices.laboratory import LaboratoryConfiguration, start_laboratory
from sim_devices.laboratory.__main__ import argument_parser, main


def test_process_serves_both_nodes_and_ends_when_told() -> None:
    process, address = start_laboratory(LaboratoryConfiguration(seed=1, chunk=5))
    try:
        alice, bob = LaboratoryClient("alice", address), LaboratoryClient("bob", address)
        asking = threading.Thread(target=alice.fetch, args=(0, 200.0), daemon=True)
        asking.start()
        entries = bob.fetch(0, 25.0)
        assert [entry[0] for entry in entries] == [4, 3, 2, 1, 0]
        bob.close(0)
        asking.join(300.0)
        alice.close(0)
    finally:
        process.terminate()
        process.join(300.0)
    assert not process.is_alive()


def test_port_in_use_is_named() -> None:
    process, address = start_laboratory()
    try:
        with pytest.raises(RuntimeError, match=address):
            start_laboratory(port=int(address.rpartition(":")[2]))
    finally:
        process.terminate()
        process.join(300.0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--fault", "7:earthquake"], "earthquake"),
        (["--chunk", "0"], "chunk is 0"),
        (["--visibility", "1.5", "--link", "lossy"], "visibility 1.5"),
        (["--lock-loss", "1"], "lock_loss_probability"),
    ],
)
def test_bad_arguments_are_usage_errors(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        main([*arguments, "--port", "0"])
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err


def test_help_shows_defaults() -> None:
    assert "(default: measured)" in argument_parser().format_help()
