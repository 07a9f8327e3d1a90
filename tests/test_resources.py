"""Processors and memory of a process: made-up control groups, and Slurm's variables."""

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from vxmprep import resources
from vxmprep.resources import _memory, _physical_memory, _processors

GIB = 2**30
UNLIMITED_V1 = str(2**63 - 4096)


@pytest.fixture
def root(tmp_path) -> Path:
    """A machine of 64 GiB without control groups."""
    write(tmp_path, {"proc/meminfo": f"MemTotal:       {64 * 2**20} kB\nMemFree:  7 kB\n"})
    return tmp_path


def write(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def processors(root: Path, affinity: int = 64, **environment: str) -> int:
    return _processors(affinity, root, environment)


def memory(root: Path, processors: int = 64, **environment: str) -> float:
    return _memory(processors, root, environment) / GIB


def test_without_limits_all_of_the_machine_may_be_used(root):
    assert processors(root) == 64
    assert memory(root) == 64


def test_the_processors_a_process_may_be_scheduled_on_are_a_limit(root):
    assert processors(root, affinity=3) == 3


def test_without_any_file_the_machine_itself_is_asked(tmp_path):
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    assert _physical_memory(tmp_path) == machine
    assert processors(tmp_path, affinity=5) == 5


def test_memory_is_what_is_there_and_not_what_is_free(root):
    write(root, {"proc/meminfo": "MemTotal:  2097152 kB\nMemAvailable:  1024 kB\n"})
    assert memory(root) == 2


@pytest.mark.parametrize(
    ("quota", "expected"),
    [
        ("400000 100000\n", 4),
        ("350000 100000\n", 3),
        ("50000 100000\n", 1),
        ("max 100000\n", 64),
        ("nonsense\n", 64),
        ("400000\n", 64),
        ("", 64),
    ],
)
def test_a_quota_of_version_2_counts_in_whole_processors(root, quota, expected):
    write(root, {
        "proc/self/cgroup": "0::/user.slice/job\n",
        "sys/fs/cgroup/user.slice/job/cpu.max": quota,
    })  # fmt: skip
    assert processors(root) == expected


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"memory.max": "8589934592\n", "memory.high": "max\n"}, 8),
        ({"memory.max": "8589934592\n", "memory.high": "4294967296\n"}, 4),
        ({"memory.max": "max\n", "memory.high": "max\n"}, 64),
        ({"memory.max": "lots\n"}, 64),
    ],
)
def test_memory_of_version_2_is_the_smaller_of_its_two_limits(root, files, expected):
    write(root, {"proc/self/cgroup": "0::/job\n"})
    write(root / "sys/fs/cgroup/job", files)
    assert memory(root) == expected


def test_a_limit_of_an_ancestor_holds_for_the_process(root):
    write(root, {
        "proc/self/cgroup": "0::/slurm/job_1/step_0\n",
        "sys/fs/cgroup/slurm/cpu.max": "800000 100000",
        "sys/fs/cgroup/slurm/job_1/cpu.max": "200000 100000",
        "sys/fs/cgroup/slurm/job_1/step_0/cpu.max": "max 100000",
        "sys/fs/cgroup/slurm/memory.max": str(3 * GIB),
        "sys/fs/cgroup/slurm/job_1/memory.max": str(6 * GIB),
    })  # fmt: skip
    assert processors(root) == 2
    assert memory(root) == 3


def test_a_limit_of_a_group_beside_ours_is_not_ours(root):
    write(root, {
        "proc/self/cgroup": "0::/slurm/job_1\n",
        "sys/fs/cgroup/slurm/job_2/cpu.max": "100000 100000",
        "sys/fs/cgroup/slurm/job_1/below/memory.max": str(GIB),
    })  # fmt: skip
    assert processors(root) == 64
    assert memory(root) == 64


def test_in_a_container_the_mount_itself_holds_the_limits(root):
    write(root, {
        "proc/self/cgroup": "0::/\n",
        "sys/fs/cgroup/cpu.max": "150000 50000",
        "sys/fs/cgroup/memory.max": str(5 * GIB),
    })  # fmt: skip
    assert processors(root) == 3
    assert memory(root) == 5


@pytest.mark.parametrize("path", ["/docker/0a1b", "/../../elsewhere"])
def test_where_a_container_does_not_see_its_path_its_mount_is_asked(root, path):
    write(root, {
        "proc/self/cgroup": f"5:memory:{path}\n0::{path}\n",
        "sys/fs/cgroup/cpu.max": "200000 100000",
        "sys/fs/cgroup/memory/memory.limit_in_bytes": str(7 * GIB),
    })  # fmt: skip
    assert processors(root) == 2
    assert memory(root) == 7


def test_no_path_leads_out_of_the_mount(root):
    write(root, {
        "proc/self/cgroup": "0::/../../elsewhere\n",
        "sys/fs/cgroup/cgroup.procs": "",
        "sys/elsewhere/cpu.max": "100000 100000",
    })  # fmt: skip
    assert processors(root) == 64


@pytest.mark.parametrize("mount", ["cpu,cpuacct", "cpu"])
def test_a_quota_of_version_1_counts_in_whole_processors(root, mount):
    group = f"sys/fs/cgroup/{mount}/batch/job"
    write(root, {
        "proc/self/cgroup": "7:memory:/batch\n4:cpu,cpuacct:/batch/job\n",
        f"{group}/cpu.cfs_quota_us": "590000\n",
        f"{group}/cpu.cfs_period_us": "100000\n",
    })  # fmt: skip
    assert processors(root) == 5


def test_version_1_without_limits_allows_all(root):
    write(root, {
        "proc/self/cgroup": "7:memory:/job\n4:cpu:/job\n",
        "sys/fs/cgroup/cpu/job/cpu.cfs_quota_us": "-1\n",
        "sys/fs/cgroup/cpu/job/cpu.cfs_period_us": "100000\n",
        "sys/fs/cgroup/memory/job/memory.limit_in_bytes": UNLIMITED_V1,
    })  # fmt: skip
    assert processors(root) == 64
    assert memory(root) == 64


def test_memory_of_version_1_is_the_smallest_limit_on_the_way_up(root):
    write(root, {
        "proc/self/cgroup": "7:memory:/a/b\n",
        "sys/fs/cgroup/memory/a/b/memory.limit_in_bytes": UNLIMITED_V1,
        "sys/fs/cgroup/memory/a/memory.limit_in_bytes": str(9 * GIB),
        "sys/fs/cgroup/memory/memory.limit_in_bytes": UNLIMITED_V1,
    })  # fmt: skip
    assert memory(root) == 9


def test_with_both_versions_mounted_limits_of_both_are_found(root):
    write(root, {
        "proc/self/cgroup": "4:memory:/old\n1:name=systemd:/new\n0::/new\n",
        "sys/fs/cgroup/memory/old/memory.limit_in_bytes": str(10 * GIB),
        "sys/fs/cgroup/unified/new/cpu.max": "600000 100000",
    })  # fmt: skip
    assert processors(root) == 6
    assert memory(root) == 10


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"SLURM_CPUS_PER_TASK": "4", "SLURM_CPUS_ON_NODE": "16"}, 4),
        ({"SLURM_CPUS_ON_NODE": "16"}, 16),
        ({"SLURM_CPUS_ON_NODE": "4(x2)"}, 4),
        ({"SLURM_CPUS_PER_TASK": "", "SLURM_CPUS_ON_NODE": "8"}, 8),
        ({"SLURM_CPUS_PER_TASK": "four", "SLURM_CPUS_ON_NODE": "-2"}, 64),
        ({"SLURM_CPUS_PER_TASK": "0"}, 64),
        ({"SLURM_CPUS_PER_TASK": "128"}, 64),
    ],
)
def test_what_slurm_granted_is_a_limit_on_processors(root, environment, expected):
    assert processors(root, **environment) == expected


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"SLURM_MEM_PER_NODE": "16384"}, 16),
        ({"SLURM_MEM_PER_NODE": "0"}, 64),
        ({"SLURM_MEM_PER_NODE": "much"}, 64),
        ({"SLURM_MEM_PER_NODE": "1048576"}, 64),
        ({"SLURM_MEM_PER_CPU": "2048", "SLURM_CPUS_PER_TASK": "4"}, 8),
        ({"SLURM_MEM_PER_CPU": "2048", "SLURM_CPUS_ON_NODE": "6(x2)"}, 12),
        ({"SLURM_MEM_PER_CPU": "0", "SLURM_CPUS_PER_TASK": "4"}, 64),
    ],
)
def test_what_slurm_granted_is_a_limit_on_memory(root, environment, expected):
    assert memory(root, **environment) == expected


def test_memory_per_processor_counts_for_those_of_the_process_if_slurm_names_none(root):
    assert memory(root, processors=3, SLURM_MEM_PER_CPU="1024") == 3


def test_the_smallest_of_all_limits_counts(root):
    write(root, {
        "proc/self/cgroup": "0::/job\n",
        "sys/fs/cgroup/job/cpu.max": "600000 100000",
        "sys/fs/cgroup/job/memory.max": str(20 * GIB),
    })  # fmt: skip
    assert processors(root, affinity=8, SLURM_CPUS_PER_TASK="7") == 6
    assert processors(root, affinity=8, SLURM_CPUS_PER_TASK="5") == 5
    assert processors(root, affinity=2, SLURM_CPUS_PER_TASK="5") == 2
    assert memory(root, SLURM_MEM_PER_NODE="30720") == 20
    assert memory(root, SLURM_MEM_PER_NODE="10240") == 10


def test_this_process_may_use_no_more_than_the_machine_has(monkeypatch):
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", "1")
    monkeypatch.setenv("SLURM_MEM_PER_NODE", "512")
    assert resources.available_processors() == 1
    assert 0 < resources.available_memory_gb() <= 0.5


def test_nothing_heavy_is_imported():
    code = "import sys, vxmprep.resources; print({'numpy', 'nipype', 'torch'} & set(sys.modules))"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout.strip() == "set()"


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="no glibc")
@pytest.mark.parametrize(("keeps", "few"), [(True, True), (False, False)])
def test_memory_that_is_freed_is_kept_for_the_next_allocation(keeps, few):
    """Pages of the kernel are filled anew unless it is."""
    script = """
import resource, sys
from vxmprep.resources import keep_freed_memory
if sys.argv[1] == "True":
    keep_freed_memory()
faults = []
for _ in range(3):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    block = bytearray(b"x") * 200_000_000
    del block
    faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
print(faults[0], faults[-1])
"""
    command = [sys.executable, "-c", script, str(keeps)]
    found = subprocess.run(command, capture_output=True, text=True, check=True)
    first, last = map(int, found.stdout.split())
    assert (last < first / 10) is few
