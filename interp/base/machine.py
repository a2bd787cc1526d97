"""What the machine has: processor, memory (a container's limit counts), and what this process uses.

Read from the system's own files on Linux; elsewhere what cannot be known is None. `root` is where
those files are.
"""

import os
import platform
import resource
from pathlib import Path

ROOT = Path("/")
_UNLIMITED = 2**60


def cpu_model() -> str:
    """The processor's name."""
    for line in _lines(Path("/proc/cpuinfo")):
        name, _, value = line.partition(":")
        if name.strip() == "model name":
            return value.strip()
    return platform.processor() or platform.machine()


def resident() -> int:
    """Bytes of memory that this process holds now; its peak where that is all that is known."""
    found = _fields(Path("/proc/self/status")).get("VmRSS")
    return found if found is not None else peak()


def writable() -> int | None:
    """Bytes that this process has asked for to write to, touched or not; None where none says."""
    return _fields(Path("/proc/self/status")).get("VmData")


def peak() -> int:
    """Bytes of memory that this process held at most."""
    found = _fields(Path("/proc/self/status")).get("VmHWM")
    if found is not None:
        return found
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return used if platform.system() == "Darwin" else used * 1024


def cores(root: Path = ROOT) -> int:
    """Processor cores that this process may use, a container's share counted."""
    allowed = getattr(os, "sched_getaffinity", None)
    count = len(allowed(0)) if allowed else os.cpu_count() or 1
    group = _group(root, "cpu", "cpu.max", "cpu.cfs_quota_us")
    if group is None:
        return count
    text = " ".join(_lines(group / "cpu.max") or _lines(group / "cpu.cfs_quota_us"))
    quota, _, period = text.partition(" ")
    period = period or "".join(_lines(group / "cpu.cfs_period_us"))
    if quota.isdigit() and period.isdigit() and int(period):
        return min(count, max(1, round(int(quota) / int(period))))
    return count


def total(root: Path = ROOT) -> int | None:
    """Bytes of memory that the machine, or the container, has."""
    sizes = [_fields(root / "proc/meminfo").get("MemTotal"), container_limit(root)]
    return min((size for size in sizes if size is not None), default=None)


def available(root: Path = ROOT) -> int | None:
    """Bytes that could be taken now without swapping or being killed."""
    sizes = [_fields(root / "proc/meminfo").get("MemAvailable")]
    most, group = container_limit(root), _memory_group(root)
    if most is not None and group is not None:
        used = _number(group / "memory.current") or _number(group / "memory.usage_in_bytes") or 0
        stat = dict(line.split() for line in _lines(group / "memory.stat") if " " in line)
        cache = int(stat.get("total_inactive_file", stat.get("inactive_file", 0)))
        sizes.append(max(0, most - used + cache))
    return min((size for size in sizes if size is not None), default=None)


def container_limit(root: Path = ROOT) -> int | None:
    """Bytes that the process's control group may hold (version 1 or 2); None without a limit."""
    group = _memory_group(root)
    if group is None:
        return None
    found = _number(group / "memory.max") or _number(group / "memory.limit_in_bytes")
    return None if found is None or found >= _UNLIMITED else found


def _memory_group(root: Path) -> Path | None:
    return _group(root, "memory", "memory.max", "memory.limit_in_bytes")


def _group(root: Path, controller: str, *names: str) -> Path | None:
    """The folder of this process's control group, or of the root that a container sees."""
    for line in _lines(root / "proc/self/cgroup"):
        _, controllers, path = [*line.split(":", 2), "", ""][:3]
        if controllers and controller not in controllers.split(","):
            continue
        top = root / "sys/fs/cgroup" / (controller if controllers else "")
        for folder in (top / path.strip("/"), top):
            if any((folder / name).is_file() for name in names):
                return folder
    return None


def _number(path: Path) -> int | None:
    text = "".join(_lines(path)).strip()
    return int(text) if text.isdigit() else None


def _fields(path: Path) -> dict[str, int]:
    """Bytes by field of files such as /proc/meminfo, which count in kB."""
    found = {}
    for line in _lines(path):
        name, _, value = line.partition(":")
        if value.strip().endswith(" kB"):
            found[name] = int(value.split()[0]) * 1024
    return found


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(errors="replace").splitlines()
    except OSError:
        return []
