"""Connection of ARTIQ's host code to the emulator in place of a core device.

`EmulatedComm` is a `CommKernel` whose reads run the emulated CPU until it says something, and whose writes go
to the emulated firmware. All of ARTIQ's protocol code (remote calls, exceptions, attribute writeback) stays
in use, in the version that is installed.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

from artiq.coredevice.comm_kernel import CommKernel, LoadError

from sim_devices.engines.kasli.elf import LoadError as LibraryError
from sim_devices.engines.kasli.firmware import Firmware
from sim_devices.engines.kasli.rpc import Reader

_HEADER = 5  # four synchronisation bytes and the type


class EmulatedComm(CommKernel):  # type: ignore[misc]
    """Connection to the emulated core device. The firmware is started with the first kernel."""

    def __init__(self, start_firmware: Callable[[], Firmware]) -> None:
        super().__init__("emulated core device")
        self._start_firmware = start_firmware
        self._firmware: Firmware | None = None
        self._position = 0
        self.core: Any = None

    @property
    def firmware(self) -> Firmware:
        if self._firmware is None:
            self._firmware = self._start_firmware()
        return self._firmware

    def open(self) -> None:
        if hasattr(self, "endian"):
            return
        self.endian = "<"
        self.unpack_int32 = struct.Struct("<l").unpack
        self.unpack_int64 = struct.Struct("<q").unpack
        self.unpack_float64 = struct.Struct("<d").unpack
        self.pack_header = struct.Struct("<lB").pack
        self.pack_int8 = struct.Struct("<B").pack
        self.pack_int32 = struct.Struct("<l").pack
        self.pack_int64 = struct.Struct("<q").pack
        self.pack_float64 = struct.Struct("<d").pack

    def close(self) -> None:
        """Drop a kernel that runs, as the firmware when the host disconnects."""
        if self._firmware is not None:
            self._firmware.stop()
        self.read_buffer = bytearray()
        self.write_buffer = bytearray()
        self._position = 0

    def _read(self, length: int) -> bytes:
        end = self._position + length
        while len(self.read_buffer) < end:
            del self.read_buffer[: self._position]
            self._position = 0
            end = length
            self.read_buffer += self.firmware.run()
        result = bytes(self.read_buffer[self._position : end])
        self._position = end
        return result

    def _write(self, data: bytes) -> None:
        self.write_buffer += data

    def _flush(self) -> None:
        message, self.write_buffer = bytes(self.write_buffer), bytearray()
        self.firmware.receive(message[_HEADER - 1], Reader(message[_HEADER:]))

    def check_system_info(self) -> None:
        """The emulated firmware always has the version of the host code."""
        self.open()

    def load(self, kernel_library: bytes) -> None:
        self.close()
        self.open()
        try:
            self.firmware.load(kernel_library)
        except LibraryError as error:
            raise LoadError(str(error)) from error

    def upload_subkernel(self, kernel_library: bytes, id: int, destination: int) -> None:
        raise LoadError("the emulated core device has no satellites: subkernels do not run on it")

    def run(self) -> None:
        self.firmware.start()
