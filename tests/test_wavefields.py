"""Snapshots against receivers on every cell, whose data are the same wavefields by way of another program."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxfwi as jf

SHAPE, SPACING, NT = (9, 11), (10.0, 12.0), 70
# Both programs make the same steps of the same numbers; XLA may fuse them differently.
ROUNDING = 1e-13


def parameters(equation, shape):
    vp = 2000.0 + 100.0 * np.random.default_rng(0).uniform(-1.0, 1.0, shape)
    given = {"vp": vp, "vs": 0.8 * vp, "rho": vp}
    return equation(**{name: jnp.asarray(given[name]) for name in given if name in equation.__annotations__})


def cells(shape, half):
    """Positions in metres of a field's values inside the model, ``(points, ndim)``."""
    axes = [(np.arange(n - h) + 0.5 * h) * d for n, h, d in zip(shape, half, SPACING, strict=False)]
    return np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, len(shape))


def setting(equation=jf.Acoustic, *, shape=SHAPE, nt=NT, half=(False, False), **options):
    """A simulator, a rough model and two shots, recorded on the cells of a field."""
    grid = jf.Grid(shape, SPACING[: len(shape)], 2.5e-3, nt)
    source = np.array([[41.0, 33.0], [20.0, 84.0]])[:, : len(shape)]  # one between nodes, one on a node
    survey = jf.Survey.from_arrays(source, cells(shape, half), jf.ricker(grid, frequency=11.0))
    return jf.Simulator(grid, absorber=jf.CPML(width=3), **options), parameters(equation, shape), survey


def close(a, b, tolerance=ROUNDING):
    np.testing.assert_allclose(a, b, rtol=0, atol=tolerance * float(np.abs(b).max()))


@pytest.mark.parametrize(
    ("every", "count", "free_surface"),
    [(1, NT, False), (11, 7, True), (35, 2, False), (NT, 1, False), (NT + 7, 1, True)],
)
def test_a_snapshot_is_what_receivers_on_all_cells_record(every, count, free_surface):
    simulator, model, survey = setting(free_surface=free_surface)
    expected = simulator(model, survey[0])
    data, waves = jf.snapshots(simulator, model, survey[0], every=every)
    close(data, expected)
    assert waves["u"].shape == (count, *SHAPE) == (len(simulator.grid.times[::every]), *SHAPE)
    close(waves["u"], expected[::every].reshape(-1, *SHAPE), ROUNDING * bool(count > 1))
    assert count == 1 or np.abs(waves["u"][-1]).max() > 0


def test_a_snapshot_is_where_a_shorter_run_ends():
    simulator, model, survey = setting()
    _, waves = jf.snapshots(simulator, model, survey[1], every=16)
    short, _, _ = setting(nt=16 * 3 + 1)
    shot = jf.Survey(survey.source[1], survey.receiver[1], survey.wavelet[1, : 16 * 3 + 1])
    # under jit, where no warning is given of the frequencies of a wavelet that ends at once
    close(waves["u"][3].ravel(), jax.jit(short)(model, shot)[-1, :, 0])


@pytest.mark.parametrize("equation", [pytest.param(jf.VariableDensityAcoustic, marks=pytest.mark.slow), jf.Elastic])
def test_fields_of_staggered_equations_lie_where_they_say(equation):
    recorded, fields = equation.recorded(2), equation.fields(2)
    place = {name: fields[next(iter(recorded[name]))] for name in recorded}
    waves: dict = {}
    for half in dict.fromkeys(field.half for field in place.values()):
        names = tuple(name for name in recorded if place[name].half == half)
        simulator, model, survey = setting(equation, half=half, free_surface=True, receiver_fields=names)
        expected = simulator(model, survey[0])
        if not waves:
            data, waves = jf.snapshots(simulator, model, survey[0], every=1, fields=tuple(recorded))
            close(data, expected)
            _, some = jf.snapshots(simulator, model, survey[0], every=20, fields=tuple(recorded))
            for name in recorded:
                close(some[name], waves[name][::20])
        for i, name in enumerate(names):
            values = waves[name][:, : SHAPE[0] - half[0], : SHAPE[1] - half[1]].reshape(NT, -1)
            if place[name].recorded_at:  # data are interpolated from the values of half a step before, and others near
                x = np.pad(values, ((1, 0), (0, 0)))
                values = (9.0 * (x[1:-2] + x[2:-1]) - (x[:-3] + x[3:])) / 16.0
            assert np.abs(values).max() > 0
            close(values, expected[: len(values), :, i])


@pytest.fixture(scope="module")
def energies():
    """A number made of snapshots, and the same of the data of receivers on all cells, with full storage."""
    simulator, model, survey = setting(shape=(13,))
    plain, _, _ = setting(shape=(13,), memory=jf.FullStorage())

    def of_waves(model, shot):
        return jnp.sum(jf.snapshots(simulator, model, shot, every=15)[1]["u"] ** 2)

    def of_data(model, shot):
        return jnp.sum(plain(model, shot)[::15] ** 2)

    return of_waves, of_data, model, survey


NESTED = {
    "grad of vmap of jit": lambda f, m, s: jax.grad(lambda m: jax.vmap(jax.jit(f), (None, 0))(m, s).sum())(m),
    "jit of vmap of grad": lambda f, m, s: jax.jit(jax.vmap(jax.grad(f), (None, 0)))(m, s),
    "grad by source and wavelet": lambda f, m, s: jax.grad(
        lambda source, wavelet: f(m, jf.Survey(source, s.receiver[0], wavelet)), (0, 1)
    )(s.source[0], s.wavelet[0]),
    "jvp of grad": lambda f, m, s: jax.jvp(lambda m: jax.grad(f)(m, s[0]), (m,), (m,))[1],
}


@pytest.mark.parametrize("name", [*list(NESTED)[:-1], pytest.param("jvp of grad", marks=pytest.mark.slow)])
def test_snapshots_under_transformations(name, energies):
    of_waves, of_data, model, survey = energies
    found, expected = (NESTED[name](f, model, survey) for f in (of_waves, of_data))
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        close(a, b, 1e-12)  # sums over 50 steps, there and back


def bytes_of(function, *arguments):
    memory = jax.jit(function).lower(*arguments).compile().memory_analysis()
    return memory.temp_size_in_bytes + memory.output_size_in_bytes


@pytest.mark.parametrize(("nt", "every"), [(4000, 400), (4001, 400)])
def test_memory_is_that_of_the_snapshots(nt, every):
    grid = jf.Grid((60, 70), 10.0, 1e-3, nt)
    simulator, model = jf.Simulator(grid, absorber=jf.CPML(width=4)), jf.Acoustic(vp=jnp.full((60, 70), 2000.0))
    survey = jf.Survey.from_arrays([[50.0, 50.0]], [[50.0, 90.0]], jf.ricker(grid, 10.0))
    run = functools.partial(jf.snapshots, simulator, every=every)
    of_snapshots = math.ceil(nt / every) * model.vp.nbytes
    field = (60 + 2 * 6) * (70 + 2 * 6) * 8
    # where the last one is of a part of `every`, XLA copies those before it; 8: two states, and what a step works with
    copies, series = 1 if nt % every == 0 else 2, 3 * nt * 8  # a wavelet, data
    assert bytes_of(run, model, survey[0]) < copies * of_snapshots + 8 * field + series < 0.02 * nt * model.vp.nbytes

    def number(model, shot):
        return jnp.sum(run(model, shot)[1]["u"] ** 2)

    # a state at each snapshot (two wavefields and the layer's memory), all steps of one interval, cotangents
    kept = 4 * math.ceil(nt / every) * field + 4 * every * field
    assert bytes_of(jax.grad(number), model, survey[0]) < kept < 0.5 * nt * field


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"every": 0}, "every must be a whole number of at least 1, got 0"),
        ({"every": 2.5}, "every must be a whole number of at least 1, got 2.5"),
        ({"every": 5, "fields": ("p",)}, "fields names 'p', which Acoustic does not have: it has u"),
        ({"every": 5, "fields": "u"}, r'fields must be a tuple of names, as in fields=\("u",\)'),
        ({"every": 5, "fields": ()}, "fields is empty: name a field, of u"),
    ],
)
def test_errors_name_the_way_out(options, message):
    simulator, model, survey = setting()
    with pytest.raises(ValueError, match=message):
        jf.snapshots(simulator, model, survey[0], **options)
    with pytest.raises(ValueError, match=r"a simulator models one shot: pass survey\[i\]"):
        jf.snapshots(simulator, model, survey, every=5)
