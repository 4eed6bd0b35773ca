"""Three ways to pay for the gradient of a time loop: full storage, checkpointing, boundary saving.

Each takes a `Propagation`, the places and the inputs of one shot, and returns the shot's data. All give the same
gradient; they differ in what they keep for it. They know nothing of any equation.
"""

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from jaxfwi._checks import as_integer
from jaxfwi.equations.base import State, SubStep, WaveEquation
from jaxfwi.grid.linear import linear_operator, varying_like
from jaxfwi.simulation import ring
from jaxfwi.simulation.propagation import Inputs, Places, Propagation, read_before_write
from jaxfwi.simulation.window import Window, WindowInputs, window_of

__all__ = ["BoundarySaving", "Checkpointing", "FullStorage", "MemoryStrategy", "segment"]


@dataclass(frozen=True)
class FullStorage:
    """Plain reverse-mode differentiation of the scan: every step keeps what its derivative needs.

    The cheapest in time, the dearest in memory: for the acoustic equation one padded wavefield a step.
    """

    def run(self, propagation: Propagation, places: Places, inputs: Inputs) -> Array:
        """Data of one shot, ``(time, receivers, components)``."""
        advance = functools.partial(propagation.advance, places, inputs)
        return _time_loop(propagation, advance, propagation.initial(inputs), inputs.wavelet)[1]


@dataclass(frozen=True)
class Checkpointing:
    """Keep the state at the start of each segment of the time axis, and run the segment again when its gradient is
    needed.

    Two levels, one scan inside another (Griewank & Walther 2000, ACM TOMS 26, 19-45, with one set of checkpoints):
    works for any equation, dissipative ones too, and costs one more forward run.

    Args:
        segments: how many; by default near the square root of the number of steps, where memory is least.

    Raises:
        ValueError: for a number of segments below 1.
    """

    segments: int | None = None

    def __post_init__(self):
        if self.segments is not None:
            object.__setattr__(self, "segments", as_integer("Checkpointing segments", self.segments, 1))

    def run(self, propagation: Propagation, places: Places, inputs: Inputs) -> Array:
        """Data of one shot, ``(time, receivers, components)``."""
        nt = len(inputs.wavelet[0])
        segments = min(self.segments or max(1, round(math.sqrt(nt))), nt)
        length = -(-nt // segments)
        segments = -(-nt // length)
        # steps beyond the end, with a silent source, fill the last segment; their data are dropped
        wavelet = jax.tree.map(
            lambda w: jnp.pad(w, ((0, segments * length - nt), (0, 0))).reshape(segments, length, -1), inputs.wavelet
        )

        _, data = lax.scan(segment(propagation, places, inputs), propagation.initial(inputs), wavelet)
        return data.reshape(segments * length, *data.shape[2:])[:nt]


@dataclass(frozen=True)
class BoundarySaving:
    """Record a thin ring around the model at every step, and rebuild the wavefield backwards in time from it.

    The equation must conserve energy: it is run backwards with its own undamped scheme inside the model, where that is
    exact, while the adjoint wavefield comes from the transpose of the very step that ran forward (Gauthier, Virieux &
    Tarantola 1986, Geophysics 51, 1387-1403; Clapp 2008, SEP-136). Memory grows with the surface of the model and not
    with its volume. Forward mode (`jax.jvp`, Gauss-Newton and Hessian-vector products) works too, and keeps memory at
    the boundary.

    Args:
        dtype: of the ring: None (that of the fields, exact to rounding), ``"float32"``, ``"bfloat16"``, ``"float16"``
            or ``"int8"``. The last two keep a scale for each block of 64 values, so that the size of the data does not
            matter.
        host: keep the ring in host memory, where the device has its own.

    Raises:
        ValueError: for another dtype.
    """

    dtype: str | None = None
    host: bool = False

    def __post_init__(self):
        if self.dtype not in ring.DTYPES:
            raise ValueError(
                f"BoundarySaving dtype must be None, 'float32', 'bfloat16', 'float16' or 'int8', got {self.dtype!r}."
            )

    def run(self, propagation: Propagation, places: Places, inputs: Inputs) -> Array:
        """Data of one shot, ``(time, receivers, components)``."""
        if not propagation.equation.reversible(propagation.frame.grid.ndim, propagation.frame.order):
            raise ValueError(
                f"BoundarySaving cannot rebuild the wavefields of {propagation.equation.__name__}, which loses energy: "
                "use memory=Checkpointing() instead."
            )
        data = jax.custom_jvp(functools.partial(FullStorage().run, propagation))
        data.defjvp(_Rebuild(self, propagation).derivative)
        return data(places, inputs)


MemoryStrategy = FullStorage | Checkpointing | BoundarySaving


LONG = 200  # steps from which on a loop is worth a larger program


def _time_loop(propagation: Propagation, step: Callable, start: Any, xs: Any, reverse: bool = False) -> tuple[Any, Any]:
    """`lax.scan`, which in a pass makes as many steps as the equation has time levels. Each field is then back in its
    array at the end of a pass, without a copy. (An odd number of steps costs the program one more step.)
    """

    def unfused_step(carry, x):
        # else XLA fuses the steps, and computes one step's fields again at each stencil point of the next. A barrier on
        # each leaf, so that unused ones are still left out.
        return step(jax.tree.map(lax.optimization_barrier, carry), x)

    levels = propagation.equation.time_levels
    if levels == 1 or len(jax.tree.leaves(xs)[0]) < LONG:
        return lax.scan(step, start, xs, reverse=reverse)
    return lax.scan(unfused_step, start, xs, reverse=reverse, unroll=levels)


def segment(
    propagation: Propagation, places: Places, inputs: Inputs
) -> Callable[[State, tuple[Array, ...]], tuple[State, Array]]:
    """Some steps of the time loop: a function from a state and the wavelets of these steps to the state after them and
    their data. A gradient keeps the state before them and makes them again.
    """
    advance = functools.partial(propagation.advance, places, inputs)
    return jax.checkpoint(lambda state, wavelet: lax.scan(advance, state, wavelet))


class _Record(NamedTuple):
    """The part of a forward run that boundary saving keeps."""

    final: State  # on the window
    rings: Any  # per step, one for each sub-step
    samples: Any  # per step, the fields at the receivers' nodes, for the derivative by their weights; or None


class _Carry(NamedTuple):
    """The run backwards between two steps: the rebuilt state, and cotangents."""

    state: State  # on the window
    adjoint: State  # of the state on the padded grid, as `_flip_subtracted` returns it
    coefficients: dict[str, Array]  # these and the following are sums over the steps so far
    source_weight: dict[str, Array]
    receiver_weight: dict[str, Array]


@dataclass(frozen=True)
class _Rebuild:
    """The derivative of a shot's data by boundary saving."""

    strategy: BoundarySaving
    propagation: Propagation

    def derivative(self, primals: tuple[Places, Inputs], tangents: tuple[Any, Inputs]) -> tuple[Array, Array]:
        """The data and their tangent: a linear operator with a transpose of its own, so forward mode works as well."""
        places, inputs = primals
        data, record = self.forward(places, inputs)
        return data, linear_operator(self.tangent, self.adjoint, (places, inputs, record), tangents[1])

    def forward(self, places: Places, inputs: Inputs) -> tuple[Array, _Record]:
        """The data, and the record for the run backwards."""
        p, window = self.propagation, window_of(self.propagation)

        def step(state, wavelet):
            samples, state = read_before_write(p.samples(places, state), state)
            source, rings = p.source(places, inputs, wavelet), []
            for substep in p.substeps:
                values, state = read_before_write(window.record(substep, state), state)
                rings.append(ring.pack(values, self.strategy.dtype, self.strategy.host))
                state = substep.forward(inputs.coefficients, state, p.frame.derivative, source)
            return state, (p.data(inputs, samples), rings, samples if p.interpolates(inputs) else None)

        final, (data, rings, samples) = _time_loop(p, step, p.initial(inputs), inputs.wavelet)
        return data, _Record(window.crop_state(final), rings, samples)

    def tangent(self, residuals: tuple[Places, Inputs, _Record], tangents: Inputs) -> Array:
        """The derivative of the data in a direction. It needs no record."""
        places, inputs, _ = residuals
        run = functools.partial(FullStorage().run, self.propagation, places)
        return jax.jvp(run, (inputs,), (tangents,))[1]

    def adjoint(self, residuals: tuple[Places, Inputs, _Record], cotangent: Array) -> Inputs:
        """The transpose of `tangent`."""
        places, inputs, record = residuals
        p, window = self.propagation, window_of(self.propagation)
        near, at_rest = window.crop_inputs(places, inputs), p.initial(inputs)
        back = _Backwards(self.strategy, p, window, places, inputs, near, at_rest)
        zeros = jax.tree.map(jnp.zeros_like, (near.coefficients, inputs.source_weight, inputs.receiver_weight))
        start = varying_like(_Carry(record.final, at_rest, *zeros), (inputs, cotangent))
        steps = (inputs.wavelet, record.rings, record.samples, cotangent)
        end, wavelet = _time_loop(p, back.step, start, steps, reverse=True)
        coefficients = window.uncrop(end.coefficients, inputs.coefficients)
        return Inputs(coefficients, wavelet, end.source_weight, end.receiver_weight)


@dataclass(frozen=True)
class _Backwards:
    """The run backwards in time. It rebuilds the state, and pulls cotangents through each step."""

    strategy: BoundarySaving
    propagation: Propagation
    window: Window
    places: Places
    inputs: Inputs
    near: WindowInputs
    at_rest: State  # on the padded grid

    def step(self, carry: _Carry, recorded: Any) -> tuple[_Carry, Any]:
        """Undo one step, given its wavelet, rings, samples and the cotangent of its data; return the cotangent of its
        wavelet.
        """
        wavelet, rings, samples, data = recorded
        wavelet_bar = jax.tree.map(jnp.zeros_like, wavelet)
        for substep, kept in reversed(list(zip(self.propagation.substeps, rings, strict=True))):
            carry, more = self._undo(substep, kept, carry, wavelet)
            wavelet_bar = _sum(wavelet_bar, more)
        return self._pull_data(carry, samples, data), wavelet_bar

    def _undo(self, substep: SubStep, kept: Any, carry: _Carry, wavelet: Any) -> tuple[_Carry, Any]:
        """Rebuild the state before a sub-step, and pull the cotangents of the state after it through.

        The cotangents of the coefficients come from the rebuilt state. All others need no state, because the sub-step
        is linear in it: the state at rest serves as well as any.
        """
        p, window = self.propagation, self.window
        values = ring.unpack(kept, window.record(substep, self.at_rest), self.strategy.host)
        state = window.fill(substep, window.backward(substep, self.near, carry.state, wavelet), values)
        adjoint = _flip_subtracted(p.equation, carry.adjoint)
        more = window.pull_coefficients(substep, self.near, state, wavelet, adjoint)
        coefficients, adjoint = read_before_write(_sum(carry.coefficients, more), carry.adjoint)

        def forward(state, wavelet, weight):
            source = p.source(self.places, self.inputs._replace(source_weight=weight), wavelet)
            return substep.forward(self.inputs.coefficients, state, p.frame.derivative, source)

        _, pull = jax.vjp(forward, self.at_rest, wavelet, self.inputs.source_weight)
        adjoint, wavelet_bar, more = pull(_flip_subtracted(p.equation, adjoint))
        adjoint, source_weight = _flip_subtracted(p.equation, adjoint), _sum(carry.source_weight, more)
        return _Carry(state, adjoint, coefficients, source_weight, carry.receiver_weight), wavelet_bar

    def _pull_data(self, carry: _Carry, samples: Any, data: Array) -> _Carry:
        """Add the cotangent of a step's data, pulled back to the state and to the receivers' weights."""
        p = self.propagation
        _, pull = jax.vjp(lambda s: p.data(self.inputs, p.samples(self.places, s)), self.at_rest)
        carry = carry._replace(adjoint=_sum(carry.adjoint, _flip_subtracted(p.equation, pull(data)[0])))
        if samples is None:
            return carry
        weight = self.inputs.receiver_weight
        _, pull = jax.vjp(lambda w: p.data(self.inputs._replace(receiver_weight=w), samples), weight)
        return carry._replace(receiver_weight=_sum(carry.receiver_weight, pull(data)[0]))


def _flip_subtracted(equation: type[WaveEquation], adjoint: State) -> State:
    """Cotangents with the other sign for the fields that a step only subtracts.

    A step hands their cotangents on with the other sign. Carrying them flipped avoids a pass over the array per step.
    """
    waves = {name: -x if name in equation.subtracted else x for name, x in adjoint.waves.items()}
    return State(waves, adjoint.layer)


def _sum(a: Any, b: Any) -> Any:
    return jax.tree.map(jnp.add, a, b)
