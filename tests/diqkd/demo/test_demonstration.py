"""`diqkd demo` on bad days: a parent that is killed, a folder that holds half of what it should."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from diqkd.demo.parties import prepare_run
from diqkd.demo.programs import ChildError, Programs
from diqkd_postproc.protocol.errors import StorageError
from sim_devices.apparatus.client import LaboratoryClient, LaboratoryError
from tests.support.example_parameters import small_parameters

START_AND_DIE = """
import os
from diqkd.demo.parties import laboratory
from diqkd.demo.programs import Programs
with Programs() as programs, laboratory(programs, [], dict(os.environ)) as address:
    print(address, flush=True)
    input()
    os._exit(9)  # as after kill -9: no handler, no finally
"""
# A node as far as the laboratory sees one.
NODE = """
import sys
from diqkd_postproc.protocol.errors import DiqkdError
from sim_devices.apparatus.client import LaboratoryClient
client = LaboratoryClient("bob", sys.argv[1])
print("connected", flush=True)
try:
    while True:
        client.fetch(0, 0.1)
except DiqkdError as error:
    sys.exit(f"{error.exit_code}: {error}")
"""


def test_the_laboratory_ends_with_its_parent_and_the_nodes_with_the_laboratory() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", START_AND_DIE], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdin is not None and parent.stdout is not None
        address = parent.stdout.readline().strip()
        LaboratoryClient("alice", address).close(0)
        with subprocess.Popen(
            [sys.executable, "-c", NODE, address], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as node:
            assert node.stdout is not None
            assert node.stdout.readline() == "connected\n"
            parent.stdin.write("\n")
            parent.stdin.flush()
            assert parent.wait(300.0) == 9
            _, message = node.communicate(timeout=300)
        assert node.returncode == 1
        assert message.startswith("1: ") and "went away" in message
    with pytest.raises(LaboratoryError, match="no simulated laboratory"):
        LaboratoryClient("alice", address)


def test_half_a_pair_of_key_stores_is_named_before_the_run(tmp_path: Path) -> None:
    directory = tmp_path / "run"
    parameters = small_parameters(key_bits=100)
    prepare_run(directory, parameters, seed=1)
    prepare_run(directory, parameters, seed=1)  # both are there: it goes on
    (directory / "bob" / "keys.sqlite").unlink()
    with pytest.raises(StorageError, match="half of a pair") as caught:
        prepare_run(directory, parameters, seed=1)
    assert str(directory / "bob" / "keys.sqlite") in str(caught.value)
    (directory / "alice" / "keys.sqlite").unlink()
    prepare_run(directory, parameters, seed=1)
    assert (directory / "bob" / "keys.sqlite").exists()


def test_an_absent_program_is_no_verdict() -> None:
    """The exit code of a part is that of the demonstration; what a signal ended counts as a failure."""
    with Programs() as programs:
        child = programs.start(
            "a part", [sys.executable, "-c", "import sys; sys.exit('why')"], dict(os.environ)
        )
        child.follow()
        with pytest.raises(ChildError, match="a part: why") as caught:
            child.result()
    assert caught.value.exit_code == 1
