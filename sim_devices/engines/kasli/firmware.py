"""Firmware of the emulated core device: loads a kernel, serves its imports, answers the host.

Corresponds to ksupport and runtime/session.rs of ARTIQ's firmware. Messages to the host have the wire format
of libproto_artiq/session_proto.rs.
"""

from __future__ import annotations

import logging
import struct
from collections.abc import Callable
from enum import Enum
from typing import Any

from sim_devices.engines.cpu_model import CpuModel
from sim_devices.engines.kasli import arithmetic, rpc, support
from sim_devices.engines.kasli.cache import Cache
from sim_devices.engines.kasli.exceptions import KernelExceptions
from sim_devices.engines.kasli.kernel_log import KernelLog
from sim_devices.engines.kasli.machine import Machine
from sim_devices.engines.kasli.rtio import Channel, Rtio

logger = logging.getLogger(__name__)

_SYNCHRONISATION = b"\x5a\x5a\x5a\x5a"
_EXCEPTION = struct.Struct("<IIqqqIiiI")
_ATTRIBUTES = 0  # the service that sets an attribute of a host object


class Firmware:
    """One core device, from power-up on.

    :param make_channels: RTIO channels, given the core, which takes their asynchronous errors
    :param exception_id: number of a built-in exception by name, as the compiler counts
    :param request: enumeration of messages from the host (`Request` of ARTIQ's comm_kernel)
    :param reply: enumeration of messages to the host
    :param strings_in_registers: see `Machine`
    """

    def __init__(
        self,
        make_channels: Callable[[Rtio], dict[int, Channel]],
        model: CpuModel,
        exception_id: Callable[[str], int],
        request: type[Enum],
        reply: type[Enum],
        strings_in_registers: bool = True,
    ) -> None:
        self._model = model
        self._request: Any = request
        self._reply: Any = reply
        self.machine = Machine(strings_in_registers)
        self.exceptions = KernelExceptions(self.machine, exception_id, self._uncaught)
        self.rtio = Rtio(self.machine, self.exceptions, model)
        self.rtio.channels = make_channels(self.rtio)
        self.rtio.analyzer.log_channel = max(self.rtio.channels, default=0) + 1
        self._cache = Cache(self.machine)
        self._log = KernelLog(self.machine)
        self._out = bytearray()
        self._receiver: rpc.Receiver | None = None
        self._answer: tuple[int, rpc.Source] | None = None
        self.awaits_host = False
        self.finished = False
        self.finished_cleanly = True
        self.machine.connect(arithmetic.services(self.machine) | self._services())

    def _services(self) -> dict[str, Callable[[], None]]:
        """What kernels may import besides arithmetic, and the traps of the support code itself."""
        rtio, exceptions = self.rtio, self.exceptions
        return {
            support.FINISHED: self._finished,
            support.FLUSH: rtio.raising(rtio.drain),
            support.LATE: rtio.late_output,
            support.SPIN: rtio.spin,
            "rtio_output_wide": rtio.wide_output,
            "rtio_input_timestamp": rtio.raising(rtio.input_timestamp),
            "rtio_input_data": rtio.raising(rtio.input_data),
            "rtio_input_timestamped_data": rtio.raising(rtio.input_timestamped_data),
            "rtio_init": rtio.raising(rtio.init),
            "rtio_get_destination_status": rtio.destination_status,
            "dma_record_start": rtio.record_start,
            "dma_record_stop": rtio.record_stop,
            "dma_erase": rtio.erase,
            "dma_retrieve": rtio.retrieve,
            "dma_playback": rtio.playback,
            "rpc_send": lambda: self._rpc_send(False),
            "rpc_send_async": lambda: self._rpc_send(True),
            "rpc_recv": self._rpc_receive,
            "cache_get": self._cache_get,
            "cache_put": self._cache_put,
            "core_log": lambda: self._log.print(self._log.format()),
            "rtio_log": self._rtio_log,
            "__artiq_raise": exceptions.raise_from_kernel,
            "__artiq_resume": exceptions.resume,
            "__artiq_end_catch": exceptions.end_catch,
            "_Unwind_Resume": exceptions.resume,
            "__artiq_personality": self._never_called,
        }

    @staticmethod
    def _never_called() -> None:
        raise RuntimeError("a function of the C++ runtime was called by a kernel")

    # Life of a kernel

    def load(self, library: bytes) -> None:
        """Put a kernel in memory. Raises `elf.LoadError`."""
        self.exceptions.reset()
        self._receiver = self._answer = None
        self.awaits_host = self.finished = False
        self._out.clear()
        self.rtio.errors = 0
        self.machine.load(library, {"now": support.MAILBOX + support.NOW_HI})

    @property
    def loaded(self) -> bool:
        """Whether a kernel is ready to start."""
        return self.machine.library is not None and not self.finished

    def start(self) -> None:
        """The host asks to run the loaded kernel; it begins with the next `run`."""
        self.finished_cleanly = False
        self.rtio.counter += self._model.kernel_start_mu

    def stop(self) -> None:
        """Forget the kernel; outputs that it has made happen nevertheless."""
        if self.machine.library is not None:
            self.machine.unload()
            self._cache.release()

    def run(self) -> bytes:
        """Let the CPU run until there is a message for the host."""
        while not self._out:
            self.machine.run()
        message = bytes(self._out)
        self._out.clear()
        return message

    def _send(self, kind: Enum, body: bytes) -> None:
        self._out += _SYNCHRONISATION + bytes([kind.value]) + body

    def _finished(self) -> None:
        """The kernel returned: write attributes back, then say so."""
        self.rtio.drain()
        self._write_attributes_back()
        self._send(self._reply.KernelFinished, bytes([self.rtio.errors]))
        self._end()

    def _uncaught(self) -> None:
        self.rtio.drain()
        self._send(self._reply.KernelException, self.exceptions.report() + bytes([self.rtio.errors]))
        self._end()

    def _end(self) -> None:
        self.finished = self.finished_cleanly = True
        self.machine.pause()
        self._cache.release()

    def _write_attributes_back(self) -> None:
        """Send all attributes of host objects, by the table `typeinfo` (ksupport/lib.rs)."""
        machine = self.machine
        assert machine.library is not None
        types = machine.library.symbols.get("typeinfo")
        if types is None:
            return
        for kind in self._pointers(types):
            attributes, objects = machine.read_word(kind), machine.read_word(kind + 4)
            for item in self._pointers(objects):
                for attribute in self._pointers(attributes):
                    self._write_attribute_back(item, attribute)

    def _pointers(self, table: int) -> list[int]:
        """A table of pointers up to a null pointer."""
        result = []
        while pointer := self.machine.read_word(table):
            result.append(pointer)
            table += 4
        return result

    def _write_attribute_back(self, item: int, attribute: int) -> None:
        machine = self.machine
        tag = machine.read_slice(attribute + 4)
        if not tag:
            return
        offset = machine.read_word(attribute)
        # three arguments by pointer: the object, the attribute's name and its value
        scratch = support.HEAP + support.HEAP_SIZE - support.PAGE
        machine.write(scratch, struct.pack("<IIII", scratch + 12, attribute + 12, item + offset, item))
        body = rpc.arguments_to_wire(machine, _ATTRIBUTES, tag, scratch)
        self._send(self._reply.RPCRequest, b"\x01" + body)

    def _rtio_log(self) -> None:
        """To the analyzer, as in hardware, and to our log."""
        text = self._log.format()
        self._log.print(text)
        self.rtio.log(text.encode())

    # Remote procedure calls

    def _rpc_send(self, asynchronous: bool) -> None:
        """rpc_send(service, tag, arguments): the host serves asynchronous calls at once, too."""
        machine = self.machine
        self.rtio.drain()
        self.rtio.counter += self._model.async_rpc_mu if asynchronous else 0
        tag = machine.read_slice(machine.argument(1))
        body = rpc.arguments_to_wire(machine, machine.argument(0), tag, machine.argument(2))
        self._send(self._reply.RPCRequest, bytes([asynchronous]) + body)
        if asynchronous:
            machine.pause()
            machine.resume()

    def _rpc_receive(self) -> None:
        """rpc_recv(slot) -> size of the next buffer, or 0 at the end."""
        if self._receiver is not None:
            self._continue(self.machine.argument(0))
        elif self._answer is None:
            self.awaits_host = True
            self.machine.pause()  # until `receive`
        else:
            self._begin()

    def receive(self, kind: int, body: rpc.Source) -> None:
        """A message from the host: the result or the exception of the call that the kernel waits for.

        :raises ValueError: it is something else
        """
        if kind not in (self._request.RPCReply.value, self._request.RPCException.value):
            raise ValueError(f"message {kind} from the host while a kernel waits for a result")
        self.awaits_host = False
        self._answer = (kind, body)
        if self.machine.paused:
            self._begin()

    def _begin(self) -> None:
        assert self._answer is not None
        (kind, reader), self._answer = self._answer, None
        self.rtio.counter += self._model.rpc_mu
        if kind == self._request.RPCException.value:
            name, message, *rest = _EXCEPTION.unpack(reader.take(_EXCEPTION.size))
            self.exceptions.raise_from_host(name, message, tuple(rest[:3]), *rest[3:])
            return
        tag = reader.take(reader.word())
        self._receiver = rpc.receive(self.machine, tag, reader, self.machine.argument(0))
        self._continue(None)

    def _continue(self, slot: int | None) -> None:
        assert self._receiver is not None
        try:
            size = self._receiver.send(slot)  # type: ignore[arg-type]
        except StopIteration:
            size, self._receiver = 0, None
        self.machine.set_result(size)
        self.machine.resume()

    # Cache

    def _cache_get(self) -> None:
        self.rtio.counter += self._model.cache_mu
        self._cache.get()

    def _cache_put(self) -> None:
        self.rtio.counter += self._model.cache_mu
        if not self._cache.put():
            self.exceptions.raise_("CacheError", "cannot put into a busy cache row")
