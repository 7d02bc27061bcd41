"""A real Slurm of two nodes on one machine: in namespaces of its own, so that it reaches nobody and ends as a whole."""

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

from luna_pipeline_tests.processes import wait_for

DAEMONS = ("munged", "slurmctld", "slurmd")
# Where Debian keeps daemons.
SEARCH = f"{os.environ['PATH']}:/usr/sbin"
CONFIGURATION = """
ClusterName=own
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
MpiDefault=none
KillWait=30
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
NodeName=n1 NodeHostname={host} NodeAddr=127.0.0.1 Port=26818 CPUs=1
NodeName=n2 NodeHostname={host} NodeAddr=127.0.0.1 Port=26819 CPUs=1
PartitionName=low Nodes=n1,n2 Default=YES MaxTime=INFINITE PriorityTier=1 GraceTime=30
PartitionName=high Nodes=n1,n2 MaxTime=INFINITE PriorityTier=10
"""
# An address that is not loopback's: without one the resolver of a network takes no number for an address.
START = """
set -e
ip link set lo up
ip link add own type dummy 2>/dev/null || ip link add own type bridge
ip address add 198.51.100.1/32 dev own
ip link set own up
printf '127.0.0.1 localhost {host} n1 n2\\n' >{folder}/hosts
mount --bind {folder}/hosts /etc/hosts
export SLURM_CONF={folder}/slurm.conf
munged -F --key-file={folder}/key --socket={folder}/munge --pid-file={folder}/munged.pid --seed-file={folder}/seed \
  --log-file={folder}/munged.log &
while [ ! -S {folder}/munge ]; do sleep 0.1; done
slurmctld -D -i &
slurmd -D -N n1 &
slurmd -D -N n2 &
wait
"""


def can_have_slurm() -> bool:
    """Return whether Slurm is installed and this user may make namespaces."""
    if not all(shutil.which(tool, path=SEARCH) for tool in (*DAEMONS, "sbatch", "unshare", "nsenter", "ip")):
        return False
    return subprocess.run(["unshare", "--net", "--mount", "true"], capture_output=True, check=False).returncode == 0


@dataclass(frozen=True)
class OwnSlurm:
    """A cluster, known by the first process of its namespaces."""

    first: int
    folder: Path

    def run(self, *arguments: str, environment: dict[str, str] | None = None) -> str:
        """Run one of Slurm's commands and return what it says."""
        inside = ["nsenter", "-t", str(self.first), "--net", "--mount", "--pid", f"--wd={self.folder}", *arguments]
        own = {"PATH": f"{Path(sys.executable).parent}:{SEARCH}", "SLURM_CONF": str(self.folder / "slurm.conf")}
        result = subprocess.run(
            inside, env={**os.environ, **own, **(environment or {})}, capture_output=True, text=True, check=False
        )
        assert result.returncode == 0, result.stderr
        return result.stdout

    def state(self, job: str) -> str:
        """Return a job's state, as PENDING or RUNNING."""
        said = self.run("scontrol", "show", "job", "-o", job)
        return said.partition("JobState=")[2].split()[0]


@contextlib.contextmanager
def own_slurm() -> Iterator[OwnSlurm]:
    """Start a cluster of two nodes of one CPU; at the end every process of it is killed."""
    # The socket's path is short, wherever tests keep their files.
    folder = Path(tempfile.mkdtemp(prefix="luna-slurm-", dir="/tmp"))
    # munge wants that all may reach its socket; its key is another matter.
    folder.chmod(0o711)
    host = os.uname().nodename
    (folder / "state").mkdir()
    (folder / "key").write_bytes(os.urandom(1024))
    (folder / "key").chmod(0o400)
    (folder / "slurm.conf").write_text(CONFIGURATION.format(host=host, folder=folder))
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [
                "unshare",
                "--net",
                "--mount",
                "--pid",
                "--fork",
                "--kill-child",
                "--mount-proc",
                "bash",
                "-c",
                START.format(host=host, folder=folder),
            ],
            env={**os.environ, "PATH": SEARCH},
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        first = wait_for(lambda: psutil.Process(process.pid).children(), limit_seconds=60, what="The first process")
        slurm = OwnSlurm(first[0].pid, folder)
        wait_for(lambda: _is_idle(slurm), limit_seconds=120, what="Two idle nodes")
        yield slurm
    finally:
        process.kill()
        process.wait()
        shutil.rmtree(folder, ignore_errors=True)


def _is_idle(slurm: OwnSlurm) -> bool:
    with contextlib.suppress(AssertionError):
        return slurm.run("sinfo", "-h", "-p", "low", "-t", "idle", "-o", "%D").strip() == "2"
    return False
