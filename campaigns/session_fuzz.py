"""Fuzzing of all that reads what others wrote: python -m campaigns.session_fuzz [--inputs 1000000] [--json]

Inputs are made from the frames of honest sessions by a grammar that knows headers, types and lengths, by
blind mutation, and at random; the seed repeats them. Four readers:

- stream: the frame reader, in pieces of random sizes, until it refuses. It may raise RemoteProtocolError and
  nothing else, and what it accepts has to be encoded to the same bytes again. The --inputs are for it.
- engine: both engines, mostly behind an honest Hello, as far as the input carries them. They may also name
  sides that do not fit together, an old copy, and a peer that left. A tenth of --inputs.
- exchange: the same as a carried file. A hundredth of --inputs.
- journal: an interrupted session's journal with changed bytes, or changed rows, up to the engine that goes on
  with it. It may raise StorageError and nothing else. A hundredth of --inputs.

Memory: tracemalloc's peak of single inputs, for the first thousands of each reader, and the growth of the
whole process. Exit code 1 if anything else was raised, or if one input took more than 64 KiB and ten times
the bytes of a whole session. About five minutes.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import sqlite3
import sys
import tempfile
import time
import tracemalloc
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

from rich.console import Console
from rich.progress import track
from rich.table import Table

from campaigns.session_attacks import frames_of, record_session, resealed, small_session
from diqkd_postproc.machine import peak_memory_mib
from diqkd_postproc.protocol.errors import ParameterError, RemoteProtocolError, StorageError
from diqkd_postproc.protocol.parameters import ProtocolParameters
from diqkd_postproc.protocol.roles import ROLES, other
from diqkd_postproc.session.continuity import Past, require_one_past
from diqkd_postproc.session.engine import PeerUnavailable, SessionEngine
from diqkd_postproc.session.events import ConsumeKey, Need, Persist, Signal, Work
from diqkd_postproc.session.exchange import FileExchange, exchange_file
from diqkd_postproc.session.framing import (
    CHECKSUM_BYTES,
    FRAME_BYTES,
    HEADER_BYTES,
    MAGIC,
    PROTOCOL_VERSION,
    FrameReader,
    encode_frame,
)
from diqkd_postproc.session.journal import SessionJournal
from diqkd_postproc.session.messages import RoundTypesTag, payload_limits

BOUNDARIES = (0, 1, 0x7F, 0x80, 0xFF)
LENGTHS = (0, 1, 7, 8, 9, 2**16, 2**31 - 1, 2**31, 2**32 - 1)
TRACED = 2000
Reader = Callable[[bytes], str]


class Grammar:
    """Makes inputs from honest streams."""

    def __init__(self, parameters: ProtocolParameters, seed: int) -> None:
        self.random = random.Random(seed)
        self.limits = payload_limits(parameters)
        trial = record_session(parameters)
        self.session_id = trial.parties[0].engine.session_id
        self.streams = [b"".join(f for who, f in trial.sent if who == side) for side in (0, 1)]
        self.frames = [frame for _, frame in trial.sent]

    def input(self) -> bytes:
        """One input."""
        pick = self.random.random()
        if pick < 0.05:
            return self.random.randbytes(self.random.randrange(200))
        if pick < 0.3:
            return b"".join(self.frame() for _ in range(self.random.randint(1, 3)))
        data = bytearray(self.random.choice(self.streams) if pick < 0.6 else self.random.choice(self.frames))
        for _ in range(self.random.randint(1, 4)):
            self.random.choice(MUTATIONS)(self, data)
        return bytes(data)

    def frame(self) -> bytes:
        """A frame of the right shape with anything in its fields."""
        kind = self.random.choice([*self.limits, 0, 99, 255])
        least, greatest = self.limits.get(kind, (0, 40))
        size = self.random.choice((least, greatest, self.random.randint(least, greatest)))
        identity = self.random.choice((self.session_id, bytes(16), self.random.randbytes(16)))
        header = MAGIC + bytes([PROTOCOL_VERSION, kind]) + identity
        body = self.random.randbytes(size)
        if self.random.random() < 0.5 and size >= 5:  # near a valid message: small values in front
            body = bytes([self.random.choice((0, 1, 2, 5))]) + bytes(size - 1)
        return resealed(header + size.to_bytes(4, "big") + body + bytes(CHECKSUM_BYTES))


def flip(grammar: Grammar, data: bytearray) -> None:
    """One bit."""
    if data:
        data[grammar.random.randrange(len(data))] ^= 1 << grammar.random.randrange(8)


def set_byte(grammar: Grammar, data: bytearray) -> None:
    """One byte to a boundary value."""
    if data:
        data[grammar.random.randrange(len(data))] = grammar.random.choice(BOUNDARIES)


def set_length(grammar: Grammar, data: bytearray) -> None:
    """The length of the first frame."""
    if len(data) >= HEADER_BYTES:
        data[HEADER_BYTES - 4 : HEADER_BYTES] = grammar.random.choice(LENGTHS).to_bytes(4, "big")


def cut(grammar: Grammar, data: bytearray) -> None:
    """The end away."""
    del data[grammar.random.randrange(len(data) + 1) :]


def remove(grammar: Grammar, data: bytearray) -> None:
    """A piece out of the middle."""
    start = grammar.random.randrange(len(data) + 1)
    del data[start : start + grammar.random.randint(1, 40)]


def insert(grammar: Grammar, data: bytearray) -> None:
    """Random bytes, or a whole frame, anywhere."""
    place = grammar.random.randrange(len(data) + 1)
    piece = grammar.random.choice((grammar.random.choice(grammar.frames), grammar.random.randbytes(9)))
    data[place:place] = piece


def reseal(grammar: Grammar, data: bytearray) -> None:
    """A checksum that fits, so that the payload is read."""
    if len(data) >= FRAME_BYTES:
        data[:] = resealed(data)


def reorder(grammar: Grammar, data: bytearray) -> None:
    """Frames in another order, some twice."""
    whole = grammar.random.choice(grammar.streams)
    frames = frames_of(whole)
    data[:] = b"".join(grammar.random.choice(frames) for _ in range(grammar.random.randint(1, 6)))


MUTATIONS = (flip, flip, set_byte, set_length, cut, remove, insert, reorder, reseal, reseal)


def stream_reader(parameters: ProtocolParameters, grammar: Grammar) -> Reader:
    """Feeds a frame reader in pieces."""

    def read(data: bytes) -> str:
        reader = FrameReader(parameters, grammar.session_id)
        place, accepted = 0, 0
        try:
            while place < len(data):
                piece = grammar.random.choice((1, 26, 4096))
                reader.feed(data[place : place + piece])
                place += piece
                while (found := reader.peek()) is not None:
                    message, frame = found
                    if encode_frame(grammar.session_id, message) != frame:
                        return "FAILED: a message with two encodings"
                    reader.discard(frame)
                    accepted += 1
        except RemoteProtocolError:
            return "refused"
        return "messages" if accepted else "waits for more"

    return read


def drive(engine: SessionEngine) -> str:
    """Handle what needs no secret until the engine waits, or wants work on what it has received."""
    for _ in range(20):
        event = engine.next_event()
        if event is Signal.NEED_DATA:
            return "waits for more"
        if isinstance(event, Persist | ConsumeKey):
            engine.acknowledge(event)
        elif event == Need(work=Work.ROUND_TYPES_TAG):
            engine.send(RoundTypesTag(tag=bytes(8)))
        elif isinstance(event, Need):
            return "has a message to check"
    return "FAILED: no end"


def engine_reader(parameters: ProtocolParameters, grammar: Grammar, run_id: str, key_id: str) -> Reader:
    """Feeds a fresh engine of either role."""

    def read(data: bytes) -> str:
        role = grammar.random.choice(ROLES)
        engine = SessionEngine(role, parameters, key_id, run_id)
        if grammar.random.random() < 0.7:
            data = SessionEngine(other(role), parameters, key_id, run_id).data_to_send() + data
        return judged(engine, lambda: data)

    return read


def judged(engine: SessionEngine, receive: Callable[[], bytes]) -> str:
    """What an engine makes of the bytes."""
    try:
        engine.receive_data(receive())
        return drive(engine)
    except RemoteProtocolError:
        return "refused"
    except (ParameterError, StorageError, PeerUnavailable) as error:
        return type(error).__name__


def exchange_reader(
    parameters: ProtocolParameters, grammar: Grammar, run_id: str, key_id: str, folder: Path
) -> Reader:
    """Puts the bytes into the file that a party reads."""
    theirs = exchange_file(folder, "bob")

    def read(data: bytes) -> str:
        theirs.write_bytes(data)
        engine = SessionEngine("alice", parameters, key_id, run_id)
        exchange = FileExchange(folder, engine)
        if exchange.pending() is not None:
            return "waits for more"
        return judged(engine, lambda: asyncio.run(exchange.receive()))

    return read


def journal_reader(parameters: ProtocolParameters, grammar: Grammar, folder: Path) -> Reader:
    """Opens a journal that was changed; the input decides where and how."""
    path = folder / "journal"
    journal = SessionJournal(path, parameters, grammar.session_id)
    trial = record_session(parameters)
    for entry in trial.parties[0].journal:
        journal.append(entry)
    journal.close()
    intact = path.read_bytes()
    values = (0, 1, -1, 2**62, 1.5, None, "text", b"", b"DIQK")
    statements = (
        "UPDATE frames SET frame = ? WHERE position = 3",
        "UPDATE frames SET outgoing = ?",
        "UPDATE frames SET kind = ? WHERE position = 2",
        "UPDATE begin SET epoch = ?",
        "INSERT INTO begin VALUES (?)",
        "INSERT INTO frames (kind, outgoing, frame) VALUES (99, 1, ?)",
        "UPDATE frames SET position = 9 WHERE position = 1 AND ?1 IS NOT NULL",
        "DROP TABLE frames",
        "CREATE VIEW v AS SELECT 1",
        "DELETE FROM begin",
    )

    def read(data: bytes) -> str:
        changed = bytearray(intact)
        if grammar.random.random() < 0.5:
            for _ in range(grammar.random.randint(1, 8)):
                grammar.random.choice((flip, set_byte))(grammar, changed)
            if grammar.random.random() < 0.2:
                cut(grammar, changed)
        path.write_bytes(changed)
        if grammar.random.random() < 0.5:
            value = grammar.random.choice((*values, data, zeros := bytes(1 << 20)))
            del zeros
            change_row(path, grammar.random.choice(statements), value)
        try:
            changed_journal = SessionJournal(path, parameters, grammar.session_id)
            changed_journal.close()
            entries, past = changed_journal.entries, Past(key_is_active=True)
            require_one_past("alice", entries, past, path, folder)
        except StorageError:
            return "refused"
        alice = trial.parties[0]
        SessionEngine("alice", parameters, alice.ledger.key_id, alice.record.run_id, entries, False)
        return "opened"

    return read


def change_row(path: Path, statement: str, value: object) -> None:
    """One statement on a database that may be damaged."""
    connection = sqlite3.connect(path)
    try:
        connection.execute(statement, (value,) if "?" in statement else ())
        connection.commit()
    except (sqlite3.Error, OverflowError, UnicodeDecodeError):
        pass
    finally:
        connection.close()


def campaign(num_inputs: int, seed: int = 1, progress: bool = False) -> dict[str, object]:
    """Run all readers; what is printed."""
    parameters = small_session()
    grammar = Grammar(parameters, seed)
    trial = record_session(parameters)
    alice = trial.parties[0]
    run_id, key_id = alice.record.run_id, alice.ledger.key_id
    capacity = FrameReader(parameters, grammar.session_id).capacity
    report: dict[str, object] = {"seed": seed, "session_bytes": capacity, "readers": {}, "failures": []}
    failures: list[str] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o700)
        readers: dict[str, tuple[int, Reader]] = {
            "stream": (num_inputs, stream_reader(parameters, grammar)),
            "engine": (num_inputs // 10, engine_reader(parameters, grammar, run_id, key_id)),
            "exchange": (num_inputs // 100, exchange_reader(parameters, grammar, run_id, key_id, folder)),
            "journal": (num_inputs // 100, journal_reader(parameters, grammar, folder)),
        }
        for reader_name, (count, read) in readers.items():
            started = time.process_time()
            endings, peak, before = Counter[str](), 0, peak_memory_mib()
            inputs = _inputs(grammar, count, progress, reader_name)
            for number, data in enumerate(inputs):
                if number == 0:
                    tracemalloc.start()
                elif number == TRACED:
                    tracemalloc.stop()
                ending, used = outcome(read, data)
                peak = max(peak, used)
                endings[ending] += 1
                if ending.startswith("FAILED"):
                    failures.append(f"{reader_name} {ending} for {data.hex()[:400]}")
            tracemalloc.stop()
            allowed = 2**16 + 10 * capacity + (2**21 if reader_name == "journal" else 0)
            if peak > allowed:
                failures.append(f"{reader_name}: an input took {peak} bytes")
            after = peak_memory_mib()
            report["readers"][reader_name] = {
                "inputs": count,
                "endings": dict(endings),
                "peak_bytes_of_an_input": peak,
                "process_grew_mib": None if before is None or after is None else round(after - before, 1),
                "cpu_seconds": round(time.process_time() - started, 1),
            }
    report["failures"] = failures[:100]
    return report


def _inputs(grammar: Grammar, count: int, progress: bool, name: str) -> Iterator[bytes]:
    numbers = track(range(count), name, disable=not progress, console=Console(stderr=True))
    return (grammar.input() for _ in numbers)


def outcome(read: Reader, data: bytes) -> tuple[str, int]:
    """How a reader ends, and the memory it took where that is traced."""
    traced = tracemalloc.is_tracing()
    if traced:
        tracemalloc.reset_peak()
        before = tracemalloc.get_traced_memory()[0]
    try:
        ending = read(data)
    except Exception as error:
        ending = f"FAILED: {type(error).__name__}: {error}"
    return ending, tracemalloc.get_traced_memory()[1] - before if traced else 0


def main() -> int:
    """Print the report; exit code 1 after a failure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--inputs", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    report = campaign(arguments.inputs, arguments.seed, progress=sys.stderr.isatty())
    if arguments.json:
        print(json.dumps(report, indent=2))
    else:
        table = Table(title=f"{len(report['failures'])} failures")
        for heading in ("reader", "inputs", "endings", "peak of an input", "process grew"):
            table.add_column(heading)
        for name, row in report["readers"].items():
            endings = "\n".join(f"{ending}: {count:,}" for ending, count in sorted(row["endings"].items()))
            peak = f"{row['peak_bytes_of_an_input']:,} bytes"
            table.add_row(name, f"{row['inputs']:,}", endings, peak, f"{row['process_grew_mib']} MiB")
        Console().print(table)
        print(*report["failures"], sep="\n")
    return 1 if report["failures"] else 0


if __name__ == "__main__":
    sys.exit(main())
