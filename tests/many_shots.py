"""Shots of a line and of a section, and what is right for them: computed on one device, one shot after another."""

import functools

import jax
import numpy as np
from helpers import problem_with, relative

import jaxfwi as jf

# The same sums over shots in another order, and batched steps compiled otherwise. Measured: 7e-15.
ROUNDING = 1e-12


def setting(shape):
    """A simulator, where to start and what is true."""
    grid = jf.Grid(shape, 10.0, 2e-3, 150)
    vp = np.full(shape, 2000.0)
    wave = 200.0 * np.sin(np.arange(shape[-1]) / 5.0)
    return jf.Simulator(grid, absorber=jf.CPML(width=6)), jf.Acoustic(vp=vp), jf.Acoustic(vp=vp + wave)


LINE = setting((60,))  # in one dimension, which compiles soon
SECTION = setting((12, 60))


def spread(simulator, shots, receivers=6):
    """Shots along the last axis, each with receivers behind it."""
    grid = simulator.grid
    source = np.full((shots, grid.ndim), 20.0)
    source[:, -1] = np.linspace(150.0, 550.0, shots).round(-1)
    offset = np.zeros((receivers, grid.ndim))
    offset[:, -1] = 20.0 * np.arange(receivers)
    return jf.Survey.from_arrays(source, source[:, None] - offset, 1e-2 * jf.ricker(grid, 15.0))


def expected(where=LINE, number=7):
    """Survey, data, misfit and gradient on one device, one shot after another."""
    return _expected(where is LINE, number)


@functools.cache
def _expected(line, number):
    simulator, start, true = LINE if line else SECTION
    survey = spread(simulator, number)
    observed = np.asarray(jf.simulate(simulator, true, survey, on=jf.On(devices=1, batch=1)))
    return survey, observed, jf.Problem(simulator, survey, observed, on=jf.On(devices=1)).misfit_and_gradient(start)


def misfit(where, survey, observed, **options):
    simulator, start, _ = where
    return problem_with(simulator, survey, observed, **options).misfit_and_gradient(start)


def check_same(ours, reference, limit=ROUNDING):
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(reference), strict=True):
        assert a.shape == b.shape
        assert relative(np.asarray(a), np.asarray(b)) < limit


class File:
    """Data that can be indexed by rising indices alone, as some files are, and tell what was read of them."""

    def __init__(self, data):
        self.data, self.read = np.asarray(data), []
        self.shape, self.dtype = self.data.shape, self.data.dtype

    def __getitem__(self, index):
        assert (np.diff(index) > 0).all()
        self.read.append(index.tolist())
        return self.data[index]
