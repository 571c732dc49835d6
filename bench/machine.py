"""The machine a benchmark runs on, and how quiet it is."""
import os
import platform
import statistics
import sys
import time


def spin() -> float:
    """Milliseconds for a fixed piece of single-threaded work: grows where others take the cores."""
    start = time.perf_counter()
    total = 0
    for i in range(200_000):
        total += i * i
    assert total
    return (time.perf_counter() - start) * 1000


def processor() -> str:
    try:
        with open("/proc/cpuinfo") as file:
            for line in file:
                if line.startswith("model name"):
                    return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.machine()


def stolen_ticks() -> tuple[int, int]:
    """(ticks that the host gave to others, all ticks) since boot."""
    with open("/proc/stat") as file:
        fields = [int(word) for word in file.readline().split()[1:9]]
    return fields[7], sum(fields)


def take_precedence():
    """Puts this session, and all that it starts, before everybody else's on the cores. Needs root."""
    try:
        os.setsid()
    except PermissionError:
        pass  # the leader of a group: its session is then ours alone in most shells
    os.setpriority(os.PRIO_PROCESS, 0, -15)
    # Where the kernel groups by session, niceness only counts within one.
    group = f"/proc/{os.getpid()}/autogroup"
    if os.path.exists(group):
        with open(group, "w") as file:
            file.write("-19")


class Noise:
    """Taken before a run and closed after it."""

    def __init__(self):
        self.cores = len(os.sched_getaffinity(0))
        self.load = os.getloadavg()[0]
        spins = [spin() for _ in range(20)]
        self.best, self.typical, self.worst = min(spins), statistics.median(spins), max(spins)
        self.stolen = stolen_ticks()
        self.after: float | None = None

    def close(self):
        self.after = os.getloadavg()[0]
        stolen, total = (b - a for a, b in zip(self.stolen, stolen_ticks()))
        self.stolen_share = stolen / total if total else 0.0

    @property
    def noisy(self) -> bool:
        return self.load > 0.5 * self.cores or self.worst > 1.5 * self.best

    def describe(self) -> str:
        after = "" if self.after is None else f", {self.after:.1f} after; {self.stolen_share:.1%} of the time stolen"
        return (f"{time.strftime('%Y-%m-%d %H:%M:%S')}, {self.cores} cores, {processor()}; load {self.load:.1f} before{after}; "
                f"a fixed spin takes {self.best:.1f} ms at best, {self.typical:.1f} typically, {self.worst:.1f} at worst")

    def warn(self):
        if self.noisy:
            print("bench: this machine is busy with something else: look at ratios, not at times, and repeat this when it is quiet",
                  file=sys.stderr)


def quantile(values, share: float) -> float:
    ordered = sorted(values)
    position = share * (len(ordered) - 1)
    below = int(position)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (position - below)
