"""What a loaded model is to the machine: a process that holds memory.

  resident.py BYTES SECONDS     says "ready", then waits

Small pages, every one of them touched, so that what is measured is what was asked for. It ends with its
parent (whose end of the pipe closes), except as an orphan: then SECONDS later, so that no test leaves one."""
import mmap
import sys
import time

size, lifetime = int(sys.argv[1]), float(sys.argv[2])
memory = mmap.mmap(-1, max(size, mmap.PAGESIZE), flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
if hasattr(mmap, "MADV_NOHUGEPAGE"):
    memory.madvise(mmap.MADV_NOHUGEPAGE)
for at in range(0, size, mmap.PAGESIZE):
    memory[at] = 1
print("ready", flush=True)
# "orphan\n": whoever started it is about to die and leaves it behind.
if sys.stdin.readline() == "orphan\n":
    time.sleep(lifetime)
