"""Processes for tests that need not import torch again, which takes more than a second each.

:func:`python` runs a program as ``python -c`` would, in a fork of a process that has imported
torch and nothing else. ``PROCESSES`` starts functions in forks of one that has imported all that
training needs; the kernels in which nbval executes the lessons are such processes, too.

    python tests/fork_server.py    the first of these servers; a request is a line of JSON
"""

import functools
import gc
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

PROJECT = Path(__file__).parents[1]
PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(
    [
        "garbage_stays",
        "seqpe_lab.course.lesson",
        "seqpe_lab.training",
        "seqpe_lab.models.gpt2",
        "seqpe_lab.models.vit",
        "seqpe_lab.tasks.images",
        "seqpe_lab.cli",
        "datasets",  # accelerate imports it where there are several processes
        "ipykernel.kernelapp",
        "nbformat",
        "sklearn.datasets",
        "torch._dynamo",
        "torch.distributed.algorithms.ddp_comm_hooks.default_hooks",
        "torch.utils.tensorboard",
    ]
)


# --- python -c ----------------------------------------------------------------------------------


@functools.cache
def server() -> subprocess.Popen:
    """The server of this pytest process; it ends with it, when its standard input is closed."""
    return subprocess.Popen(
        [sys.executable, __file__],
        cwd=PROJECT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def python(program: str, *arguments: str) -> subprocess.CompletedProcess:
    """``python -c program arguments`` in the project's folder, where torch is imported already."""
    with tempfile.TemporaryDirectory() as folder:
        request = json.dumps([program, arguments, folder])
        print(request, file=server().stdin, flush=True)
        status = int(server().stdout.readline())
        printed = (Path(folder, name).read_text() for name in ("stdout", "stderr"))
        return subprocess.CompletedProcess([program, *arguments], status, *printed)


def serve() -> None:
    """Answer each request with the exit status of a fork that runs its program."""
    gc.disable()  # what torch imports stays
    import torch  # noqa: F401

    gc.enable()
    sys.path[0] = ""
    for line in sys.stdin:
        program, arguments, folder = json.loads(line)
        if process := os.fork():
            print(os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]), flush=True)
            continue
        sys.stdin = open(os.devnull)
        for number, name in ((1, "stdout"), (2, "stderr")):
            os.dup2(os.open(Path(folder, name), os.O_WRONLY | os.O_CREAT), number)
        sys.argv = ["-c", *arguments]
        exec(program, {"__name__": "__main__"})
        break


def collect_garbage_again() -> None:
    """In a fork: of its own garbage; a collection of all would copy the server's memory."""
    gc.freeze()
    gc.enable()


def torchrun(log: str, arguments: list[str]) -> None:
    """``torchrun <arguments>`` in the project's folder; the processes it starts are new ones."""
    from torch.distributed.run import main

    collect_garbage_again()
    handle = os.open(log, os.O_WRONLY | os.O_CREAT)
    os.dup2(handle, 1), os.dup2(handle, 2)
    os.chdir(PROJECT)
    os.environ |= {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(PROJECT)}
    main(arguments)


# --- kernels ------------------------------------------------------------------------------------


class Kernel:
    """A forked kernel, with what jupyter_client uses of a ``subprocess.Popen``."""

    stdin = stdout = stderr = None

    def __init__(self, command: list[str], cwd: str | None = None, env: dict | None = None, **_):
        self._process = PROCESSES.Process(target=run_kernel, args=(command, cwd, env))
        self._process.start()
        self.pid = self._process.pid
        while self.poll() is None and os.getpgid(self.pid) != self.pid:
            time.sleep(0.001)  # the manager asks for its process group next

    def poll(self) -> int | None:
        return self._process.exitcode

    def wait(self) -> int:
        self._process.join()
        return self._process.exitcode

    def send_signal(self, number: int) -> None:
        os.kill(self.pid, number)


def run_kernel(command: list[str], cwd: str | None, env: dict | None) -> None:
    """``python -m ipykernel_launcher ...`` in this process."""
    from ipykernel.kernelapp import launch_new_instance

    collect_garbage_again()
    os.setsid()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # the server ignores it
    os.environ.clear()
    os.environ |= (env or {}) | {"JPY_PARENT_PID": str(os.getppid())}  # it ends with the server
    os.chdir(cwd or ".")
    sys.path[0] = ""
    sys.argv = command[command.index("ipykernel_launcher") :]
    launch_new_instance()


def fork_kernels() -> None:
    """From now on kernels that this process starts are forked."""
    from jupyter_client.provisioning import local_provisioner

    local_provisioner.launch_kernel = Kernel


if __name__ == "__main__":
    serve()
