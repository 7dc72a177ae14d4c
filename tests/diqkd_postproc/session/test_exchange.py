"""Sessions by files that are carried by hand: two parties alternate until both have the key."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from campaigns.session_attacks import frames_of, resealed
from diqkd import cli
from diqkd.commands import postprocess
from diqkd_postproc.key_store import KeyStore
from diqkd_postproc.protocol.errors import (
    AuthenticationError,
    DiqkdError,
    InsufficientKeyError,
    ParameterError,
    ProtocolAbort,
    RemoteProtocolError,
    StorageError,
)
from diqkd_postproc.protocol.parameters import ProtocolParameters
from diqkd_postproc.protocol.roles import ROLES, Role, other
from diqkd_postproc.records.sealed_record import RoundRecord
from diqkd_postproc.session import ExchangePending, PeerUnavailable, SessionResult, run_exchange
from diqkd_postproc.session.continuity import OldCopyError
from diqkd_postproc.session.record_claim import claim_path, claim_record
from tests.support.joined_parties import correlated_records, small_parameters
from tests.support.sessions_over_tcp import both, make_stores

OTHER: dict[Role, Role] = {role: other(role) for role in ROLES}


class Desk:
    """Two parties with their files and their sticks; what each run gave."""

    def __init__(self, folder: Path, parameters: ProtocolParameters | None = None, **link: float) -> None:
        self.folder = folder
        self.parameters = parameters or small_parameters()
        alice, bob = correlated_records(self.parameters, **link)
        self.records: dict[Role, RoundRecord] = {"alice": alice, "bob": bob}
        stores = make_stores(folder, self.parameters)
        self.stores: dict[Role, KeyStore] = dict(zip(OTHER, stores, strict=True))

    def stick(self, role: Role) -> Path:
        return self.folder / f"stick of {role}"

    def file(self, at: Role, by: Role) -> Path:
        return self.stick(at) / f"from_{by}.diqkd"

    def run(self, role: Role) -> SessionResult | DiqkdError:
        try:
            return run_exchange(
                role, self.records[role], self.stores[role], self.parameters, self.stick(role)
            )
        except DiqkdError as error:
            return error

    def carry(self, role: Role) -> None:
        """The file of `role` to the other side."""
        self.stick(OTHER[role]).mkdir(exist_ok=True)
        shutil.copy(self.file(role, role), self.file(OTHER[role], role))

    def go(self, role: Role) -> SessionResult | DiqkdError:
        result = self.run(role)
        self.carry(role)
        return result

    def change(self, at: Role, change: Callable[[bytes], bytes]) -> None:
        path = self.file(at, OTHER[at])
        path.write_bytes(change(path.read_bytes()))

    def backup(self, role: Role, name: str) -> None:
        self.stores[role].close()
        shutil.copytree(self.folder / role, self.folder / name, copy_function=shutil.copy2)
        self.stores[role] = KeyStore.open(self.folder / role / "keys.db")

    def restore(self, role: Role, name: str, pattern: str = "*") -> None:
        """Put old files back, on a machine that has never seen newer ones."""
        self.stores[role].close()
        for witness in Path(os.environ["DIQKD_STATE_DIR"]).iterdir():
            witness.unlink()
        for path in (self.folder / role).glob(pattern):
            path.unlink()
        for path in (self.folder / name).glob(pattern):
            shutil.copy2(path, self.folder / role / path.name)
        self.stores[role] = KeyStore.open(self.folder / role / "keys.db")


def test_both_have_the_key_after_three_runs_each(folder: Path) -> None:
    desk = Desk(folder)
    for role in ("alice", "bob", "alice"):
        pending = desk.go(role)
        assert isinstance(pending, ExchangePending) and pending.exit_code == 7
        assert pending.carry == desk.file(role, role) and pending.carry.exists()
        assert f"Carry {pending.carry} to" in str(pending) and pending.wanted.name in str(pending)
    bob = desk.go("bob")
    assert isinstance(bob, SessionResult) and not bob.peer_confirmed and bob.num_losses is not None
    alice = desk.go("alice")
    assert isinstance(alice, SessionResult) and alice.peer_confirmed
    again = desk.go("bob")
    assert isinstance(again, SessionResult) and again.peer_confirmed
    assert desk.stores["alice"].has_same_key(desk.stores["bob"], alice.session_id)
    assert alice.transcript == bob.transcript == again.transcript and len(alice.transcript) == 6
    assert alice.transcript_digest == bob.transcript_digest
    assert [entry.sender for entry in alice.transcript] == ["bob", "alice", "alice", "alice", "alice", "bob"]


def test_a_shared_folder_serves_as_well(folder: Path) -> None:
    desk = Desk(folder)
    desk.stick = lambda role: folder / "shared"
    results = [desk.run(role) for role in ("alice", "bob") * 3]
    assert [isinstance(result, SessionResult) for result in results] == [False] * 3 + [True] * 3
    assert desk.stores["alice"].has_same_key(desk.stores["bob"])


def test_running_again_without_a_new_file_changes_nothing(folder: Path) -> None:
    desk = Desk(folder)
    for role in ("alice", "bob", "alice", "bob", "alice", "bob"):
        desk.run(role)
        written = desk.file(role, role).read_bytes()
        epoch = desk.stores[role].epoch
        for _ in range(2):
            desk.run(role)
            assert desk.file(role, role).read_bytes() == written
        assert desk.stores[role].epoch == epoch
        desk.carry(role)
    assert desk.stores["alice"].has_same_key(desk.stores["bob"])


def test_a_session_begun_by_hand_ends_over_the_network(folder: Path) -> None:
    desk = Desk(folder)
    for role in ("alice", "bob", "alice"):
        desk.go(role)
    records = (desk.records["alice"], desk.records["bob"])
    results = both(records, (desk.stores["alice"], desk.stores["bob"]))
    assert all(isinstance(result, SessionResult) and result.resumed for result in results)
    assert desk.stores["alice"].has_same_key(desk.stores["bob"])


def test_a_refusal_reaches_the_other_side(folder: Path) -> None:
    desk = Desk(folder, small_parameters(omega_threshold=0.9))
    for role in ("alice", "bob", "alice"):
        desk.go(role)
    for role in ("bob", "alice"):
        result = desk.go(role)
        assert isinstance(result, ProtocolAbort) and "Bell violation" in str(result)
    assert all(store.generated_bits == 0 for store in desk.stores.values())


def test_a_changed_tag_ends_the_session_on_both_sides(folder: Path) -> None:
    desk = Desk(folder)
    desk.go("alice")
    desk.go("bob")
    honest = desk.file("alice", "bob").read_bytes()
    desk.change("alice", lambda data: data[:-1] + bytes([data[-1] ^ 1]))
    damaged = desk.run("alice")
    assert isinstance(damaged, RemoteProtocolError) and "arrived damaged" in str(damaged)
    hello, tag = frames_of(honest)
    desk.change("alice", lambda _: hello + resealed(tag[:-9] + bytes([tag[-9] ^ 1]) + tag[-8:]))
    for _ in range(2):
        result = desk.go("alice")
        assert isinstance(result, AuthenticationError) and "round types" in str(result)
    left = desk.go("bob")
    assert isinstance(left, PeerUnavailable) and "tag wrong" in str(left)
    assert all(store.generated_bits == 0 for store in desk.stores.values())


def test_a_cut_file_is_read_as_far_as_it_goes(folder: Path) -> None:
    desk = Desk(folder)
    for role in ("alice", "bob", "alice"):
        desk.go(role)
    whole = desk.file("bob", "alice").read_bytes()
    for length in (0, 3, 25, 100, len(whole) // 2, len(whole) - 1):
        desk.change("bob", lambda _, length=length: whole[:length])
        result = desk.run("bob")
        assert isinstance(result, ExchangePending), result
        assert ("ends within a message" in str(result)) == (length > 0)
    desk.change("bob", lambda _: whole)
    assert isinstance(desk.go("bob"), SessionResult)
    desk.go("alice")
    assert desk.stores["alice"].has_same_key(desk.stores["bob"])


def test_an_older_file_than_one_already_read_is_noticed(folder: Path) -> None:
    desk = Desk(folder)
    desk.go("alice")
    first = desk.file("bob", "alice").read_bytes()
    for role in ("bob", "alice", "bob"):
        desk.go(role)
    desk.change("bob", lambda _: first)
    result = desk.run("bob")
    assert isinstance(result, OldCopyError) and "not its newest" in str(result)


def test_the_own_file_instead_of_the_peers_is_refused(folder: Path) -> None:
    desk = Desk(folder)
    desk.run("alice")
    shutil.copy(desk.file("alice", "alice"), desk.file("alice", "bob"))
    result = desk.run("alice")
    assert isinstance(result, ParameterError) and "both sides run as alice" in str(result)


def test_an_endless_file_is_not_read_to_its_end(folder: Path) -> None:
    desk = Desk(folder)
    desk.go("bob")
    with desk.file("alice", "bob").open("r+b") as file:
        file.truncate(1 << 40)  # sparse
    result = desk.run("alice")
    assert isinstance(result, RemoteProtocolError) and "whole session" in str(result)


@pytest.mark.skipif(os.name != "posix", reason="needs named pipes, symbolic links and modes")
def test_files_and_folders_that_cannot_be_used_are_named(folder: Path) -> None:
    desk = Desk(folder)
    desk.run("alice")
    peer = desk.file("alice", "bob")
    makers: list[tuple[Callable[[], None], str]] = [
        (lambda: os.mkfifo(peer), "not a regular file"),
        (lambda: peer.symlink_to(desk.file("alice", "alice")), "cannot read"),
        (lambda: peer.mkdir(), "not a regular file|cannot read"),
    ]
    for make, expected in makers:
        make()
        result = desk.run("alice")
        assert isinstance(result, StorageError) and str(peer) in str(result)
        assert re.search(expected, str(result))
        peer.rmdir() if peer.is_dir() else peer.unlink()
    desk.stick = lambda role: folder / "alice" / "keys.db"
    result = desk.run("alice")
    assert isinstance(result, StorageError) and "cannot use the folder" in str(result)


def test_a_file_that_cannot_be_written_loses_nothing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    desk = Desk(folder)
    desk.go("alice")

    def no_room(source: Path, target: Path) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "replace", no_room)
        result = desk.run("bob")
    assert isinstance(result, StorageError) and "No space left" in str(result)
    assert list(desk.stick("bob").iterdir()) == [desk.file("bob", "alice")]
    for role in ("bob", "alice", "bob", "alice"):
        desk.go(role)
    assert desk.stores["alice"].has_same_key(desk.stores["bob"])


@pytest.mark.parametrize("victim", ["alice", "bob"])
def test_restored_old_copies_of_the_real_files_are_refused(folder: Path, victim: Role) -> None:
    desk = Desk(folder)
    desk.backup(victim, "before")
    desk.go("alice")
    desk.go("bob")
    desk.backup(victim, "between")
    for role in ("alice", "bob", "alice", "bob"):
        desk.go(role)
    desk.backup(victim, "newest")
    for age in ("before", "between"):
        desk.restore(victim, age)  # both files
        consumed = desk.stores[victim].balance_sheet().consumed
        for role in (victim, OTHER[victim]):
            result = desk.go(role)
            assert isinstance(result, OldCopyError) and result.exit_code == 6
        assert desk.stores[victim].balance_sheet().consumed == consumed
        desk.restore(victim, "newest")
        desk.restore(victim, age, "keys.db")  # the key store alone
        result = desk.run(victim)
        assert isinstance(result, OldCopyError) and "do not fit" in str(result)
        desk.restore(victim, "newest")
        assert isinstance(desk.go(victim), SessionResult)
    for path in (folder / victim).glob("keys.db.session-*"):
        path.unlink()  # the journal alone is gone
    result = desk.run(victim)
    assert isinstance(result, OldCopyError) and "there is a key" in str(result)


@pytest.mark.parametrize("victim", ["alice", "bob"])
def test_a_restored_key_store_and_another_run_find_no_partner(folder: Path, victim: Role) -> None:
    desk = Desk(folder)
    desk.backup(victim, "before")
    for role in ("alice", "bob") * 3:
        desk.go(role)
    desk.restore(victim, "before")
    for path in [desk.file(at, by) for at in OTHER for by in OTHER]:
        path.unlink()
    alice, bob = correlated_records(desk.parameters, run_id="c" * 32)
    desk.records = {"alice": alice, "bob": bob}
    assert isinstance(desk.go(victim), ExchangePending)
    refused = desk.run(OTHER[victim])
    assert isinstance(refused, InsufficientKeyError) and "consumed by an earlier session" in str(refused)
    assert desk.stores[victim].balance_sheet().consumed == 0


def test_the_command_says_what_to_carry(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    parameters = small_parameters()
    monkeypatch.setattr(postprocess, "load_certified", ProtocolParameters.load)
    parameters.save(folder / "parameters.toml")
    for record in correlated_records(parameters):
        record.write(folder / "records" / f"{record.role}.h5")
    for store in make_stores(folder, parameters):
        store.close()
    shared = folder / "shared"

    def command(role: Role, *options: str) -> tuple[int, str, str]:
        files = ["--record", str(folder / "records" / f"{role}.h5"), "--keys", str(folder / role / "keys.db")]
        files += ["--parameters", str(folder / "parameters.toml"), "--exchange", str(shared)]
        code = cli.main(["postprocess", role, *files, *options])
        return (code, *capsys.readouterr())

    code, out, err = command("alice")
    assert code == 7 and not out and f"Carry {shared / 'from_alice.diqkd'} to Bob" in err
    code, out, err = command("bob", "--json")
    assert code == 7 and json.loads(out) == {
        "pending": True,
        "carry": str(shared / "from_bob.diqkd"),
        "bring_back": str(shared / "from_alice.diqkd"),
    }
    command("alice")
    code, out, _ = command("bob")
    assert code == 0 and "to Alice: she has no key before that" in out
    code, out, _ = command("alice")
    assert code == 0 and "confirms to him that you have the key" in out and "the same on both sides" in out
    reports = [json.loads(command(role, "--json")[1]) for role in OTHER]
    assert reports[0]["transcript_digest"] == reports[1]["transcript_digest"]
    assert reports[0]["transcript"] == reports[1]["transcript"]
    code, out, _ = command("bob")
    assert code == 0 and "carry" not in out
    assert (
        claim_path(folder / "records" / "bob.h5").read_text()
        == json.loads(command("bob", "--json")[1])["session_id"]
    )


def test_a_record_serves_one_session(folder: Path) -> None:
    record = folder / "record.h5"
    claim_record(record, "a" * 32)
    claim_record(record, "a" * 32)
    with pytest.raises(ParameterError, match=f"'{'a' * 32}' already, this is session {'b' * 32}"):
        claim_record(record, "b" * 32)
    if os.name == "posix":
        claim_path(record).chmod(0o644)
        with pytest.raises(StorageError, match="mode 0644"):
            claim_record(record, "a" * 32)


def test_a_record_with_another_initial_key_is_refused_before_a_pad_is_used(folder: Path) -> None:
    desk = Desk(folder)
    desk.go("alice")
    stores = dict(zip(OTHER, make_stores(folder, desk.parameters, "others"), strict=True))
    claims: dict[Role, Path] = {role: folder / role / "record.h5" for role in OTHER}
    session_ids: list[str] = []

    def run(role: Role, store: KeyStore) -> None:
        def agreed(session_id: str) -> None:
            session_ids.append(session_id)
            claim_record(claims[role], session_id)

        run_exchange(role, desk.records[role], store, desk.parameters, desk.stick(role), agreed=agreed)

    with pytest.raises(ExchangePending):
        run("bob", desk.stores["bob"])
    shutil.rmtree(desk.stick("alice"))
    desk.stores["alice"] = stores["alice"]
    desk.go("alice")
    with pytest.raises(ParameterError, match="a record serves one session"):
        run("bob", stores["bob"])
    assert stores["bob"].balance_sheet().consumed == 0
    assert len(set(session_ids)) == 2


def test_the_command_says_that_a_refusal_has_to_be_carried_too(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(postprocess, "load_certified", ProtocolParameters.load)
    desk = Desk(folder, small_parameters(omega_threshold=0.9))
    for role in ("alice", "bob", "alice"):
        desk.go(role)
    desk.parameters.save(folder / "parameters.toml")
    desk.records["bob"].write(folder / "records" / "bob.h5")
    desk.stores["bob"].close()
    files = ["--record", str(folder / "records" / "bob.h5"), "--keys", str(folder / "bob" / "keys.db")]
    files += ["--parameters", str(folder / "parameters.toml"), "--exchange", str(desk.stick("bob"))]
    assert cli.main(["postprocess", "bob", *files]) == ProtocolAbort.exit_code
    assert f"carry {desk.file('bob', 'bob')} to the other side" in capsys.readouterr().err
