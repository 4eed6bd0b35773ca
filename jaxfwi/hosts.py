"""One run of several processes, on one host or many: each runs the same script, and jax joins their devices.

There is no leader: all processes make the same calls in the same order, and ``jax.devices()`` lists the devices of all
of them. A process models its `share` of the shots by itself, or all together sum a gradient over
``jf.On(devices=jax.devices())``.
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
    """Join this process with the others of its run. Call it once, before anything that computes or asks for devices.

    Without arguments it takes them from SLURM's ``srun``, Open MPI or ``experiments/launch.py``; under none of these
    the script runs alone. The same script serves all cases.

    It calls `jax.distributed.initialize`, and makes sure that no process outlives the run. After an exception that is
    not caught, a process ends at once with status 1 (without `atexit`, where jax would wait for the others). A process
    that finds another one dead ends too, with a sentence on stderr, or with jax's ``Terminating process because ...``
    if it was deep inside a computation.

    Args:
        coordinator: ``"host:port"``, with any free port of the host of process 0. Give this and the next two, or none.
        processes: number of processes in the run.
        process: number of this process, from 0.
        dead_after: seconds without a sign of life after which a process counts as dead, and the others end.
        join_within: seconds within which all must have called `start`; a process that waits longer ends with status 1.

    Returns:
        Whether processes were joined; False if this one runs alone.

    Raises:
        ValueError: for a process out of range, some but not all of the first three arguments, or if jax has already
            started its devices.
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

    # jax's own time limit, after which it would abort the process, is longer, so that this comes first.
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
    """The indices of the shots of one process: consecutive ones, with shares that differ by at most one shot.

    A process models its own shots on its own devices and writes its own share of the data::

        mine = jf.hosts.share(len(survey))
        data = jf.simulate(simulator, model, survey[mine], on=jf.On(devices=jax.local_devices()))

    Args:
        n: number of shots. If there are fewer shots than processes, some processes get none. `simulate` refuses an
            empty survey: check ``if len(mine)`` then.
        process: number of the process, by default of this one.
        processes: number of processes, by default all of the run.

    Returns:
        Whole numbers; the shares of all processes one after the other are ``np.arange(n)``.

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
    """Wait until every process has called this; a process that runs alone does not wait.

    Args:
        name: for this line of the script, the same in all processes.

    Raises:
        AssertionError: if processes wait with different names.

    >>> import jaxfwi as jf
    >>> jf.hosts.wait("the file is there")
    """
    multihost_utils.sync_global_devices(name)


def _check_port(coordinator: str) -> None:
    """Raise a RuntimeError if the port cannot be opened, at which jax would raise an error or crash (0.12)."""
    with socket.socket() as trial:
        for option in (socket.SO_REUSEADDR, socket.SO_REUSEPORT):  # in the way in which jax will open it
            trial.setsockopt(socket.SOL_SOCKET, option, 1)
        try:
            trial.bind(("", int(coordinator.rpartition(":")[2])))
        except OSError as error:
            raise RuntimeError(
                f"process 0 cannot open the port of {coordinator} ({error.strerror}): give all processes a free one."
            ) from error


def _end_on_exceptions(name: str) -> None:
    """From now on, end the process at once after an exception that is not caught."""
    original = sys.excepthook

    def hook(kind, error, trace):
        try:
            original(kind, error, trace)
        finally:
            if "Gloo" in str(error) or "NCCL" in str(error):  # in a JaxRuntimeError, or a ValueError at dispatch
                _end(
                    f"{name}: another process of this run has died or cannot be reached, so this one ends too. Look "
                    "for the cause at the end of that process's output, and start the run again from its last saved "
                    "state."
                )
            _end(f"{name}: this process ends by the error above, and the others of this run will end too.")

    sys.excepthook = hook


def _end(message: str) -> NoReturn:
    """Print a message and end the process with status 1."""
    try:
        sys.stdout.flush()
        print(f"jaxfwi: {message}", file=sys.stderr, flush=True)
    finally:
        os._exit(1)
