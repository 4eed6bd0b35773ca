"""All tests run in double precision; a test of single precision passes float32 arrays.

Programs are compiled at LLVM's lowest level, where the environment does not say otherwise: they run for a moment, and
compiling them is most of the time. ``XLA_FLAGS= make test`` compiles as users do.
"""

import os

os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0")  # before jax is imported

import jax

jax.config.update("jax_enable_x64", True)

import pytest
from devices import end_all
from small_inversion import GRID, SIMULATOR, TRUE

import jaxfwi as jf


@pytest.fixture(scope="session")
def shots():
    """Survey and data of the five shots of `small_inversion`, scaled to a misfit of some 1."""
    survey = jf.Survey.from_arrays(
        [[10.0], [50.0], [80.0], [110.0], [150.0]], [[0.0], [40.0], [150.0]], 0.01 * jf.ricker(GRID, 12.0)
    )
    return survey, jf.simulate(SIMULATOR, TRUE, survey)


@pytest.fixture(scope="module")
def other_processes():
    """Ends the processes that tests with `devices.on_devices` have started."""
    yield
    end_all()
