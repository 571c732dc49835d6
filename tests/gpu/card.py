"""What the driver says of a card, asked beside the daemon; and a process that holds memory of it. Only the standard library:
NVIDIA's two libraries by ctypes. LLM_MANAGER_NVML names another driver library, as for the daemon."""
import contextlib
import ctypes
import os
import subprocess
import sys
import time

INSUFFICIENT_SIZE = 7


class Memory(ctypes.Structure):
    _fields_ = [("version", ctypes.c_uint), ("total", ctypes.c_ulonglong), ("reserved", ctypes.c_ulonglong),
                ("free", ctypes.c_ulonglong), ("used", ctypes.c_ulonglong)]


class Process(ctypes.Structure):
    _fields_ = [("pid", ctypes.c_uint), ("bytes", ctypes.c_ulonglong), ("gpu", ctypes.c_uint), ("compute", ctypes.c_uint)]


class NoCard(Exception):
    """There is nothing to test on; the text says why."""


class Card:
    """The first card on the bus, or of those that CUDA_VISIBLE_DEVICES leaves the first of a plain number."""

    def __init__(self):
        name = os.environ.get("LLM_MANAGER_NVML", "libnvidia-ml.so.1")
        try:
            self._nvml = ctypes.CDLL(name)
        except OSError:
            raise NoCard(f"no driver of NVIDIA's ({name})") from None
        if self._nvml.nvmlInit_v2() != 0:
            raise NoCard("NVIDIA's driver does not work")
        count = ctypes.c_uint()
        self._nvml.nvmlDeviceGetCount_v2(ctypes.byref(count))
        if count.value == 0:
            raise NoCard("no card")
        visible = os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0]
        self._handle = ctypes.c_void_p()
        if self._nvml.nvmlDeviceGetHandleByIndex_v2(int(visible or 0), ctypes.byref(self._handle)) != 0:
            raise NoCard(f"no card {visible}")

    def _text(self, function, *arguments):
        text = ctypes.create_string_buffer(96)
        getattr(self._nvml, function)(*arguments, text, 95)
        return text.value.decode()

    @property
    def name(self):
        return self._text("nvmlDeviceGetName", self._handle)

    @property
    def driver(self):
        return self._text("nvmlSystemGetDriverVersion")

    def memory(self):
        out = Memory(version=ctypes.sizeof(Memory) | 2 << 24)
        status = self._nvml.nvmlDeviceGetMemoryInfo_v2(self._handle, ctypes.byref(out))
        if status != 0:
            raise AssertionError(f"the driver does not tell the card's memory: {status}")
        return out

    def free(self):
        return self.memory().free

    def processes(self):
        """Bytes by pid, of those that compute or draw."""
        found = {}
        for function in ("nvmlDeviceGetComputeRunningProcesses_v3", "nvmlDeviceGetGraphicsRunningProcesses_v3"):
            room = 64
            while True:
                count, out = ctypes.c_uint(room), (Process * room)()
                status = getattr(self._nvml, function)(self._handle, ctypes.byref(count), out)
                if status != INSUFFICIENT_SIZE:
                    break
                room = 2 * max(room, count.value)
            if status == 0:
                for each in out[:count.value]:
                    found[each.pid] = max(found.get(each.pid, 0), each.bytes)
        return found

    def watch_release(self, pid, free_before, limit_s=10):
        """Seconds from now until the process is in no list, and until the card has what it had; None where it never does."""
        began = time.monotonic()
        gone = back = None
        while (now := time.monotonic() - began) < limit_s and (gone is None or back is None):
            if gone is None and pid not in self.processes():
                gone = now
            if back is None and self.free() >= free_before:
                back = now
        return gone, back


# Run in a process of its own: takes BYTES of the first card, says so, and holds them until its input ends. With "copy" it
# measures how fast bytes come to the card, from memory that is pinned and from memory that is not.
_HOLDER = r"""
import ctypes, sys, time
cuda = ctypes.CDLL("libcuda.so.1")
def check(status, what):
    if status:
        print("error", what, status, flush=True)
        sys.exit(1)
check(cuda.cuInit(0), "cuInit")
device, context, there = ctypes.c_int(), ctypes.c_void_p(), ctypes.c_uint64()
check(cuda.cuDeviceGet(ctypes.byref(device), 0), "cuDeviceGet")
check(cuda.cuDevicePrimaryCtxRetain(ctypes.byref(context), device), "context")
check(cuda.cuCtxSetCurrent(context), "current")
size = int(sys.argv[1])
check(cuda.cuMemAlloc_v2(ctypes.byref(there), ctypes.c_size_t(size)), "alloc")
if sys.argv[2:] == ["copy"]:
    def fastest(source):
        best = 0.0
        for _ in range(4):
            began = time.perf_counter()
            check(cuda.cuMemcpyHtoD_v2(there, source, ctypes.c_size_t(size)), "copy")
            check(cuda.cuCtxSynchronize(), "synchronize")
            best = max(best, size / (time.perf_counter() - began))
        return best
    pinned = ctypes.c_void_p()
    check(cuda.cuMemAllocHost_v2(ctypes.byref(pinned), ctypes.c_size_t(size)), "pinned memory")
    plain = ctypes.create_string_buffer(size)
    ctypes.memset(plain, 1, size)
    print(fastest(pinned), fastest(plain), flush=True)
else:
    print("holds", flush=True)
    sys.stdin.read()
"""


def _holder(*arguments):
    environment = dict(os.environ, CUDA_DEVICE_ORDER="PCI_BUS_ID")
    return subprocess.Popen([sys.executable, "-c", _HOLDER, *map(str, arguments)], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                            text=True, env=environment)


@contextlib.contextmanager
def held(size):
    """Another process holds so much of the card; gives its pid."""
    with _holder(size) as process:
        try:
            said = process.stdout.readline()
            if said != "holds\n":
                raise AssertionError(f"{size} bytes of the card could not be taken: {said!r}")
            yield process.pid
        finally:
            process.kill()


def copy_speed(size=1 << 30):
    """Bytes a second to the card, from pinned memory and from plain memory."""
    with _holder(size, "copy") as process:
        said = process.communicate(timeout=60)[0].split()
    if len(said) != 2:
        raise AssertionError(f"the copy could not be measured: {said}")
    return float(said[0]), float(said[1])


def can_compute():
    """Whether there is a CUDA driver: not so where the driver library is the stand-in."""
    try:
        ctypes.CDLL("libcuda.so.1")
        return True
    except OSError:
        return False
