"""Core device on the network: the compiled engine behind the ports of a Kasli.

1380 management (log, configuration), 1381 kernels, 1382 analyzer, 1383 MonInj. Stock clients connect, of the
ARTIQ version that is installed here. Messages: artiq/firmware/libproto_artiq; behaviour:
artiq/firmware/runtime. As there, a new client of the kernel port takes over from the one before. The
configuration is forgotten when the process ends.

Each connection has a thread. The emulated CPU runs in that of the kernel port's client. It stops when the
client hangs up, when another client takes over, and when the server closes.
"""

from __future__ import annotations

import contextlib
import logging
import select
import socket
import socketserver
import struct
import threading
from collections.abc import Callable, Iterator
from typing import Any

from artiq import __version__ as artiq_version
from artiq.coredevice.comm_kernel import Reply, Request

from sim_devices.engines.kasli.device_log import DeviceLog
from sim_devices.engines.kasli.elf import LoadError
from sim_devices.engines.kasli.firmware import Firmware
from sim_devices.engines.kasli.machine import KernelInterrupted

logger = logging.getLogger(__name__)

MANAGEMENT, KERNELS, ANALYZER, MONINJ = 1380, 1381, 1382, 1383
_SYNCHRONISATION = b"\x5a" * 4
_MAX_LENGTH = 1 << 26
_MONITOR_S = 0.1
_STOP_S = 3.0


class ProtocolError(Exception):
    """A client said what no ARTIQ client says."""


class Stream:
    """What a client sends."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection

    def take(self, size: int) -> bytes:
        data = bytearray()
        while len(data) < size:
            part = self._connection.recv(min(size - len(data), 1 << 20))
            if not part:
                raise ConnectionResetError("the client hung up")
            data += part
        return bytes(data)

    def byte(self) -> int:
        return self.take(1)[0]

    def word(self) -> int:
        return int.from_bytes(self.take(4), "little")

    def content(self) -> bytes:
        """Bytes behind their length."""
        length = self.word()
        if length > _MAX_LENGTH:
            raise ProtocolError(f"a message of {length} bytes; at most {_MAX_LENGTH} are taken")
        return self.take(length)

    def expect(self, magic: bytes) -> None:
        if (got := self.take(len(magic))) != magic:
            raise ProtocolError(f"{magic!r} expected, got {got!r}")

    def unpack(self, form: str) -> tuple[Any, ...]:
        return struct.unpack(form, self.take(struct.calcsize(form)))


class Kasli:
    """One core device with its ports.

    :param address: where it listens, a loopback address of its own
    :param power_up: makes the emulated core device; called again at a reboot
    :raises OSError: a port of `address` cannot be had
    """

    def __init__(self, address: str, power_up: Callable[[], Firmware]) -> None:
        self._power_up = power_up
        self._log = DeviceLog()
        self._configuration: dict[str, bytes] = {}
        self._firmware = power_up()
        self._running = threading.Lock()
        """Held while a kernel runs; who has it may touch the channels."""
        self._session: _Session | None = None
        self._sessions = threading.Lock()
        self._closed = threading.Event()
        self._servers: list[socketserver.ThreadingTCPServer] = []
        with contextlib.ExitStack() as cleanup:
            for port, serve in (
                (MANAGEMENT, self._manage),
                (KERNELS, self._kernels),
                (ANALYZER, self._analyzer),
                (MONINJ, self._moninj),
            ):
                server = _listen(address, port, serve)
                cleanup.callback(server.server_close)
                self._servers.append(server)
            cleanup.pop_all()
        self._log.attach()
        for server in self._servers:
            threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()

    def close(self) -> None:
        """Stop what runs and give the ports back."""
        self._closed.set()
        for server in self._servers:
            server.shutdown()
            server.server_close()
        with self._sessions:
            session = self._session
        if session is not None:
            session.end()
        self._log.detach()

    # Port 1380

    def _manage(self, connection: socket.socket) -> None:
        stream = Stream(connection)
        stream.expect(b"ARTIQ management\n")
        if _MAJOR_VERSION >= 9 and stream.byte():
            raise ProtocolError("there are no satellites here; only destination 0 answers")
        connection.sendall(b"e")
        while True:
            self._answer(stream.byte(), stream, connection)

    def _answer(self, request: int, stream: Stream, connection: socket.socket) -> None:
        """One request (artiq/coredevice/comm_mgmt.py)."""
        success, log_content, reboot_imminent, error, data = b"\1", b"\2", b"\3", b"\6", b"\7"
        if request == 1:  # GetLog
            connection.sendall(log_content + _with_length(self._log.text().encode()))
        elif request == 2:  # ClearLog
            self._log.clear()
            connection.sendall(success)
        elif request == 7:  # PullLog
            self._pull_log(connection)
        elif request in (3, 6):  # levels of the log and of the serial line, up to ARTIQ 8
            stream.byte()
            connection.sendall(success)
        elif request == 12:  # ConfigRead
            content = self._configuration.get(stream.content().decode())
            connection.sendall(error if content is None else data + _with_length(content))
        elif request == 13:  # ConfigWrite
            key, content = stream.content().decode(), stream.content()
            self._configuration[key] = content
            connection.sendall(success)
        elif request == 14:  # ConfigRemove
            self._configuration.pop(stream.content().decode(), None)
            connection.sendall(success)
        elif request == 15:  # ConfigErase
            self._configuration.clear()
            connection.sendall(success)
        elif request == 5:  # Reboot
            connection.sendall(reboot_imminent)
            with self._sessions:
                session = self._session
            if session is not None:
                session.end()
            with self._running:
                self._firmware = self._power_up()
            logger.info("rebooted")
            raise ConnectionResetError("rebooted")
        elif request == 8:  # DebugAllocator
            logger.info("the emulated core device has no allocator to show")
        elif request == 9:  # Flash
            stream.content()
            logger.error("no gateware or firmware can be flashed here")
            connection.sendall(error)
        else:
            raise ProtocolError(f"unknown request {request} to the management port")

    def _pull_log(self, connection: socket.socket) -> None:
        """Everything from now on."""
        position = 0
        while not self._closed.is_set() and not _hung_up(connection, 0):
            text, position = self._log.wait(position, _MONITOR_S)
            if text:
                connection.sendall(_with_length(text.encode()))

    # Port 1381

    def _kernels(self, connection: socket.socket) -> None:
        stream = Stream(connection)
        stream.expect(b"ARTIQ coredev\n")
        session = _Session(connection)
        with self._sessions:
            previous, self._session = self._session, session
            if previous is not None:
                previous.end()
        try:
            connection.sendall(b"e")
            while True:
                self._serve(_header(stream), stream, session)
        finally:
            session.over.set()
            with self._sessions:
                if self._session is session:
                    self._session = None

    def _serve(self, kind: int, stream: Stream, session: _Session) -> None:
        firmware = self._firmware
        if kind == Request.SystemInfo.value:
            ident = _with_length(f"{artiq_version};emulated Kasli".encode())
            session.send(Reply.SystemInfo, b"AROR" + ident + bytes([firmware.finished_cleanly]))
            firmware.finished_cleanly = True
        elif kind == Request.LoadKernel.value:
            library = stream.content()
            try:
                firmware.load(library)
            except (LoadError, struct.error, KeyError, IndexError, ValueError) as error:
                reason = str(error) if isinstance(error, LoadError) else "not a kernel library"
                session.send(Reply.LoadFailed, _with_length(reason.encode()))
            else:
                session.send(Reply.LoadCompleted)
        elif kind == Request.RunKernel.value:
            if firmware.loaded:
                with self._running:
                    self._run(firmware, stream, session)
                firmware.rtio.apply_injections()
            else:
                session.send(Reply.KernelStartupFailed)
        elif kind == Request.SubkernelUpload.value:
            stream.take(5)
            stream.content()
            reason = "the emulated core device has no satellites: subkernels do not run on it"
            session.send(Reply.LoadFailed, _with_length(reason.encode()))
        else:
            raise ProtocolError(f"message {kind} to the kernel port, which expects none of that kind now")

    def _run(self, firmware: Firmware, stream: Stream, session: _Session) -> None:
        """Run the loaded kernel to its end."""
        firmware.start()
        with session.interruptible(firmware):
            while not firmware.finished:
                session.connection.sendall(firmware.run())
                if firmware.awaits_host:
                    firmware.receive(_header(stream), stream)

    # Port 1382

    def _analyzer(self, connection: socket.socket) -> None:
        rtio = self._firmware.rtio
        connection.sendall(rtio.analyzer.dump(rtio.counter))

    # Port 1383

    def _moninj(self, connection: socket.socket) -> None:
        stream = Stream(connection)
        stream.expect(b"ARTIQ moninj\n")
        probes: dict[tuple[int, int], int | None] = {}
        overrides: dict[tuple[int, int], int | None] = {}
        while not self._closed.is_set():
            if select.select([connection], [], [], _MONITOR_S)[0]:
                self._moninj_request(stream, connection, probes, overrides)
                continue
            rtio = self._firmware.rtio
            for (channel, probe), known in probes.items():
                if (value := rtio.probe(channel, probe)) != known:
                    probes[channel, probe] = value
                    connection.sendall(struct.pack("<BlbQ", 0, channel, probe, value))
            for (channel, override), known in overrides.items():
                if (value := rtio.injected(channel, override)) != known:
                    overrides[channel, override] = value
                    connection.sendall(struct.pack("<Blbb", 1, channel, override, value))

    def _moninj_request(
        self,
        stream: Stream,
        connection: socket.socket,
        probes: dict[tuple[int, int], int | None],
        overrides: dict[tuple[int, int], int | None],
    ) -> None:
        """One request (artiq/coredevice/comm_moninj.py)."""
        kind = stream.byte()
        rtio = self._firmware.rtio
        if kind in (0, 3):
            enable, channel, number = stream.unpack("<blb")
            watched = probes if kind == 0 else overrides
            if enable:
                watched.setdefault((channel, number), None)
            else:
                watched.pop((channel, number), None)
        elif kind == 1:
            rtio.injections.append(stream.unpack("<lbb"))
            if self._running.acquire(blocking=False):
                try:
                    rtio.apply_injections()
                finally:
                    self._running.release()
        elif kind == 2:
            channel, override = stream.unpack("<lb")
            value = rtio.injected(channel, override)
            connection.sendall(struct.pack("<Blbb", 1, channel, override, value))
        else:
            raise ProtocolError(f"unknown request {kind} to the MonInj port")


_MAJOR_VERSION = int(artiq_version.partition(".")[0])


class _Session:
    """A client of the kernel port."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self.over = threading.Event()
        self._firmware: Firmware | None = None

    def send(self, kind: Reply, body: bytes = b"") -> None:
        self.connection.sendall(_SYNCHRONISATION + bytes([kind.value]) + body)

    def end(self) -> None:
        """From another thread: stop the kernel, hang up, wait until that is done."""
        with contextlib.suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)
        self.over.wait(_STOP_S)

    @contextlib.contextmanager
    def interruptible(self, firmware: Firmware) -> Iterator[None]:
        """While this lasts, a client that hangs up ends the kernel."""
        done = threading.Event()

        def watch() -> None:
            while not done.is_set():
                if _hung_up(self.connection, _MONITOR_S):
                    firmware.machine.interrupt()
                    done.wait(0.01)

        watcher = threading.Thread(target=watch, daemon=True)
        watcher.start()
        try:
            yield
        finally:
            done.set()
            watcher.join()
            firmware.stop()


def _header(stream: Stream) -> int:
    stream.expect(_SYNCHRONISATION)
    return stream.byte()


def _with_length(content: bytes) -> bytes:
    return struct.pack("<I", len(content)) + content


def _hung_up(connection: socket.socket, timeout: float) -> bool:
    poll = select.poll()
    try:
        poll.register(connection, select.POLLRDHUP)
    except (OSError, ValueError):
        return True
    return bool(poll.poll(1000 * timeout))


def _listen(
    address: str, port: int, serve: Callable[[socket.socket], None]
) -> socketserver.ThreadingTCPServer:
    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            self.request.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            try:
                serve(self.request)
            except KernelInterrupted:
                logger.info("kernel interrupted")
            except OSError as error:
                logger.debug("port %d: %s", port, error)
            except (ProtocolError, UnicodeDecodeError) as error:
                logger.error("port %d: %s; hung up", port, error)
            except Exception as error:  # a bug of the kernel, or of this engine: the server lives
                logger.error("port %d: %s: %s; hung up", port, type(error).__name__, error)
                logger.debug("traceback", exc_info=True)

    class Server(socketserver.ThreadingTCPServer):
        allow_reuse_address = True
        daemon_threads = True
        block_on_close = False

    return Server((address, port), Handler)
