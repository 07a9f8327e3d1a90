"""A Slurm of one node, for real: on the loopback device, with two pretended GPUs."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

CONF = """\
ClusterName=lab
SlurmctldHost={host}(127.0.0.1)
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={root}/munge/socket
CryptoType=crypto/munge
SlurmctldPort={port}
SlurmdPort={next_port}
StateSaveLocation={root}/state
SlurmdSpoolDir={root}/spool
SlurmctldPidFile={root}/slurmctld.pid
SlurmdPidFile={root}/slurmd.pid
SlurmctldLogFile={root}/slurmctld.log
SlurmdLogFile={root}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SwitchType=switch/none
MpiDefault=none
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=1
JobAcctGatherParams=OverMemoryKill
AccountingStorageType=accounting_storage/none
ReturnToService=2
KillWait=10
MaxArraySize=4
GresTypes=gpu
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} RealMemory={memory} Gres=gpu:2 State=UNKNOWN
PartitionName=cpu Nodes={host} Default=YES MaxTime=INFINITE State=UP
"""


@dataclass(frozen=True)
class Slurm:
    """A cluster that is up."""

    root: Path

    def wait(self, seconds: float = 1200) -> None:
        """Wait until no job is left."""
        end = time.monotonic() + seconds
        while queue := self.ask("squeue", "--noheader", "--array"):
            assert time.monotonic() < end, queue
            time.sleep(0.5)

    @staticmethod
    def ask(*words: str) -> str:
        return subprocess.run(words, capture_output=True, text=True, check=True).stdout


@pytest.fixture
def image() -> str:
    """Give the image's file; Apptainer has to be on the PATH."""
    image = os.environ.get("VXMPREP_IMAGE")
    if not image:
        pytest.skip("VXMPREP_IMAGE names no image: make test-hpc IMAGE=vxmprep.sif")
    return image


def _until(true: Callable[[], bool], what: str) -> None:
    for _ in range(100):
        if true():
            return
        time.sleep(0.2)
    pytest.fail(f"{what} within 20 seconds")


def _says(words: list[str], said: str) -> bool:
    return said in subprocess.run(words, capture_output=True, text=True, check=False).stdout


@pytest.fixture(scope="session")
def slurm(tmp_path_factory) -> Iterator[Slurm]:
    lacking = [name for name in ("munged", "slurmctld", "slurmd") if shutil.which(name) is None]
    if lacking or os.geteuid():
        pytest.fail(f"needs root, and {', '.join(lacking) or 'nothing else'}: make test-hpc")
    root = tmp_path_factory.mktemp("slurm")
    for folder in (root, *root.parents):  # munge runs as a user of its own
        with contextlib.suppress(PermissionError):
            folder.chmod(folder.stat().st_mode | 0o755)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    machine = dict(
        word.split("=", 1) for word in subprocess.run(
            ["slurmd", "-C"], capture_output=True, text=True, check=True
        ).stdout.split() if "=" in word
    )  # fmt: skip
    conf = CONF.format(
        host=machine["NodeName"], root=root, port=port, next_port=port + 1,
        cpus=machine["CPUs"], memory=machine["RealMemory"],
    )  # fmt: skip
    (root / "slurm.conf").write_text(conf)
    gpus = f"NodeName={machine['NodeName']} Name=gpu Count=2 File=/dev/null,/dev/zero\n"
    (root / "gres.conf").write_text(gpus)
    for folder in ("munge", "state", "spool"):
        (root / folder).mkdir()
    (root / "munge" / "key").write_bytes(os.urandom(1024))
    (root / "munge" / "key").chmod(0o400)
    for path in (root / "munge", root / "munge" / "key"):
        shutil.chown(path, "munge", "munge")
    files = {"key-file": "key", "socket": "socket", "pid-file": "pid", "log-file": "log",
             "seed-file": "seed"}  # fmt: skip
    munge = [f"--{name}={root}/munge/{file}" for name, file in files.items()]
    subprocess.run(["runuser", "-u", "munge", "--", "munged", "--force", *munge], check=True)
    os.environ["SLURM_CONF"] = str(root / "slurm.conf")
    try:
        subprocess.run(["slurmctld"], check=True)
        _until(lambda: _says(["scontrol", "ping"], "is UP"), "slurmctld is not up")
        subprocess.run(["slurmd", "-N", machine["NodeName"]], check=True)
        _until(lambda: _says(["sinfo", "-h", "-o", "%t"], "idle"), "the node is not up")
        yield Slurm(root)
    finally:
        for file in ("slurmd.pid", "slurmctld.pid", "munge/pid"):
            with contextlib.suppress(OSError, ValueError):
                os.kill(int((root / file).read_text()), signal.SIGTERM)
        del os.environ["SLURM_CONF"]
