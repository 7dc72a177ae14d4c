"""The programs of a demonstration as child processes: their progress, their results, and an orderly end of
all."""

from __future__ import annotations

import json
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import IO, Any

from diqkd_postproc.protocol.errors import DiqkdError

# A child gets this long to store what it has after the first request to stop.
STOP_TIMEOUT_S = 20.0


@dataclass
class Child:
    """One program of the demonstration; its progress lines go to `on_event`, the rest of stderr is kept."""

    name: str
    process: subprocess.Popen[str]
    on_event: Callable[[dict[str, Any]], None]
    messages: list[str] = field(default_factory=list)
    output: list[str] = field(default_factory=list)
    readers: list[threading.Thread] = field(default_factory=list)
    address: str = ""
    listening: threading.Event = field(default_factory=threading.Event)

    def follow(self) -> None:
        """Read both streams in threads until the program ends."""

        def read_events(stream: IO[str]) -> None:
            for line in stream:
                try:
                    event = json.loads(line)
                except json.JSONDecodeError:
                    event = None
                if isinstance(event, dict) and "listening" in event:
                    self.address = event["listening"]
                    self.listening.set()
                elif isinstance(event, dict):
                    self.on_event(event)
                else:
                    self.messages.append(line.rstrip())

        def read_output(stream: IO[str]) -> None:
            self.output.extend(stream)

        assert self.process.stdout is not None and self.process.stderr is not None
        for target, stream in ((read_output, self.process.stdout), (read_events, self.process.stderr)):
            thread = threading.Thread(target=target, args=(stream,), daemon=True)
            thread.start()
            self.readers.append(thread)

    def wait_for_address(self) -> str:
        """host:port where the program waits for its peer, which it prints with `--progress lines`.

        :raises ChildError: it ended before
        """
        while not self.listening.wait(0.1):
            if self.process.poll() is not None:
                self.result()
                raise ChildError(self.name, 0, ["ended without listening"])
        return self.address

    def result(self) -> dict[str, Any]:
        """The JSON document that the program printed; its own error and exit code if it failed."""
        code = self.process.wait()
        for reader in self.readers:
            reader.join(timeout=5)
        if code != 0:
            raise ChildError(self.name, code, self.messages)
        document: dict[str, Any] = json.loads("".join(self.output))
        return document


class ChildError(DiqkdError):
    """A program of the demonstration ended with an error; carries its exit code."""

    def __init__(self, name: str, code: int, messages: Sequence[str]) -> None:
        last = [line.removeprefix("diqkd: ") for line in messages if line.strip()][-1:]
        super().__init__(f"{name}: {last[0] if last else f'ended with exit code {code}'}")
        self.exit_code = code if code > 0 else 1


class Programs:
    """The running children; leaving the context stops those that still run."""

    def __init__(self) -> None:
        self._children: list[Child] = []

    def __enter__(self) -> Programs:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self, but: Child | None = None) -> None:
        """Stop those that still run, but one on which they depend."""
        running = [
            child.process for child in self._children if child is not but and child.process.poll() is None
        ]
        for process in running:
            process.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + STOP_TIMEOUT_S
        for process in running:
            try:
                process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def start(
        self,
        name: str,
        command: Sequence[str],
        environment: dict[str, str],
        on_event: Callable[[dict[str, Any]], None] = lambda event: None,
        stdin: int = subprocess.DEVNULL,
    ) -> Child:
        """Start a program; its own session keeps Ctrl-C for this process, which then stops it in order."""
        process = subprocess.Popen(
            command,
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            encoding="utf-8",
            env=environment,
            start_new_session=True,
        )
        child = Child(name, process, on_event)
        self._children.append(child)
        return child

    def results(self, children: dict[str, Child]) -> dict[str, dict[str, Any]]:
        """Results of all; if one fails the others are requested to stop, and the first failure is raised."""
        waiting = dict(children)
        done: dict[str, dict[str, Any]] = {}
        failures: list[ChildError] = []
        while waiting:
            for role, child in list(waiting.items()):
                if child.process.poll() is None:
                    continue
                del waiting[role]
                try:
                    done[role] = child.result()
                except ChildError as error:
                    failures.append(error)
            if failures and waiting:
                self._let_end(waiting.values())
            time.sleep(0.05)
        if failures:
            raise min(failures, key=lambda error: (error.exit_code == 130, error.exit_code < 3))
        return done

    @staticmethod
    def _let_end(children: Iterator[Child] | Any) -> None:
        """Give the peer of a failed program time to report its own side, then stop it."""
        deadline = time.monotonic() + STOP_TIMEOUT_S
        for child in children:
            try:
                child.process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                child.process.send_signal(signal.SIGTERM)
