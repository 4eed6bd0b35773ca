"""Tests on several devices run in a process of their own, which a test module starts once.

A processor is one device to jax unless jax is told otherwise before it starts. Each test keeps its name, and fails with
the traceback it had there.
"""

import functools
import importlib
import multiprocessing
import os
import traceback

import pytest

# Seconds. No test takes a hundredth of it on an idle machine, and a busy one is no failure.
PATIENCE = 3600.0

_workers = {}


def on_devices(number, **environment):
    """Run the decorated test in a process with so many virtual devices and these environment variables. All tests of a
    module that ask for the same share one; their arguments must be picklable.
    """

    def decorate(test):
        @pytest.mark.usefixtures("other_processes")
        @functools.wraps(test)
        def there(**arguments):
            key = (number, tuple(environment.items()))
            if key not in _workers:
                _workers[key] = _Worker(number, environment)
            _workers[key].run(test, arguments)

        return there

    return decorate


def end_all():
    """End the processes that tests have started."""
    while _workers:
        _workers.popitem()[1].end()


class _Worker:
    def __init__(self, number, environment):
        context = multiprocessing.get_context("spawn")
        self.pipe, other = context.Pipe()
        self.process = context.Process(target=_serve, args=(other, number, environment), daemon=True)
        self.process.start()
        other.close()  # so that the end of the process is the end of the pipe

    def run(self, test, arguments):
        self.pipe.send((test.__module__, test.__qualname__, arguments))
        if not self.pipe.poll(PATIENCE):
            end_all()
            pytest.fail(f"no answer from the process with several devices within {PATIENCE:g} s", pytrace=False)
        try:
            failure = self.pipe.recv()
        except EOFError:
            self.process.join()
            code = self.process.exitcode
            end_all()
            pytest.fail(f"the process with several devices died with code {code}", pytrace=False)
        if failure is not None:
            pytest.fail(failure, pytrace=False)

    def end(self):
        self.process.terminate()
        self.process.join()


def _serve(pipe, number, environment):
    """Run tests as they are asked for, and answer each with its traceback, or None."""
    os.environ.update(environment)
    # by default XLA ends the process if a device is 40 s late
    late = f"--xla_cpu_collective_call_terminate_timeout_seconds={PATIENCE:.0f}"
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {late}"
    import jax  # after the environment is set

    jax.config.update("jax_enable_x64", True)
    jax.config.update("jax_num_cpu_devices", number)
    while True:
        try:
            module, name, arguments = pipe.recv()
        except EOFError:
            return
        try:
            getattr(importlib.import_module(module), name).__wrapped__(**arguments)
            pipe.send(None)
        except BaseException:
            pipe.send(traceback.format_exc())
