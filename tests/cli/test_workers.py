"""Worker processes: what they answer, and what is said when they die."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from vxmprep.cli.workers import Worker, answered

MB = 2**20


def add(a, b):
    return a + b


def fail(message):
    raise ValueError(message)


def process_id():
    return os.getpid()


def kill_itself(how):
    os.kill(os.getpid(), how)


def leave(code):
    os._exit(code)


def unpicklable():
    return lambda: None


def occupy(megabytes):
    block = bytearray(megabytes * MB)
    block[::4096] = b"1" * len(block[::4096])
    return len(block)


def compute(seconds):
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass


def start_program(note: str):
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    Path(note).write_text(str(child.pid))
    child.wait()


@pytest.fixture
def worker():
    one = Worker()
    yield one
    one.kill()


def outcome_of(worker, task, *arguments):
    worker.send(task, *arguments)
    assert answered([worker], timeout=60) == [worker]
    return worker.receive()


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().split(")")[-1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def wait_until(true, seconds=20):
    end = time.monotonic() + seconds
    while not true() and time.monotonic() < end:
        time.sleep(0.05)
    return true()


def test_a_worker_answers_with_what_the_task_returns(worker):
    outcome = outcome_of(worker, add, 2, 3)
    assert (outcome.value, outcome.error, outcome.killed) == (5, "", None)


def test_a_worker_stays_the_same_process_for_every_task(worker):
    first, second = outcome_of(worker, process_id), outcome_of(worker, process_id)
    assert first.value == second.value == worker.pid != os.getpid()


def test_an_exception_is_answered_with_its_traceback_and_the_worker_goes_on(worker):
    outcome = outcome_of(worker, fail, "no such brain")
    assert outcome.error.rstrip().endswith("ValueError: no such brain")
    assert outcome_of(worker, add, 1, 1).value == 2


def test_an_answer_that_cannot_be_sent_is_an_error_and_the_worker_goes_on(worker):
    assert "pickle" in outcome_of(worker, unpicklable).error.lower()
    assert outcome_of(worker, add, 1, 1).value == 2


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSEGV, signal.SIGTERM])
def test_a_worker_that_a_signal_kills_is_noticed(worker, how):
    assert outcome_of(worker, kill_itself, how).killed == -how


def test_a_worker_that_leaves_is_noticed_with_its_exit_code(worker):
    assert outcome_of(worker, leave, 7).killed == 7


def test_a_worker_that_died_while_idle_is_noticed_with_its_next_task(worker):
    outcome_of(worker, add, 1, 1)
    os.kill(worker.pid, signal.SIGKILL)
    assert wait_until(lambda: not alive(worker.pid))
    assert outcome_of(worker, add, 1, 1).killed == -signal.SIGKILL


def test_waiting_for_an_answer_ends_with_its_time(worker):
    worker.send(time.sleep, 60)
    assert answered([worker], timeout=0.2) == []


def test_killing_a_worker_ends_the_programs_that_it_runs(worker, tmp_path):
    note = tmp_path / "pid"
    worker.send(start_program, str(note))
    assert wait_until(lambda: note.is_file() and note.read_text())
    program = int(note.read_text())
    assert alive(program)
    worker.kill()
    assert wait_until(lambda: not alive(program))


def test_the_programs_of_a_worker_that_is_killed_end_with_it(worker, tmp_path):
    note = tmp_path / "pid"
    worker.send(start_program, str(note))
    assert wait_until(lambda: note.is_file() and note.read_text())
    os.kill(worker.pid, signal.SIGKILL)
    assert answered([worker], timeout=60) == [worker]
    assert worker.receive().killed == -signal.SIGKILL
    assert wait_until(lambda: not alive(int(note.read_text())))


def test_workers_end_with_a_parent_that_is_killed(tmp_path):
    note = tmp_path / "pid"
    script = tmp_path / "parent.py"
    script.write_text(
        "import sys, time\n"
        "from vxmprep.cli.workers import Worker\n"
        "if __name__ == '__main__':\n"
        "    worker = Worker()\n"
        "    worker.send(time.sleep, 600)\n"
        f"    open({str(note)!r}, 'w').write(str(worker.pid))\n"
        "    time.sleep(600)\n"
    )
    parent = subprocess.Popen([sys.executable, str(script)])
    assert wait_until(lambda: note.is_file() and note.read_text())
    worker = int(note.read_text())
    time.sleep(1)  # until it serves
    assert alive(worker)
    parent.kill()
    parent.wait()
    assert wait_until(lambda: not alive(worker))


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="peaks are the kernel's to tell")
def test_the_peak_of_memory_is_each_tasks_own(worker):
    small = outcome_of(worker, add, 1, 1).usage.peak_gb
    large = outcome_of(worker, occupy, 300).usage.peak_gb
    after = outcome_of(worker, add, 1, 1).usage.peak_gb
    assert large - small == pytest.approx(300 / 1024, abs=0.05)
    assert after < large - 0.2


def torch_threads():
    import torch

    return torch.get_num_threads()


def test_torch_uses_the_threads_that_a_run_sets_for_its_workers(monkeypatch, tmp_path):
    from vxmprep.cli.run import set_environment

    for name in ("OMP_NUM_THREADS", "NIPYPE_CONFIG_DIR", "LOGNAME", "OMP_WAIT_POLICY"):
        monkeypatch.setenv(name, "")
    set_environment(tmp_path, 1)
    one = Worker()
    try:
        assert outcome_of(one, torch_threads).value == 1
    finally:
        one.kill()


def test_processor_time_is_counted(worker):
    assert outcome_of(worker, compute, 0.5).usage.cpu_seconds == pytest.approx(0.5, abs=0.2)
