"""Processors and memory that this process may use, which in a job is not what the machine has.

A container and a batch job see every processor in ``os.cpu_count()`` and all memory in
``/proc/meminfo``; what they may use of it stands in the control groups that the kernel keeps
them to and in what the batch system granted. The smallest limit counts.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

GIB = 2**30
MIB = 2**20

COUNT = re.compile(r"(\d+)(\(x\d+\))?", re.ASCII)
"""A count, or a count per node for a number of nodes, as Slurm writes them: 4, 4(x2)."""


def available_processors() -> int:
    """Count the processors that this process may use: at least 1.

    Returns
    -------
    int
        The smallest of the processors that it may be scheduled on, the quotas of its control
        groups (rounded down) and what Slurm granted.

    References
    ----------
    sched_setaffinity(2), which also tells the processors left by a cpuset; the others stand with
    the functions that read them.
    """
    return _processors(_affinity(), Path("/"), os.environ)


def keep_freed_memory() -> None:
    """Let glibc keep what this process frees, for what it allocates next.

    By itself glibc gets large blocks from the kernel and returns them at once; filling each anew
    with zeroed pages takes a third of the network's time and a tenth of a registration's.

    References
    ----------
    mallopt(3): M_MMAP_MAX and M_TRIM_THRESHOLD.
    """
    with contextlib.suppress(OSError, AttributeError):
        library = ctypes.CDLL(None)
        library.mallopt(-4, 0)
        library.mallopt(-1, 2**31 - 1)


def give_memory_back() -> None:
    """Let glibc return what is free: a process that rests must not hold what others need.

    References
    ----------
    malloc_trim(3).
    """
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


def available_memory_gb() -> float:
    """Give the memory that this process may use, in GiB.

    Returns
    -------
    float
        The smallest of the machine's memory, the limits of the process's control groups and what
        Slurm granted.
    """
    return _memory(available_processors(), Path("/"), os.environ) / GIB


def _affinity() -> int:
    # macOS has no affinity.
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _processors(affinity: int, root: Path, environment: Mapping[str, str]) -> int:
    slurm = _slurm_processors(environment)
    limits = [affinity, *_quotas(root), *([slurm] if slurm else [])]
    return max(min(limits), 1)


def _memory(processors: int, root: Path, environment: Mapping[str, str]) -> int:
    granted = _slurm_memory(processors, environment)
    return min([_physical_memory(root), *_memory_limits(root), *granted])


def _quotas(root: Path) -> list[int]:
    """Give the whole processors that each control group's quota allows.

    References
    ----------
    Version 2: ``cpu.max`` holds the quota, or ``max``, and the period,
    https://docs.kernel.org/admin-guide/cgroup-v2.html. Version 1: ``cpu.cfs_quota_us``, -1 where
    there is none, and ``cpu.cfs_period_us``, https://docs.kernel.org/scheduler/sched-bwc.html.
    """
    found = []
    for group in _control_groups(root, "cpu"):
        newer = _read(group / "cpu.max").split()
        older = [_read(group / f"cpu.cfs_{name}_us") for name in ("quota", "period")]
        for pair in (newer, older):
            quota, period = (_positive(text) for text in [*pair, "", ""][:2])
            if quota and period:
                found.append(quota // period)
    return found


def _memory_limits(root: Path) -> list[int]:
    """Give the limits of the control groups, in bytes.

    References
    ----------
    Version 2: ``memory.max``, at which a process is killed, and ``memory.high``, above which it
    is slowed down until it is of no use; ``max`` where there is none,
    https://docs.kernel.org/admin-guide/cgroup-v2.html. Version 1: ``memory.limit_in_bytes``, a
    number beyond any memory where there is none,
    https://docs.kernel.org/admin-guide/cgroup-v1/memory.html.
    """
    names = ("memory.max", "memory.high", "memory.limit_in_bytes")
    groups = _control_groups(root, "memory")
    limits = (_positive(_read(group / name)) for group in groups for name in names)
    return [limit for limit in limits if limit]


def _control_groups(root: Path, controller: str) -> list[Path]:
    """Give the folders of this process's control groups and of their ancestors.

    A limit holds for all groups below it, and each may set its own, so all must be asked:
    https://docs.kernel.org/admin-guide/cgroup-v2.html, "Top-down Constraint". The lines of
    ``/proc/self/cgroup`` are ``number:controllers:path``, for version 2 ``0::path``: cgroups(7).
    Where they are mounted is systemd's convention: version 2 at ``/sys/fs/cgroup``, or at
    ``unified`` there beside version 1, whose controllers have a folder each. In a container
    the path may be the host's, which is not there; then the mount is the container's own group.
    """
    top = root / "sys" / "fs" / "cgroup"
    folders = []
    for line in _read(root / "proc" / "self" / "cgroup").splitlines():
        number, names, path = [*line.split(":", 2), "", ""][:3]
        if (number, names) == ("0", ""):
            mounts = [top, top / "unified"]
        elif controller in names.split(","):
            mounts = [top / names, top / controller]
        else:
            continue
        inside = PurePosixPath(path.lstrip("/"))
        if ".." in inside.parts:  # outside of what the mount shows
            inside = PurePosixPath()
        folders += [mount / part for mount in mounts for part in (inside, *inside.parents)]
    return folders


def _physical_memory(root: Path) -> int:
    """Give the machine's memory in bytes: ``MemTotal``, proc_meminfo(5).

    Not ``MemAvailable``: the other limits do not count what is in use at the moment either, and
    that is gone a minute later. The same command would plan differently each time, or refuse a
    step for want of memory that another program was about to give back.
    """
    found = re.search(r"^MemTotal:\s+(\d+) kB$", _read(root / "proc" / "meminfo"), re.MULTILINE)
    if found:
        return int(found[1]) * 1024
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _slurm_processors(environment: Mapping[str, str]) -> int | None:
    """Give the processors that Slurm granted to a task, or to the step where tasks have no size.

    References
    ----------
    ``SLURM_CPUS_PER_TASK`` (only set where it was asked for) and ``SLURM_CPUS_ON_NODE``:
    https://slurm.schedmd.com/sbatch.html, "Output environment variables".
    """
    names = ("SLURM_CPUS_PER_TASK", "SLURM_CPUS_ON_NODE")
    counts = (_positive(environment.get(name, "")) for name in names)
    return next((count for count in counts if count), None)


def _slurm_memory(processors: int, environment: Mapping[str, str]) -> list[int]:
    """Give the memory that Slurm granted on this node, in bytes; none if it is all of it.

    References
    ----------
    ``SLURM_MEM_PER_NODE`` and ``SLURM_MEM_PER_CPU``, in MiB; 0 asks for all of the node:
    https://slurm.schedmd.com/sbatch.html, "--mem".
    """
    node = _positive(environment.get("SLURM_MEM_PER_NODE", ""))
    each = _positive(environment.get("SLURM_MEM_PER_CPU", ""))
    granted = (node, each and each * (_slurm_processors(environment) or processors))
    return [limit * MIB for limit in granted if limit]


def _positive(text: str) -> int | None:
    """Read a count; nothing where it says that there is no limit, or makes no sense."""
    found = COUNT.fullmatch(text.strip())
    return int(found[1]) or None if found else None


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="surrogateescape")
    except (OSError, ValueError):
        return ""
