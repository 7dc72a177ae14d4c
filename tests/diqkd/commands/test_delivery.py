"""The commands as a user runs them: two services as processes, one killed under load and started again."""

from __future__ import annotations

import base64
import errno
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from diqkd.cli import main
from diqkd_postproc.delivery import trial
from diqkd_postproc.delivery.client import SaeClient, SaeProfile, write_keys
from diqkd_postproc.delivery.data_formats import Key
from diqkd_postproc.delivery.refusals import Refusal
from diqkd_postproc.protocol.errors import ParameterError, StorageError
from diqkd_postproc.protocol.roles import ROLES
from tests.support.delivery_trial import make_stores


@pytest.mark.parametrize("service", ["https://localhost:99999", "https://[localhost:1", "http://localhost:1"])
def test_a_service_that_is_no_address_is_named(folder: Path, service: str) -> None:
    profile = SaeProfile(service=service, certificate=folder, private_key=folder, authority=folder)
    with pytest.raises(ParameterError, match="is not https://HOST:PORT"):
        SaeClient(profile)


def test_a_full_disk_loses_the_keys_that_it_cannot_hold_and_says_so(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = [Key(key_id=str(number), key=bytes([number])) for number in range(3)]
    sync, calls = os.fsync, iter([False, True])

    def fail_at_the_second(descriptor: int) -> None:
        if next(calls):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", fail_at_the_second)
    with pytest.raises(StorageError, match=r"1 of 3 keys are in .*the others were delivered and are lost"):
        write_keys(folder, keys)
    assert (folder / "0.key").read_bytes() == b"\0"


class Services:
    """`diqkd serve` twice, on ports that the system chose."""

    def __init__(self, run: Path) -> None:
        self.run = run
        self.folder = trial.write_trial(run, [run / f"{role}.sqlite" for role in ROLES], (0, 0))
        self.processes: dict[str, subprocess.Popen[str]] = {}

    def start(self, role: str) -> None:
        command = [sys.executable, "-m", "diqkd", "serve", "--json", "--config"]
        process = subprocess.Popen(
            [*command, str(self.folder / f"{role}.toml")],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            encoding="utf-8",
        )
        assert process.stdout is not None
        lines = []
        while not lines or lines[-1] != "}":
            line = process.stdout.readline()
            assert line, process.communicate()[1]
            lines.append(line.rstrip())
        address = json.loads("".join(lines))["api"]
        self.processes[role] = process
        for name, old in ((f"{role}.toml", "127.0.0.1:0"), (f"sae-{role}.toml", "localhost:0")):
            path = self.folder / name
            path.write_text(path.read_text().replace(old, address))

    def client(self, role: str) -> SaeClient:
        return SaeClient(SaeProfile.load(self.folder / f"sae-{role}.toml"))

    def stop(self) -> dict[str, tuple[int, str]]:
        """Exit code and stderr of each."""
        ends = {}
        for role, process in self.processes.items():
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
            _, text = process.communicate(timeout=300)
            ends[role] = (process.returncode, text)
        return ends


@pytest.fixture
def services(folder: Path) -> Iterator[Services]:
    make_stores(folder, 30_000)
    started = Services(folder)
    try:
        started.start("alice")
        started.start("bob")
        yield started
    finally:
        for process in started.processes.values():
            process.kill()
            process.wait()
            for stream in (process.stdout, process.stderr):
                if stream is not None:
                    stream.close()


def output(capsys: pytest.CaptureFixture[str]) -> Any:
    return json.loads(capsys.readouterr().out)


@pytest.mark.skipif(os.name != "posix", reason="Windows cannot send SIGTERM or SIGKILL to a process")
def test_two_services_two_clients_and_a_kill(services: Services, capsys: pytest.CaptureFixture[str]) -> None:
    folder = services.folder
    alice, bob = (["--as", str(folder / f"sae-{role}.toml"), "--json"] for role in ROLES)
    first = services.client("alice").new_keys("sae-bob")
    assert main(["key", "status", *alice, "--peer", "sae-bob"]) == 0
    status = output(capsys)
    assert status["slave_SAE_ID"] == "sae-bob" and status["stored_key_count"] > 0
    keys = str(folder / "keys-alice")
    assert main(["key", "get", *alice, "--peer", "sae-bob", "-o", keys, "--number", "2"]) == 0
    shown = output(capsys)["keys"]
    assert "key" not in shown[0] and shown[0]["size"] == 256
    ids = [item["key_ID"] for item in shown]
    fetch = ["key", "get", *bob, "--peer", "sae-alice", "-o", str(folder / "keys-bob"), "--key-id", *ids]
    assert main([*fetch, "--show"]) == 0
    for mine, theirs in zip(shown, output(capsys)["keys"], strict=True):
        content = Path(mine["file"]).read_bytes()
        assert content == Path(theirs["file"]).read_bytes() == base64.b64decode(theirs["key"])
        assert len(content) == 32 and Path(mine["file"]).stat().st_mode & 0o777 == 0o600
    assert main(fetch) == 2
    assert "one or more keys specified are not found on KME" in capsys.readouterr().err
    assert main(["key", "get", *alice, "--peer", "nobody", "-o", keys]) == 2
    assert main(["key", "get", *alice, "--peer", "sae-bob", "-o", keys, "--key-id", "x", "--size", "8"]) == 2
    capsys.readouterr()

    got: list[Key] = list(first)

    def ask_on() -> None:
        client = services.client("alice")
        try:
            while True:
                got.extend(client.new_keys("sae-bob", 2))
        except Refusal:
            return

    workers = [threading.Thread(target=ask_on) for _ in range(3)]
    for worker in workers:
        worker.start()
    while len(got) < 8:
        threading.Event().wait(0.01)
    services.processes["alice"].kill()
    killed = services.processes["alice"].communicate()[1]
    for worker in workers:
        worker.join()
    services.start("alice")
    after = services.client("alice").new_keys("sae-bob", 2)
    got.extend(after)
    fetched = [
        key
        for part in range(0, len(got), 100)
        for key in services.client("bob").keys_with_ids(
            "sae-alice", [k.key_id for k in got[part : part + 100]]
        )
    ]
    assert [(key.key_id, key.key) for key in fetched] == [(key.key_id, key.key) for key in got]
    assert len({key.key for key in got}) == len(got)
    ends = services.stop()
    assert [code for code, _ in ends.values()] == [0, 0]
    for role, (_, text) in ends.items():
        assert "free bits of" in text and f"kme-{role} has stopped" in text
    written = killed + "".join(text for _, text in ends.values())
    written += "".join((folder / f"audit-{role}.jsonl").read_text() for role in ROLES)
    for key in got:
        assert key.key.hex() not in written and base64.b64encode(key.key).decode() not in written
    assert '"action":"stop"' in written and after[0].key_id in written


def test_a_second_trial_gets_other_ports_and_keeps_the_certificates(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for role in ROLES:
        (folder / role).mkdir(mode=0o700)
        (folder / role / "keys.sqlite").touch()
    assert main(["delivery", "trial", str(folder)]) == 0
    first = (folder / "delivery" / "certificates" / "authority.crt").read_bytes()
    assert main(["delivery", "trial", str(folder), "--alice-port", "9443", "--bob-port", "9444"]) == 0
    assert (folder / "delivery" / "certificates" / "authority.crt").read_bytes() == first
    for role, port in zip(ROLES, (9443, 9444), strict=True):
        assert f'listen = "127.0.0.1:{port}"' in (folder / "delivery" / f"{role}.toml").read_text()
        assert f"https://localhost:{port}" in (folder / "delivery" / f"sae-{role}.toml").read_text()
    assert "diqkd serve --config" in capsys.readouterr().out


def test_wrong_input_is_explained(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["serve", "--config", str(folder / "none.toml")]) == 2
    assert main(["delivery", "trial", str(folder)]) == 2
    assert main(["delivery", "certificates", str(folder / "certificates"), "--sae", "a", "b"]) == 0
    assert sorted(path.name for path in (folder / "certificates").iterdir())[:3] == [
        "a.crt",
        "a.key",
        "authority.crt",
    ]
    assert main(["delivery", "certificates", str(folder / "certificates")]) == 6
    (folder / "bad.toml").write_text(
        "service = 'http://x'\ncertificate='a'\nprivate_key='b'\nauthority='c'\n"
    )
    assert main(["key", "status", "--as", str(folder / "bad.toml"), "--peer", "x"]) == 2
    (folder / "worse.toml").write_text("services = 'x'")
    assert main(["key", "status", "--as", str(folder / "worse.toml"), "--peer", "x"]) == 2
    messages = capsys.readouterr().err
    for part in (
        "cannot read",
        "finished `diqkd demo",
        "holds certificates already",
        "not https://",
        "service",
    ):
        assert part in messages


@pytest.mark.skipif(os.name != "posix", reason="needs the program tee")
def test_two_agents_of_a_tunnel_install_the_same_keys(services: Services) -> None:
    sides = {"bob": ["--listen", "127.0.0.1:0"]}
    agents = {}
    for role, peer in (("bob", "alice"), ("alice", "bob")):
        command = [sys.executable, "-m", "diqkd", "vpn", "--as", str(services.folder / f"sae-{role}.toml")]
        command += ["--peer", f"sae-{peer}", *sides[role], "--every", "1", "--rekeys", "2"]
        command += ["--command", f"tee -a {services.folder / role}-installed"]
        agents[role] = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        stream = agents[role].stdout
        if role == "bob":
            assert stream is not None
            sides["alice"] = ["--connect", stream.readline().split()[-1]]
    shown = {role: agent.communicate(timeout=300)[0] for role, agent in agents.items()}
    assert shown["alice"] == shown["bob"] and shown["bob"].count("installed") == 2
    keys = [(services.folder / f"{role}-installed").read_text().split() for role in ROLES]
    assert keys[0] == keys[1] and len(set(keys[0])) == 2
