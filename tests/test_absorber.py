"""The absorbing layers and the free surface."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from analytic import every_node, plain_cpml, relative, ricker, shoot, trace

import jaxfwi as jf


def reflected(speed, width, order):
    """Energy that the bottom layer returns at normal incidence and at 60 degrees.

    As a fraction of the energy that a mirror in the last row would return. A source and receivers lie 400 m above it.
    The reference is the same model with so many rows below that nothing returns in time.
    """
    h, depth, frequency = 10.0, 40, 10.0
    offsets = np.array([0.0, 2 * depth * h * math.tan(math.pi / 3)])
    offsets[1] = h * round(offsets[1] / h)
    paths = np.hypot(2 * depth * h, offsets)
    dt = 0.49 * h / speed
    nt = int((3.0 / frequency + paths[1] / speed) / dt)
    grid = jf.Grid((depth + 11, 20 + round(offsets[1] / h)), h, dt, nt)
    deeper = jf.Grid((grid.shape[0] + math.ceil(0.5 * nt * 0.49), grid.shape[1]), h, dt, nt)
    source = np.array([100.0, 100.0])
    receivers = source + [0.0, 1.0] * offsets[:, None]
    wavelet = ricker(grid.times, frequency, 1.5 / frequency)
    u, endless = (
        shoot(g, speed, source, receivers, wavelet, space_order=order, absorber=jf.CPML(width)) for g in (grid, deeper)
    )
    mirrored = np.stack([trace(2, wavelet, dt, path, speed) for path in paths], axis=1)
    return np.sum((u - endless) ** 2, axis=0) / np.sum(mirrored**2, axis=0)


# Measured, at 0 and 60 degrees (to the edge; the ray steepens in the layer), the layer being tuned to 3000 m/s, 10 Hz
# and so 15 to 50 points per wavelength. Tolerances are about three times that.
#   cells order  1500 m/s           3000 m/s           5000 m/s
#   20    4      2.5e-10  3.1e-10   2.8e-9   3.5e-9    4.0e-7   1.2e-5
#   20    8      2.7e-14  6.7e-15   5.0e-10  1.7e-9    2.2e-7   9.1e-6
#   10    4      1.4e-6   1.8e-6    1.2e-6   1.1e-6    2.8e-6   1.9e-5
#   10    8      1.9e-8   1.5e-9    2.3e-9   1.1e-9    4.6e-7   4.4e-6
# The reflection that the layer is tuned to, exp(-2 integral of d / speed cos(angle)) in amplitude, is largest for fast
# waves at grazing angles; that of the grid, for slow waves in few cells at low order.
LAYERS = {  # speed, width, order: at 0 and 60 degrees
    (1500.0, 20, 4): (8e-10, 1e-9),
    (1500.0, 20, 8): (1e-13, 3e-14),
    (1500.0, 10, 4): (4e-6, 5e-6),
    (1500.0, 10, 8): (6e-8, 5e-9),
    (3000.0, 20, 4): (8e-9, 1e-8),
    (3000.0, 20, 8): (1.5e-9, 5e-9),
    (3000.0, 10, 4): (4e-6, 4e-6),
    (3000.0, 10, 8): (7e-9, 4e-9),
    (5000.0, 20, 4): (1.2e-6, 4e-5),
    (5000.0, 20, 8): (6e-7, 3e-5),
    (5000.0, 10, 4): (8e-6, 6e-5),
    (5000.0, 10, 8): (1.4e-6, 1.4e-5),
}


@pytest.mark.parametrize(("speed", "width", "order"), LAYERS)
def test_layers_absorb(speed, width, order):
    assert (reflected(speed, width, order) < LAYERS[speed, width, order]).all()


WIDTHS = {1: ((3, 5),), 2: ((3, 4), (0, 6)), 3: ((2, 0), (3, 1), (2, 3))}


@pytest.mark.parametrize(
    ("shape", "order", "free_surface"),
    [
        ((14,), 4, False),
        ((11, 13), 2, False),
        pytest.param((11, 13), 4, False, marks=pytest.mark.telling),
        ((11, 13), 8, True),
        ((5, 6, 4), 4, False),
        ((5, 6, 4), 2, True),
        # cells so few that layers, free surface and stencils meet
        ((1,), 8, False),
        ((2,), 8, True),
        ((1, 1), 2, False),
        ((7, 1), 4, True),
        ((3, 1, 5), 8, False),
    ],
)
def test_layers_in_slabs_are_a_textbook_cpml_on_the_whole_grid(shape, order, free_surface):
    """Corners and edges where layers cross, widths per side, and models of a few cells included."""
    rng = np.random.default_rng(2)
    ndim = len(shape)
    spacing = (10.0, 8.0, 12.0)[:ndim]
    grid = jf.Grid(shape, spacing, 1e-3, 200)
    absorber = jf.CPML(width=WIDTHS[ndim], velocity=2500.0, frequency=12.0, reflection=1e-4)
    vp = rng.uniform(1500, 3000, shape)
    corner = [n - 1 for n in shape]
    sources = np.array([[0] * ndim, corner, [n // 2 for n in shape]])  # two opposite corners, the middle
    wavelet = rng.standard_normal((200, 3)) * np.exp(-(((np.arange(200) - 40) / 15) ** 2))[:, None]
    with pytest.warns(UserWarning, match="waves will disperse"):
        u = shoot(
            grid,
            vp,
            sources * np.array(spacing),
            every_node(grid),
            wavelet[None],
            space_order=order,
            absorber=absorber,
            free_surface=free_surface,
        )
    expected = plain_cpml(vp, spacing, grid.dt, wavelet, sources, order, WIDTHS[ndim], absorber, free_surface)
    assert np.abs(expected).max() > 0
    # Rounding, measured 4e-14 at most. A C-PML with one of its slabs undamped in a corner is off by 1.5e-2.
    error = np.abs(u.reshape(expected.shape) - expected).max() / np.abs(expected).max()
    assert error < 1e-12


@pytest.mark.parametrize("order", [2, 8])
@pytest.mark.parametrize("free_surface", [False, True])
def test_nothing_grows_in_twenty_thousand_steps(order, free_surface):
    z, x = np.indices((25, 31))
    vp = np.where((z + 0.5 * x) % 14 < 7, 1500.0, 4500.0)  # contrasts of three that run into all layers and corners
    vp[:, :5] = 1500.0
    vp[10:14] = 4500.0
    dt = 0.99 * jf.Grid(vp.shape, 10.0, 1.0, 1).stable_dt(4500.0, order)
    grid = jf.Grid(vp.shape, 10.0, dt, 20000)
    receivers = every_node(grid).reshape(25, 31, 2)[::4, ::5].reshape(-1, 2)
    sources = [[10.0, 10.0], [120.0, 150.0]]
    u = shoot(grid, vp, sources, receivers, ricker(grid.times, 5.0, 0.3), space_order=order, free_surface=free_surface)
    size = np.linalg.norm(u.reshape(10, -1), axis=1)  # over 2000 steps each
    # Measured: order 2 2e-6, order 8 2e-5, with a free surface 1e-10 and 4e-10; it decays throughout. The tail is of
    # the long waves, which a C-PML damps slowly. A growth of 1e-3 a step would have come to 5e8.
    assert size[-1] < 5e-5 * size[0]
    assert (np.diff(size) < 0).all()


def test_nothing_grows_in_single_precision():
    grid = jf.Grid((25, 31), 10.0, 1e-3, 20000)
    survey = jf.Survey.fixed_spread(
        source_z=50.0,
        source_x=60.0,
        receiver_z=200.0,
        receiver_x=[0.0, 100.0, 300.0],
        wavelet=ricker(grid.times, 8.0, 0.2),
    )
    vp = jnp.where(jnp.arange(31) < 12, 1500.0, 4500.0) * jnp.ones((25, 1))
    data = jf.simulate(jf.Simulator(grid, free_surface=True), jf.Acoustic(vp=vp.astype(jnp.float32)), survey)
    assert data.dtype == jnp.float32
    size = np.linalg.norm(np.asarray(data, float).reshape(10, -1), axis=1)
    assert size[-1] < 1e-7 * size[0]  # measured 3e-9: even rounding errors decay


@pytest.mark.parametrize("order", [2, 8])
def test_free_surface_is_a_model_doubled_with_an_odd_source(order):
    rng = np.random.default_rng(3)
    grid = jf.Grid((20, 24), (10.0, 8.0), 1e-3, 500)
    vp = rng.uniform(2000, 2500, grid.shape)
    wavelet = ricker(grid.times, 8.0, 0.2)
    absorber = jf.CPML(width=6)
    # on a node; between nodes, and so near the surface that its nodes reach across it
    source = np.array([[60.0, 80.0], [13.7, 51.3]])
    receiver = np.array([[40.0, 160.0], [8.2, 33.1], [1.1, 120.5], [0.0, 80.0], [0.0, 77.7]])
    u = shoot(grid, vp, source, receiver, wavelet, space_order=order, absorber=absorber, free_surface=True)

    double = jf.Grid((39, 24), (10.0, 8.0), 1e-3, 500)
    doubled = np.concatenate([vp[:0:-1], vp])
    shift = np.array([190.0, 0.0])
    sources = np.concatenate([source + shift, source * [-1, 1] + shift])
    wavelets = np.stack([wavelet, wavelet, -wavelet, -wavelet], axis=1)[None]
    expected = shoot(double, doubled, sources, receiver + shift, wavelets, space_order=order, absorber=absorber)
    error = np.abs(u - expected).max() / np.abs(expected).max()
    assert error < 1e-13  # rounding, measured 6e-15
    assert (u[:, 3:] == 0).all()  # on the surface, on a node and between
    assert np.abs(u[:, :3]).max(axis=0).min() > 1e-2 * np.abs(u).max()  # and nowhere else: measured 5e-2


def test_source_on_a_free_surface_gives_nothing():
    grid = jf.Grid((20, 24), (10.0, 8.0), 1e-3, 300)
    receivers = [[10.0, 80.0], [35.0, 81.0]]
    for x in (80.0, 83.3):
        u = shoot(grid, 2000.0, [0.0, x], receivers, ricker(grid.times, 8.0, 0.2), free_surface=True)
        assert (u == 0).all()


def test_a_top_without_layer_is_a_free_surface_one_row_up_at_order_two():
    wavelet = ricker(np.arange(500) * 1e-3, 8.0, 0.2)
    vp = 2000.0 + 20.0 * np.arange(20)[:, None] + np.zeros(24)
    absorber = jf.CPML(width=((0, 10), (10, 15)))
    args = dict(space_order=2, absorber=absorber)
    open_top = shoot(jf.Grid((20, 24), 10.0, 1e-3, 500), vp, [50.0, 80.0], [[80.0, 160.0]], wavelet, **args)
    vp = np.concatenate([vp[:1], vp])
    surface = shoot(
        jf.Grid((21, 24), 10.0, 1e-3, 500), vp, [60.0, 80.0], [[90.0, 160.0]], wavelet, free_surface=True, **args
    )
    error = relative(open_top, surface)
    assert error < 1e-13  # the same sums: measured 0


@pytest.mark.parametrize(("order", "free_surface"), [(2, False), (4, True), (8, False)])
@pytest.mark.parametrize("equation", [jf.Acoustic, jf.VariableDensityAcoustic, jf.Elastic])
def test_fields_stay_zero_in_the_margin(equation, order, free_surface):
    """All stencils read it. Sources between nodes at corners, with a layer and without one, would spread into it."""
    speed = jnp.full((9, 11), 2000.0)
    parameters = {"vp": speed, "vs": 0.5 * speed, "rho": speed}
    model = equation(**{f.name: parameters[f.name] for f in dataclasses.fields(equation)})
    grid = jf.Grid(speed.shape, 10.0, 1e-3, 40)
    simulator = jf.Simulator(grid, order, jf.CPML(width=((2, 0), (0, 3))), free_surface)
    corners = [[3.0, 2.0], [3.0, 98.0], [77.0, 2.0], [77.0, 98.0]]
    shot = jf.Survey.from_arrays([corners], corners, jf.ricker(grid, 20.0))[0]
    program = simulator.one_shot(equation)
    propagation = program.propagation
    places, inputs = program.inputs(program.coefficients(model), shot)
    state, _ = jax.lax.scan(
        lambda state, wavelet: (propagation.advance(places, inputs, state, wavelet)[0], None),
        propagation.initial(inputs),
        inputs.wavelet,
    )
    inside = tuple(slice(near, -far) for near, far in propagation.frame.margins)
    assert propagation.frame.margins[-1][1] > order // 2  # a wider one at the end of rows
    for name, wave in state.waves.items():
        assert wave[inside].any(), name
        assert not wave.at[inside].set(0.0).any(), name
