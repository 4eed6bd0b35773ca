"""Run a script as several processes on this machine: ``python experiments/launch.py --processes 2 script.py ...``.

The script calls ``jaxfwi.hosts.start()``, as it does under SLURM, whose environment this one imitates for jax. So on
GPUs each process takes one. Lines of output begin with the number of the process they come from. When a process fails
or is killed, the others are ended and its status is this program's; Ctrl-C ends all.
"""

import argparse
import ctypes
import os
import queue
import signal
import socket
import subprocess
import sys
import threading
from typing import IO

GRACE = 2.0  # seconds from SIGTERM, which jax takes for a notice in advance, to SIGKILL


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--processes", type=int, required=True, metavar="N")
    parser.add_argument("script")
    parser.add_argument("arguments", nargs=argparse.REMAINDER, help="the script's own")
    options = parser.parse_args()
    if options.processes < 1:
        parser.error("--processes must be at least 1.")
    if not os.path.isfile(options.script):
        parser.error(f"there is no file {options.script}.")
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with socket.socket() as held:
        # Bound, not listening: the port stays ours until process 0 listens on it, as gRPC allows with SO_REUSEPORT.
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        held.bind(("127.0.0.1", 0))
        command = [sys.executable, options.script, *options.arguments]
        return run(command, options.processes, held.getsockname()[1])


def run(command: list[str], processes: int, port: int) -> int:
    """Start the processes, wait for them, and leave none behind."""
    children: list[subprocess.Popen[str]] = []
    readers: list[threading.Thread] = []
    ended: queue.Queue[int] = queue.Queue()
    try:
        for i in range(processes):
            child = subprocess.Popen(
                command,
                env=environment(i, processes, port),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                errors="replace",
                start_new_session=True,  # its own process group, to end it with what it started
                preexec_fn=die_with_parent,
            )
            children.append(child)
        for i, child in enumerate(children):
            for source, target in ((child.stdout, sys.stdout), (child.stderr, sys.stderr)):
                readers.append(threading.Thread(target=copy, args=(i, source, target), daemon=True))
                readers[-1].start()
            threading.Thread(target=lambda i=i, child=child: (child.wait(), ended.put(i)), daemon=True).start()
        for _ in children:
            i = ended.get()
            if status := children[i].returncode:
                say(f"process {i} {how(status)}; ending the others.")
                return status if status > 0 else 128 - status
        return 0
    except KeyboardInterrupt:
        say("interrupted; ending all processes.")
        return 130
    finally:
        end(children)
        for reader in readers:
            reader.join(timeout=GRACE)


def environment(process: int, processes: int, port: int) -> dict[str, str]:
    """What jax.distributed reads, with SLURM's names."""
    others = {name: value for name, value in os.environ.items() if not name.startswith(("OMPI_", "SLURM_"))}
    return others | {
        "SLURM_JOB_ID": "0",
        "SLURM_STEP_NODELIST": "localhost",
        "SLURM_NTASKS": str(processes),
        "SLURM_PROCID": str(process),
        "SLURM_LOCALID": str(process),
        "JAX_COORDINATOR_ADDRESS": f"127.0.0.1:{port}",
        "JAX_COORDINATOR_BIND_ADDRESS": f"127.0.0.1:{port}",
        "PYTHONUNBUFFERED": "1",
    }


def die_with_parent() -> None:
    """In the child: be killed if this launcher is, where Linux offers it."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)


def copy(process: int, source: IO[str], target: IO[str]) -> None:
    for line in source:
        target.write(f"[{process}] {line.rstrip()}\n")
        target.flush()


def say(message: str) -> None:
    print(f"launch: {message}", file=sys.stderr, flush=True)


def how(status: int) -> str:
    if status > 0:
        return f"ended with exit status {status}"
    return f"was killed by signal {-status} ({signal.Signals(-status).name})"


def end(children: list[subprocess.Popen[str]]) -> None:
    """End what still runs, politely first."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    for number in (signal.SIGTERM, signal.SIGKILL):
        for child in children:
            try:
                os.killpg(child.pid, number)  # also what a dead child left behind
            except (ProcessLookupError, PermissionError):
                continue
        if number == signal.SIGTERM:
            for child in children:
                try:
                    child.wait(timeout=GRACE)
                except subprocess.TimeoutExpired:
                    break
    for child in children:
        child.wait()


if __name__ == "__main__":
    sys.exit(main())
