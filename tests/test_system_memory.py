"""Memory of the machine, the process and its control groups, from fake and real files."""

import os
import sys

import pytest

from msdtool.system_memory import SystemMemory, peak_memory, system_memory

GB = 10**9
UNLIMITED_V1 = 9223372036854771712
V1_MOUNT = "33 23 0:30 / /sys/fs/cgroup/memory rw shared:9 - cgroup cgroup rw,memory"
V2_MOUNT = "31 23 0:28 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw"


@pytest.fixture
def root(tmp_path):
    """A machine of 64 GB, 50 of them available, and a process that occupies 1000 pages."""
    write(tmp_path, "proc/meminfo", "MemTotal: 64000000 kB\nMemFree: 1 kB\n"
          "MemAvailable: 50000000 kB\n")  # fmt: skip
    write(tmp_path, "proc/self/statm", "9000 1000 50 1 0 1 0\n")
    return tmp_path


def write(root, path, text):
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_text(str(text))


def mount(root, *lines):
    write(root, "proc/self/mountinfo", "\n".join(["22 1 8:1 / / rw - ext4 /dev/sda1 rw", *lines]))


def group(root, folder, version, limit, usage, cache=0):
    """Write the files of a control group; ``cache`` is the part of usage that files hold."""
    names = {
        1: ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
        2: ("memory.max", "memory.current", "inactive_file"),
    }
    for name, value in zip(names[version], (limit, usage), strict=False):
        write(root, f"{folder}/{name}", f"{value}\n")
    write(root, f"{folder}/memory.stat", f"anon 5\n{names[version][2]} {cache}\n")


def test_the_peak_of_this_process_is_read_in_bytes(root):
    write(root, "proc/self/status", "Name: x\nVmHWM:\t    2048 kB\nVmRSS:\t 1024 kB\n")
    assert peak_memory(root) == 2048 * 1024


def test_the_peak_of_this_process_is_at_least_what_it_occupies():
    peak, resident = peak_memory(), system_memory().resident
    assert peak is None or resident is None or peak >= resident > 0


@pytest.mark.parametrize(("platform", "unit"), [("linux", 1024), ("darwin", 1)])
def test_without_proc_the_peak_is_that_of_getrusage(monkeypatch, tmp_path, platform, unit):
    resource = pytest.importorskip("resource")
    monkeypatch.setattr("sys.platform", platform)
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert unit * most <= peak_memory(tmp_path) < 2 * unit * most


def test_windows_does_not_tell_the_peak(monkeypatch, tmp_path):
    monkeypatch.setattr("sys.platform", "win32")
    assert peak_memory(tmp_path) is None


def test_without_limits_the_machines_memory_is_available(root):
    assert system_memory(root) == SystemMemory(
        64_000_000 * 1024, 50_000_000 * 1024, 1000 * os.sysconf("SC_PAGE_SIZE")
    )


def test_where_nothing_is_known_nothing_is_said(tmp_path):
    assert system_memory(tmp_path) == SystemMemory(None, None, None)


def test_pages_have_the_size_that_the_system_says(root, monkeypatch):
    """ARM servers have pages of 64 KiB."""
    monkeypatch.setattr(os, "sysconf", lambda name: {"SC_PAGE_SIZE": 65536}[name])
    assert system_memory(root).resident == 65536 * 1000


def test_version_2_the_tightest_group_on_the_way_up_binds(root):
    """As a job of SLURM: the limit is the step's or the job's, the task itself has none."""
    write(root, "proc/self/cgroup", "0::/system.slice/slurmstepd.scope/job_7/step_0/task_0\n")
    mount(root, V2_MOUNT)
    scope = "sys/fs/cgroup/system.slice/slurmstepd.scope"
    group(root, f"{scope}/job_7/step_0/task_0", 2, "max", GB)
    group(root, f"{scope}/job_7/step_0", 2, 20 * GB, GB)
    group(root, f"{scope}/job_7", 2, 16 * GB, 4 * GB)
    group(root, scope, 2, 40 * GB, 10 * GB)
    group(root, f"{scope}/job_8", 2, GB, GB)  # another job's
    assert system_memory(root).available == 12 * GB


def test_version_1_of_a_slurm_job(root):
    write(root, "proc/self/cgroup", "9:cpu,cpuacct:/\n4:memory:/slurm/uid_5/job_7/step_0\n")
    mount(root, V1_MOUNT)
    job = "sys/fs/cgroup/memory/slurm/uid_5/job_7"
    group(root, f"{job}/step_0", 1, UNLIMITED_V1, 2 * GB)
    group(root, job, 1, 8 * GB, 3 * GB)
    group(root, "sys/fs/cgroup/memory", 1, UNLIMITED_V1, 30 * GB)
    assert system_memory(root).available == 5 * GB


def test_a_limit_of_the_topmost_group_counts(root):
    """What a container sees of its own group."""
    write(root, "proc/self/cgroup", "0::/\n")
    mount(root, V2_MOUNT)
    group(root, "sys/fs/cgroup", 2, 4 * GB, GB)
    assert system_memory(root).available == 3 * GB


@pytest.mark.parametrize("holder", [1, 2])
def test_a_hybrid_system_may_limit_by_either_version(root, holder):
    write(root, "proc/self/cgroup", "4:memory:/job\n1:name=systemd:/job\n0::/job\n")
    mount(root, V1_MOUNT, V2_MOUNT.replace("/sys/fs/cgroup", "/sys/fs/cgroup/unified"))
    folder = {1: "sys/fs/cgroup/memory/job", 2: "sys/fs/cgroup/unified/job"}
    group(root, folder[holder], holder, 6 * GB, GB)
    (root / folder[3 - holder]).mkdir(parents=True)
    assert system_memory(root).available == 5 * GB


@pytest.mark.parametrize(
    ("path", "mounted"),
    [
        ("/docker/abc", "/docker/abc"),  # the host's path, and the mount shows this group alone
        ("/docker/abc/inner", "/docker/abc"),
        ("/elsewhere", "/docker/abc"),  # outside of what is mounted
        ("/../../job", "/"),  # outside of the namespace
    ],
)
def test_a_container_may_see_a_part_of_the_groups(root, path, mounted):
    write(root, "proc/self/cgroup", f"4:memory:{path}\n")
    mount(root, V1_MOUNT.replace(" / /sys", f" {mounted} /sys"))
    group(root, "sys/fs/cgroup/memory", 1, 3 * GB, GB)
    group(root, "sys/fs/cgroup/memory/inner", 1, 30 * GB, GB)
    assert system_memory(root).available == 2 * GB


@pytest.mark.parametrize(("version", "line"), [(1, "4:memory:/job"), (2, "0::/job")])
def test_the_standard_mount_is_taken_where_none_is_listed(root, version, line):
    write(root, "proc/self/cgroup", f"{line}\n")
    folder = {1: "sys/fs/cgroup/memory/job", 2: "sys/fs/cgroup/job"}[version]
    group(root, folder, version, 2 * GB, GB)
    assert system_memory(root).available == GB


@pytest.mark.parametrize(("version", "line"), [(1, "4:memory:/job"), (2, "0::/job")])
def test_files_that_the_system_caches_are_available(root, version, line):
    """Else a job that has read its limit's worth of files would have nothing left."""
    write(root, "proc/self/cgroup", f"{line}\n")
    folder = {1: "sys/fs/cgroup/memory/job", 2: "sys/fs/cgroup/job"}[version]
    group(root, folder, version, 8 * GB, 8 * GB, cache=6 * GB)
    assert system_memory(root).available == 6 * GB


def test_what_a_group_uses_may_be_unknown(root):
    write(root, "proc/self/cgroup", "0::/job\n")
    write(root, "sys/fs/cgroup/job/memory.max", f"{2 * GB}\n")
    found = system_memory(root)
    assert found.available == 2 * GB - found.resident


def test_more_used_than_allowed_leaves_nothing(root):
    write(root, "proc/self/cgroup", "0::/job\n")
    group(root, "sys/fs/cgroup/job", 2, GB, 2 * GB)
    assert system_memory(root).available == 0


@pytest.mark.skipif(sys.platform != "linux", reason="read from /proc")
def test_this_machine():
    found = system_memory()
    assert 10**7 < found.resident < found.total
    assert 0 < found.available <= found.total
