"""Wavefields to look at: a shot's data, and with them the waves all over the model at some of the steps."""

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax import Array, lax

from jaxfwi._checks import as_integer, chosen_fields, field_names
from jaxfwi._compiler import jitted_with_options
from jaxfwi.equations.base import WaveEquation
from jaxfwi.simulation.memory import segment
from jaxfwi.simulation.simulator import Simulator, admit_one
from jaxfwi.survey.survey import Survey

__all__ = ["snapshots"]


def snapshots(
    simulator: Simulator,
    model: WaveEquation,
    shot: Survey,
    *,
    every: int,
    fields: Sequence[str] | None = None,
) -> tuple[Array, dict[str, Array]]:
    """Model one shot, and return with its data the wavefields at every so many time steps.

    Memory is that of the snapshots, not of all steps. Like a simulator it is a pure function of model and shot, under
    `jit`, `vmap` (for several shots or models) and `grad`. A gradient remembers the state at each snapshot and makes
    the steps in between once more, whatever the simulator's `memory`.

    Args:
        simulator: grid, order, boundaries.
        model: an equation with its parameters, of the grid's shape.
        shot: one shot of a survey, as ``survey[0]``.
        every: steps from one snapshot to the next.
        fields: names of what is kept, each of which a receiver could record; by default what the simulator's receivers
            do record.

    Returns:
        The data ``(time, receivers, components)`` that ``simulator(model, shot)`` gives, to rounding; and by name the
        wavefields on the model's cells, ``(snapshots, *grid.shape)`` each, without the absorbing layer. Snapshot j is
        the wavefield of sample ``j * every``: the first is that of time 0, at rest, and their times are
        ``grid.times[::every]``. A field of a staggered equation lies as ``type(model).fields(ndim)[name]`` says: where
        ``half`` is True the value of cell i is that at ``i + 1/2``, the last one half a cell beyond the model; and its
        time is ``recorded_at`` steps after the snapshot's: half a step before it for velocities of
        `VariableDensityAcoustic` and stresses of `Elastic`. (Data are interpolated to receivers and samples; snapshots
        are what the scheme computes.)

    Raises:
        ValueError: for input that cannot be simulated, `every` below 1, or a field that the equation does not have.

    Example:
        >>> import jax.numpy as jnp, jaxfwi as jf
        >>> grid = jf.Grid(shape=(20, 30), spacing=10.0, dt=1e-3, nt=200)
        >>> wavelet = jf.ricker(grid, frequency=15.0)
        >>> survey = jf.Survey.from_arrays([[50.0, 150.0]], [[50.0, 250.0]], wavelet)
        >>> model = jf.Acoustic(vp=jnp.full(grid.shape, 1500.0))
        >>> data, waves = jf.snapshots(jf.Simulator(grid), model, survey[0], every=50)
        >>> data.shape, waves["u"].shape, grid.times[::50].tolist()
        ((200, 1, 1), (4, 20, 30), [0.0, 0.05, 0.1, 0.15])
    """
    every = as_integer("every", every, 1)
    shot = admit_one(simulator, model, shot)
    equation = type(model)
    names = simulator.fields(equation)[1] if fields is None else field_names("fields", fields)
    names = chosen_fields("fields", names, equation.recorded(simulator.grid.ndim), equation.__name__)
    return jitted_with_options(_snapshots, (0, 1, 2), (model, shot))(simulator, every, names, model, shot)


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _snapshots(
    simulator: Simulator, every: int, names: tuple[str, ...], model: WaveEquation, shot: Survey
) -> tuple[Array, dict[str, Array]]:
    one_shot = simulator.one_shot(type(model))
    propagation = one_shot.propagation
    places, inputs = one_shot.inputs(one_shot.coefficients(model), shot)
    steps = segment(propagation, places, inputs)

    def from_snapshot(state, wavelet):
        after, data = steps(state, wavelet)
        return after, (propagation.on_model(state, names), data)

    nt = simulator.grid.nt
    count, length = nt // every, nt // every * every
    wavelets = jax.tree.map(lambda w: w[:length].reshape(count, every, w.shape[1]), inputs.wavelet)
    state, (waves, data) = lax.scan(from_snapshot, propagation.initial(inputs), wavelets)
    data = data.reshape(length, *data.shape[2:])
    rest = jax.tree.map(lambda w: w[length:], inputs.wavelet)
    if len(rest[0]):
        _, (last, more) = from_snapshot(state, rest)
        data = jnp.concatenate([data, more])
        if length < nt:
            waves = jax.tree.map(lambda x, y: jnp.concatenate([x, y[None]]), waves, last)
    return one_shot.on_samples(data, shot), waves
