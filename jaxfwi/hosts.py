"""One run of several processes, on one host or many: each runs the same script, and jax joins their devices.

There is no leader: all make the same calls in the same order, and ``jax.devices()`` lists the devices of all processes.
A process models its `share` of the shots by itself, or all sum a gradient over ``devices=jax.devices()``.
"""

import math
import os
import socket
import sys
import threading
from typing import NoReturn

import jax
import numpy as np
from jax.experimental import multihost_utils

from jaxfwi._checks import as_integer

__all__ = ["share", "start", "wait"]


def start(
    coordinator: str | None = None,
    processes: int | None = None,
    process: int | None = None,
    *,
    dead_after: float = 20.0,
    join_within: float = 300.0,
) -> bool:
    """Join this process with the others of its run; once, before anything that computes or asks for devices.

    With no arguments it takes what SLURM's ``srun``, Open MPI or ``experiments/launch.py`` says, and under none of
    them the script runs alone: the same script serves all. It calls `jax.distributed.initialize`, and sees to it that
    no process outlives the run: after an exception that nothing catches, a process ends at once with status 1 (`atexit`
    is left out, since jax would wait there for the others), and a process that finds another dead ends too, with a
    sentence on stderr, or with jax's ``Terminating process because ...`` when it was deep inside a computation.

    Args:
        coordinator: ``"host:port"``, any free port of the host of process 0; or all three are None.
        processes: how many there are.
        process: which one this is, from 0.
        dead_after: seconds without a sign of life after which a process is taken for dead, and the others end.
        join_within: seconds in which all must have called `start`; a process that waits longer ends with status 1.

    Returns:
        Whether processes were joined; False if this one runs alone.

    Raises:
        ValueError: for a process out of range, some but not all of the three, or if jax has started its devices.
        RuntimeError: when called twice, or where process 0 cannot open the port.

    >>> import jaxfwi as jf
    >>> jf.hosts.start("10.0.0.1:4500", processes=2, process=2)
    Traceback (most recent call last):
    ValueError: process must be below processes = 2, counting from 0, got 2.
    """
    given = coordinator, processes, process
    name = getattr(sys.modules["__main__"], "__file__", None) or "this program"
    if given != (None, None, None):
        if coordinator is None or processes is None or process is None:
            raise ValueError(
                f"coordinator, processes and process belong together, got {given}: give all three, or none under "
                "SLURM, Open MPI or experiments/launch.py."
            )
        host, _, port = coordinator.rpartition(":")
        if not host or not port.isdecimal() or not 0 < int(port) < 65536:
            raise ValueError(f"coordinator must be 'host:port', with the host of process 0, got {coordinator!r}.")
        processes, process = as_integer("processes", processes, 1), as_integer("process", process, 0)
        if process >= processes:
            raise ValueError(f"process must be below processes = {processes}, counting from 0, got {process}.")
        name = f"{name}, process {process} of {processes}"
    for argument, value in (("dead_after", dead_after), ("join_within", join_within)):
        if not 1.0 <= value < math.inf:
            raise ValueError(f"{argument} must be at least 1 second, got {value!r}.")
    if jax.distributed.is_initialized():
        raise RuntimeError("processes are joined already: call jaxfwi.hosts.start once, at the top of the script.")

    if coordinator is not None and process == 0:
        _check_port(coordinator)

    def give_up() -> None:
        where = coordinator or "the address that the cluster gives"
        _end(
            f"{name}: the processes did not all meet at {where} within {join_within:g} s: each must run and call "
            "start, and reach the host of process 0 at that port. See the other processes' output, and start again."
        )

    # jax would abort the process; its own time is longer, so that this comes first
    late = threading.Timer(join_within, give_up)
    late.daemon = True
    late.start()
    try:
        jax.distributed.initialize(
            coordinator,
            processes,
            process,
            initialization_timeout=math.ceil(join_within) + 60,
            heartbeat_timeout_seconds=math.ceil(dead_after),
        )
    except ValueError as error:
        if given == (None, None, None) and "coordinator_address" in str(error):
            return False
        raise
    except RuntimeError as error:
        if "must be called before" in str(error):
            raise ValueError(
                "jax has started its devices already: call jaxfwi.hosts.start at the top of the script, before "
                "anything that computes, makes a jax array or asks for devices."
            ) from error
        raise
    finally:
        late.cancel()
    _end_on_exceptions(name)
    return True


def share(n: int, process: int | None = None, processes: int | None = None) -> np.ndarray:
    """The indices of one process's part of `n` shots: blocks in order, whose sizes differ by at most one.

    A process models its own shots on its own devices and writes its own part of the data::

        mine = jf.hosts.share(len(survey))
        data = jf.simulate(simulator, model, survey[mine], devices=jax.local_devices())

    Args:
        n: number of shots. Fewer than processes leave some with none, and `simulate` refuses an empty survey: ask
            ``if len(mine)`` then.
        process: whose share, by default this process's.
        processes: how many share, by default all of the run.

    Returns:
        Whole numbers; all processes' shares in order are ``np.arange(n)``.

    Raises:
        ValueError: for a process out of range, or one of the two without the other.

    >>> import jaxfwi as jf
    >>> [jf.hosts.share(5, process, 3).tolist() for process in range(3)]
    [[0], [1, 2], [3, 4]]
    """
    if (process is None) != (processes is None):
        raise ValueError(f"process and processes belong together, got {process} and {processes}: give both or none.")
    n = as_integer("n", n, 0)
    processes = as_integer("processes", jax.process_count() if processes is None else processes, 1)
    process = as_integer("process", jax.process_index() if process is None else process, 0)
    if process >= processes:
        raise ValueError(f"process must be below processes = {processes}, counting from 0, got {process}.")
    return np.arange(n * process // processes, n * (process + 1) // processes)


def wait(name: str) -> None:
    """Wait until every process is here; at once in a run of one.

    Args:
        name: of this place in the script, the same in all processes.

    Raises:
        AssertionError: if processes wait at places of different names.

    >>> import jaxfwi as jf
    >>> jf.hosts.wait("the file is there")
    """
    multihost_utils.sync_global_devices(name)


def _check_port(coordinator: str) -> None:
    """Raise a RuntimeError if the port cannot be opened: jax would too, or crash (0.12)."""
    with socket.socket() as trial:
        for option in (socket.SO_REUSEADDR, socket.SO_REUSEPORT):  # as jax will open it
            trial.setsockopt(socket.SOL_SOCKET, option, 1)
        try:
            trial.bind(("", int(coordinator.rpartition(":")[2])))
        except OSError as error:
            raise RuntimeError(
                f"process 0 cannot open the port of {coordinator} ({error.strerror}): give all processes a free one."
            ) from error


def _end_on_exceptions(name: str) -> None:
    """End the process at once after an exception that nothing catches."""
    before = sys.excepthook

    def hook(kind, error, trace):
        try:
            before(kind, error, trace)
        finally:
            if "Gloo" in str(error) or "NCCL" in str(error):  # a JaxRuntimeError, or a ValueError at dispatch
                _end(
                    f"{name}: another process of this run has died or cannot be reached, so this one ends too. Look "
                    "for the cause at the end of that process's output, and start the run again from its last saved "
                    "state."
                )
            _end(f"{name}: this process ends by the error above, and the others of this run will end too.")

    sys.excepthook = hook


def _end(message: str) -> NoReturn:
    try:
        sys.stdout.flush()
        print(f"jaxfwi: {message}", file=sys.stderr, flush=True)
    finally:
        os._exit(1)
