"""What a machine's memory moves, measured."""

import threading
import time

import jax
import jax.numpy as jnp
import numpy as np


def of_cores(threads: int, megabytes: int = 256, repeats: int = 7) -> float:
    """Bytes per second that `threads` cores copy at best, reads and writes counted, in arrays larger than caches."""
    arrays = [(np.zeros(megabytes << 17), np.ones(megabytes << 17)) for _ in range(threads)]
    best = np.inf
    for _ in range(repeats):
        workers = [threading.Thread(target=np.copyto, args=pair) for pair in arrays]
        begin = time.perf_counter()
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        best = min(best, time.perf_counter() - begin)
    return threads * 2 * (megabytes << 20) / best


def of_gpu(megabytes: int = 1024, repeats: int = 7) -> float:
    """Bytes per second that the GPU moves at best when it adds 1 to a large array, reads and writes counted."""
    array = jnp.ones(megabytes << 18, jnp.float32)
    add = jax.jit(lambda x: x + 1.0)
    best = np.inf
    for _ in range(repeats):
        begin = time.perf_counter()
        add(array).block_until_ready()
        best = min(best, time.perf_counter() - begin)
    return 2 * (megabytes << 20) / best
