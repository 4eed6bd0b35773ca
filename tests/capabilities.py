"""What works for which equation, in how many dimensions, with which memory strategy: each as a measured figure.

``make capabilities`` measures all and writes docs/capabilities.md; tests/test_capabilities.py measures some.
"""

if __name__ == "__main__":
    import os

    os.environ["JAX_NUM_CPU_DEVICES"] = "2"
    import conftest  # noqa: F401  (sets jax up as it is for tests)

import dataclasses
import datetime
import functools
import importlib.metadata
import platform
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import jaxlib
import numpy as np
from helpers import DOT, dot, relative

import jaxfwi as jf

PAGE = Path(__file__).resolve().parents[1] / "docs" / "capabilities.md"
EQUATIONS = {e.__name__: e for e in (jf.Acoustic, jf.VariableDensityAcoustic, jf.Elastic)}
STRATEGIES = {type(m).__name__: m for m in (jf.FullStorage(), jf.Checkpointing(), jf.BoundarySaving())}
# cells and space order by dimension: the least that can be cut in two and lie under a free surface
GRIDS = {1: ((24,), 4), 2: ((8, 20), 4), 3: ((4, 5, 16), 2)}
FIELDS = {
    "Acoustic": (("u",), ("u",)),
    "VariableDensityAcoustic": (("p",), ("p", "vz")),
    "Elastic": (("explosion", "vz"), ("p", "vz")),
}
STEPS = 60


class Setting(NamedTuple):
    """A rough model, two shots anywhere, and a misfit of all components alike."""

    simulator: jf.Simulator
    model: jf.WaveEquation
    direction: jf.WaveEquation  # zero at the model's edge, whose copies fill the layer and are held fixed
    survey: jf.Survey
    problem: jf.Problem  # on one device


@functools.cache
def setting(equation, dimension, strategy, free_surface=False):
    (shape, order), rng = GRIDS[dimension], np.random.default_rng(dimension)
    spacing, staggered = (10.0, 12.0, 11.0)[:dimension], EQUATIONS[equation].staggered
    dt = 0.6 * jf.Grid(shape, spacing, 1.0, 1).stable_dt(2300.0, order, staggered)
    grid = jf.Grid(shape, spacing, dt, STEPS)
    source_fields, receiver_fields = FIELDS[equation]
    simulator = jf.Simulator(
        grid,
        order,
        jf.CPML(width=2),
        free_surface=free_surface,
        memory=STRATEGIES[strategy],
        source_fields=source_fields,
        receiver_fields=receiver_fields,
    )
    vp, rho = (2000.0 + 100.0 * rng.uniform(-1.0, 1.0, shape) for _ in range(2))
    parameters = {"vp": vp, "vs": vp / 1.8, "rho": rho}
    names = [field.name for field in dataclasses.fields(EQUATIONS[equation])]
    model = EQUATIONS[equation](*(jnp.asarray(parameters[name]) for name in names))
    inside = tuple(n - 2 for n in shape)
    direction = jax.tree.map(lambda x: jnp.pad(jnp.asarray(rng.uniform(-1.0, 1.0, inside)), 1), model)
    where = rng.uniform(0.0, grid.extent, (2, 4, dimension))
    # pulses of two steps' width; forces of a size that moves as much as the moments do
    pulse = np.exp(-(((np.arange(STEPS) - 8) / 2.5) ** 2))
    size = np.where([name[0] == "v" for name in source_fields], 1e6, 1.0)
    survey = jf.Survey.from_arrays(where[:, :1], where[:, 1:], np.tile(pulse[:, None, None] * size, (2, 1, 1, 1)))
    data = jf.simulate(dataclasses.replace(simulator, memory=jf.FullStorage()), model, survey, on=ONE)
    weights = jnp.broadcast_to(1.0 / jnp.abs(data).max(axis=(0, 1, 2)), data.shape)
    problem = jf.Problem(simulator, survey, 0.7 * data, weights=weights, on=ONE)
    return Setting(simulator, model, direction, survey, problem)


ONE = jf.On(devices=1)


def largest_difference(ours, plain):
    return max(relative(*map(np.asarray, pair)) for pair in zip(*map(jax.tree.leaves, (ours, plain)), strict=True))


def by_differences(function, model, direction):
    """The derivative of a function along a direction, from five points 1 m/s (or kg/m3) apart."""

    def at(step):
        return function(jax.tree.map(lambda x, d: x + step * d, model, direction))

    near, far = (jax.tree.map(jnp.subtract, at(k), at(-k)) for k in (1.0, 2.0))
    return jax.tree.map(lambda n, f: (8.0 * n - f) / 12.0, near, far)


def dot_product(*case, free_surface=False):
    """``<J d, w> = <d, J^T w>``, J by model, positions and wavelet, d and w random."""
    s, rng = setting(*case, free_surface), np.random.default_rng(7)
    at = s.model, s.survey[0]
    directions = jax.tree.map(lambda x: jnp.asarray(rng.standard_normal(x.shape)), at)
    weights = s.problem.weights[0] * rng.standard_normal(s.problem.weights[0].shape)

    @jax.jit
    def products(at, directions):
        return jax.jvp(s.simulator, at, directions)[1], jax.vjp(s.simulator, *at)[1](weights)

    change, adjoint = products(at, directions)
    left, right = dot(change, weights), dot(directions, adjoint)
    return abs(float((left - right) / left))


def tangent(*case):
    s = setting(*case)
    simulate = jax.jit(lambda model: jf.simulate(s.simulator, model, s.survey))
    change = jax.jit(lambda m, d: jax.jvp(simulate, (m,), (d,))[1])(s.model, s.direction)
    expected = by_differences(simulate, s.model, s.direction)
    components = range(change.shape[-1])
    return largest_difference(*([x[..., i] for i in components] for x in (change, expected)))


def hessian_product(*case):
    s = setting(*case)
    expected = by_differences(lambda m: s.problem.misfit_and_gradient(m)[1], s.model, s.direction)
    return largest_difference(s.problem.hessian_product(s.model, s.direction), expected)


def mapped(*case):
    s = setting(*case)
    models = [s.model, jax.tree.map(lambda x: 1.01 * x, s.model)]
    one_by_one = jax.tree.map(lambda *x: jnp.stack(x), *map(s.problem.misfit_and_gradient, models))
    together = jax.tree.map(lambda *x: jnp.stack(x), *models)
    gradients = jax.jit(jax.vmap(dataclasses.replace(s.problem, on=jf.On()).misfit_and_gradient))(together)
    return largest_difference(gradients, one_by_one)


def on_two_devices(*case, domains=1):
    s = setting(*case)
    problem = dataclasses.replace(s.problem, on=jf.On(devices=2, domains=domains))
    return largest_difference(problem.misfit_and_gradient(s.model), s.problem.misfit_and_gradient(s.model))


class Capability(NamedTuple):
    figure: Callable  # of an equation, a dimension and a strategy
    bound: float
    meaning: str


# Bounds: rounding of 60 steps, with a wide margin; and that of differences, which lose half of the digits.
CAPABILITIES = {
    "gradient": Capability(
        dot_product, DOT, "dot-product test of the derivative by model, positions and wavelet, and its transpose"
    ),
    "jvp": Capability(tangent, 1e-8, "`jax.jvp` of all data by the model, against differences of five points"),
    "Hessian product": Capability(
        hessian_product, 1e-8, "`Problem.hessian_product`, against differences of gradients at five points"
    ),
    "vmap": Capability(mapped, 1e-12, "`jax.vmap` of misfit and gradient over two models, against one at a time"),
    "devices": Capability(
        on_two_devices, 1e-12, "misfit and gradient, two shots shared between two devices, against one device"
    ),
    "free surface": Capability(
        functools.partial(dot_product, free_surface=True), DOT, "the dot-product test under a free surface"
    ),
    "domains": Capability(
        functools.partial(on_two_devices, domains=2),
        1e-12,
        "misfit and gradient, each grid cut in two on two devices, against one device",
    ),
}
CASES = [(equation, dimension, strategy) for equation in EQUATIONS for dimension in GRIDS for strategy in STRATEGIES]


def read():
    """The figures on the page, by case and capability."""
    rows = [line.strip("| \n").split(" | ") for line in PAGE.read_text().splitlines() if line.startswith("| `")]
    return {
        (equation.strip("`"), int(dimension[0]), strategy.strip("`"), capability): float(figure)
        for equation, dimension, strategy, *figures in rows
        for capability, figure in zip(CAPABILITIES, figures, strict=True)
    }


TEXT = """# Capabilities

Each figure was measured: the error of that capability for that equation, number of dimensions and memory strategy,
relative to the largest value, in double precision; 0 means to the last bit. All of the table works, and the figures say
how well.

{meanings}

| equation | dimensions | memory strategy | {names} |
|---|---|---|{rule}
{rows}

Rough models of {grids} cells, space orders {orders}, absorbing layers of two cells, {steps} time steps; points lie
anywhere between nodes. Measured {date} by `make capabilities`: jaxfwi {jaxfwi}, Python {python}, jax {jax}, jaxlib
{jaxlib}, {machine} processor. `tests/test_capabilities.py` checks that no figure here is above its bound; it measures
some anew each time the tests run, and all with `-m slow`.
"""


def write(figures):
    def row(case):
        shown = (f"{figures[*case, name]:.0e}".replace("0e+00", "0") for name in CAPABILITIES)
        equation, dimension, strategy = case
        return f"| `{equation}` | {dimension}D | `{strategy}` | {' | '.join(shown)} |"

    PAGE.write_text(
        TEXT.format(
            meanings="\n".join(f"- **{name}**: {c.meaning}. Bound {c.bound:.0e}." for name, c in CAPABILITIES.items()),
            names=" | ".join(CAPABILITIES),
            rule="---|" * len(CAPABILITIES),
            rows="\n".join(map(row, CASES)),
            grids=", ".join(" x ".join(map(str, shape)) for shape, _ in GRIDS.values()),
            orders=", ".join(str(order) for _, order in GRIDS.values()),
            steps=STEPS,
            date=datetime.date.today().isoformat(),
            python=platform.python_version(),
            jax=jax.__version__,
            jaxlib=jaxlib.__version__,
            machine=platform.machine(),
            jaxfwi=importlib.metadata.version("jaxfwi"),
        )
    )


def main():
    warnings.filterwarnings("ignore", message="the wavelet reaches")  # rough waves are meant
    figures = {}
    for case in CASES:
        for name, capability in CAPABILITIES.items():
            figures[(*case, name)] = figure = capability.figure(*case)
            print(*case, name, f"{figure:.1e}", "" if figure < capability.bound else "above its bound", flush=True)
        setting.cache_clear()
        jax.clear_caches()
    write(figures)
    sys.exit(any(figure >= CAPABILITIES[name].bound for (*_, name), figure in figures.items()))


if __name__ == "__main__":
    main()
