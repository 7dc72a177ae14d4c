"""CPU that runs a kernel: the `unicorn` emulator, its memory, and the calls from a stub to Python.

A stub of the support code (see `support`) stores the registers in the mailbox and writes the number of its
service to the trap page. That write calls `services[number]()`, which works on the mailbox and on memory
through views, without calls into the emulator. A service that cannot answer yet (a remote call that the host
has to serve first) calls `pause`; the CPU then waits in a loop of the support code until `resume`.
"""

from __future__ import annotations

import ctypes
import mmap
from collections.abc import Callable, Mapping

from unicorn import UC_ARCH_RISCV, UC_MODE_RISCV32, UC_PROT_ALL, Uc, UcError
from unicorn.riscv_const import UC_RISCV_REG_A0, UC_RISCV_REG_MSTATUS, UC_RISCV_REG_PC, UC_RISCV_REG_SP

from sim_devices.engines.kasli import support
from sim_devices.engines.kasli.elf import Library, load

PAYLOAD = 0x4506_0000  # where the firmware loads kernels (libproto_artiq/kernel_proto.rs)
STACK_TOP = 0x4FFF_FFF0
STACK_SIZE = 0x200_0000
_FLOATING_POINT_ON = 0x6000  # mstatus.FS
_REGIONS = {
    support.CODE: 2 * support.PAGE,
    support.MAILBOX: support.PAGE,
    support.RING: support.RING_SIZE + support.PAGE,
    support.HEAP: support.HEAP_SIZE,
}

_A0 = (support.X >> 2) + 10
_FA0 = (support.F >> 3) + 10


class MachineError(Exception):
    """The emulated CPU hit an illegal instruction or memory that is not there."""


class KernelInterrupted(Exception):
    """Somebody asked to stop the kernel."""


class Region:
    """Memory shared with the emulator."""

    def __init__(self, start: int, size: int) -> None:
        self.start = start
        self.size = -(-size // support.PAGE) * support.PAGE
        self._pages = mmap.mmap(-1, self.size)
        self.bytes = memoryview(self._pages)
        self.address = ctypes.addressof(ctypes.c_char.from_buffer(self._pages))


class Machine:
    """One CPU. Support code, mailbox and heap stay from kernel to kernel; `load` replaces the kernel.

    :param strings_in_registers: how the compiler passes strings to services: pointer and length in two
        registers (ARTIQ 9), or the address of the two in one
    """

    def __init__(self, strings_in_registers: bool = True) -> None:
        self._strings_in_registers = strings_in_registers
        self._services: list[Callable[[], None]] = []
        self.symbols: dict[str, int] = {}
        self._shared = {start: Region(start, size) for start, size in _REGIONS.items()}
        mailbox = self._shared[support.MAILBOX].bytes
        self.words = mailbox.cast("I")
        self.signed = mailbox.cast("i")
        self.longs = mailbox.cast("q")
        self.doubles = mailbox.cast("d")
        self.doubles[support.LIMIT >> 3] = float(1 << 31)
        self._ring = self._shared[support.RING].bytes
        self.words[support.RING_NEXT >> 2] = support.RING
        self.words[support.RING_END >> 2] = support.RING + support.RING_SIZE
        self._emulator: Uc | None = None
        self._image: Region | None = None
        self._stack: Region | None = None
        self._failure: BaseException | None = None
        self._paused = False
        self._interrupted = False
        self._next = 0
        self.library: Library | None = None

    def connect(self, services: Mapping[str, Callable[[], None]]) -> None:
        """Make the stubs that kernels are linked to.

        :param services: what they call, by the name of the symbol; arguments and results are in registers
        """
        self._services = list(services.values())
        code, self.symbols = support.support_code(list(services))
        self._shared[support.CODE].bytes[: len(code)] = code

    # Running

    def load(self, data: bytes, data_symbols: Mapping[str, int]) -> Library:
        """Put a kernel in memory, ready to start. Raises `elf.LoadError`."""
        addresses = dict(self.symbols) | dict(data_symbols)
        library = load(data, PAYLOAD, addresses.get)
        self._image = Region(PAYLOAD, len(library.image))
        self._image.bytes[: len(library.image)] = bytes(library.image)
        self._stack = Region(STACK_TOP + 16 - STACK_SIZE, STACK_SIZE)
        emulator = Uc(UC_ARCH_RISCV, UC_MODE_RISCV32)
        for region in (*self._shared.values(), self._image, self._stack):
            emulator.mem_map_ptr(region.start, region.size, UC_PROT_ALL, region.address)
        emulator.mmio_map(support.TRAP, support.PAGE, None, None, self._trap, None)
        status = emulator.reg_read(UC_RISCV_REG_MSTATUS)
        emulator.reg_write(UC_RISCV_REG_MSTATUS, status | _FLOATING_POINT_ON)
        emulator.reg_write(UC_RISCV_REG_SP, STACK_TOP)
        emulator.reg_write(UC_RISCV_REG_A0, library.symbols["__modinit__"])
        self._next = self.symbols[support.START]
        self._emulator = emulator
        self._interrupted = False
        self.library = library
        return library

    def unload(self) -> None:
        """Forget the kernel, wherever it is."""
        self._emulator = self._image = self._stack = self.library = None

    def run(self) -> None:
        """Run until a service pauses the CPU; what a service raises comes through."""
        emulator = self._emulator
        assert emulator is not None
        self._paused = False
        start, self._next = self._next, self.symbols["wait"]
        try:
            if not self._interrupted:
                emulator.emu_start(start, 0xFFFF_FFFF)
        except UcError as error:
            failure, self._failure = self._failure, None
            if failure is not None:
                raise failure from None
            pc = emulator.reg_read(UC_RISCV_REG_PC)
            raise MachineError(
                f"{error} at {pc - PAYLOAD:#x} of the kernel; a stack overflow, or a bug of the emulated core"
            ) from error
        failure, self._failure = self._failure, None
        if failure is not None:
            raise failure
        if self._interrupted:
            raise KernelInterrupted
        if not self._paused:
            raise MachineError("the kernel stopped by itself")

    def interrupt(self) -> None:
        """From another thread: `run` raises KernelInterrupted. Repeat until it does: it may be starting."""
        self._interrupted = True
        if (emulator := self._emulator) is not None:
            emulator.emu_stop()

    def pause(self) -> None:
        """From a service: let `run` return. The service's caller waits until `resume`."""
        self._paused = True
        assert self._emulator is not None
        self._emulator.emu_stop()

    @property
    def paused(self) -> bool:
        return self._paused

    def resume(self, status: int = support.RETURN) -> None:
        """The service that the CPU waits for is done; `run` will go on behind it."""
        self.words[support.STATUS >> 2] = status

    def _trap(self, emulator: Uc, offset: int, size: int, service: int, user_data: object) -> None:
        try:
            self._services[service]()
            if not self._paused:
                self.words[support.STATUS >> 2] = self.words[support.STATUS >> 2] or support.RETURN
        except BaseException as error:
            self._failure = error
            emulator.emu_stop()

    # Registers of the caller

    def argument(self, index: int) -> int:
        """Unsigned argument register."""
        return self.words[_A0 + index]

    def signed_argument(self, index: int) -> int:
        return self.signed[_A0 + index]

    def long_argument(self, index: int) -> int:
        """Signed 64-bit argument in registers `index` and `index + 1`."""
        return self.signed[_A0 + index + 1] << 32 | self.words[_A0 + index]

    def double_argument(self, index: int) -> float:
        return self.doubles[_FA0 + index]

    def string_argument(self, index: int) -> tuple[str, int]:
        """A string, and the index of the argument behind it."""
        if self._strings_in_registers:
            return self.read(self.argument(index), self.argument(index + 1)).decode(), index + 2
        return self.read_slice(self.argument(index)).decode(), index + 1

    @property
    def return_address(self) -> int:
        return self.words[(support.X >> 2) + 1]

    @property
    def saved_registers(self) -> list[int]:
        """s0 to s11 of the service's caller."""
        first = support.X >> 2
        return [self.words[first + number] for number in (8, 9, *range(18, 28))]

    def stack(self, size: int) -> memoryview:
        """Words of the caller's stack, `size` bytes at most."""
        assert self._stack is not None
        offset = self.stack_pointer - self._stack.start
        return self._stack.bytes[offset : offset + size].cast("I")

    @property
    def stack_pointer(self) -> int:
        return self.words[(support.X >> 2) + 2]

    def set_result(self, value: int) -> None:
        self.words[_A0] = value & 0xFFFF_FFFF

    def set_long_result(self, value: int) -> None:
        self.words[_A0] = value & 0xFFFF_FFFF
        self.words[_A0 + 1] = value >> 32 & 0xFFFF_FFFF

    def set_double_result(self, value: float) -> None:
        self.doubles[_FA0] = value

    # Memory

    def _region(self, address: int, size: int) -> tuple[memoryview, int]:
        for region in (self._stack, self._image, *self._shared.values()):
            if (
                region is not None
                and region.start <= address
                and address + size <= region.start + region.size
            ):
                return region.bytes, address - region.start
        raise MachineError(f"no memory at {address:#x} ({size} bytes)")

    def read(self, address: int, size: int) -> bytes:
        if size == 0:
            return b""
        memory, offset = self._region(address, size)
        return bytes(memory[offset : offset + size])

    def write(self, address: int, data: bytes) -> None:
        if data:
            memory, offset = self._region(address, len(data))
            memory[offset : offset + len(data)] = data

    def read_word(self, address: int) -> int:
        return int.from_bytes(self.read(address, 4), "little")

    def write_word(self, address: int, value: int) -> None:
        self.write(address, (value & 0xFFFF_FFFF).to_bytes(4, "little"))

    def read_slice(self, address: int, item_size: int = 1) -> bytes:
        """The content of a (pointer, length) pair at `address`."""
        return self.read(self.read_word(address), item_size * self.read_word(address + 4))

    def take_outputs(self) -> memoryview | None:
        """Entries of the output ring since the last call as 32-bit words; None if there are none."""
        length = self.words[support.RING_NEXT >> 2] - support.RING
        if not length:
            return None
        self.words[support.RING_NEXT >> 2] = support.RING
        return self._ring[:length]
