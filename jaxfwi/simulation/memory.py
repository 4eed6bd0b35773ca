"""Three ways to pay for the gradient of a time loop: full storage, checkpointing, boundary saving.

Each takes a `Propagation`, the places and the inputs of one shot, and returns the shot's data. All give the same
gradient; what differs is what they keep. They know nothing of any equation.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from jaxfwi._checks import as_integer
from jaxfwi.equations.base import State
from jaxfwi.grid.linear import linear_operator, varying_like
from jaxfwi.simulation import ring
from jaxfwi.simulation.propagation import Inputs, Places, Propagation, before_it_moves

__all__ = ["BoundarySaving", "Checkpointing", "FullStorage", "MemoryStrategy", "segment"]


@dataclass(frozen=True)
class FullStorage:
    """Plain reverse-mode differentiation of the scan: every step keeps what its derivative needs.

    The cheapest in time, the dearest in memory: for the acoustic equation one padded wavefield a step.
    """

    def run(self, propagation: Propagation, places: Places, inputs: Inputs) -> Array:
        """Data of one shot, ``(time, receivers, components)``."""
        return _scan(propagation, places, inputs)


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
        return _rebuilding(_Rebuild(self, propagation), places, inputs)


MemoryStrategy = FullStorage | Checkpointing | BoundarySaving


LONG = 200  # steps, from which on a loop is worth a larger program


def _loop(propagation: Propagation, step: Any, start: Any, xs: Any, reverse: bool = False) -> tuple[Any, Any]:
    """`lax.scan`, a pass of which makes as many steps as the equation has time levels: each field is then back in its
    place at the end of a pass, and no pass copies it there. (An odd number of steps costs the program one more step.)
    """

    def by_itself(carry, x):
        # else XLA, which fuses what it can, computes one step's fields again at each stencil point of the next; leaf by
        # leaf, so that what nobody asks for is still left out
        return step(jax.tree.map(lax.optimization_barrier, carry), x)

    levels = propagation.equation.time_levels
    if levels == 1 or len(jax.tree.leaves(xs)[0]) < LONG:
        return lax.scan(step, start, xs, reverse=reverse)
    return lax.scan(by_itself, start, xs, reverse=reverse, unroll=levels)


def segment(
    propagation: Propagation, places: Places, inputs: Inputs
) -> Callable[[State, tuple[Array, ...]], tuple[State, Array]]:
    """Some steps of the time loop, from a state and the wavelets of these steps to the state after them and their
    data. A gradient remembers the state before them and makes them again.
    """

    def advance(state, wavelet):
        return propagation.advance(places, inputs, state, wavelet)

    return jax.checkpoint(lambda state, wavelet: lax.scan(advance, state, wavelet))


def _scan(propagation: Propagation, places: Places, inputs: Inputs) -> Array:
    def step(state, wavelet):
        return propagation.advance(places, inputs, state, wavelet)

    return _loop(propagation, step, propagation.initial(inputs), inputs.wavelet)[1]


class _Record(NamedTuple):
    """What boundary saving keeps of a forward run."""

    final: Any  # the last state, on the window
    rings: Any  # per step, one a stage
    samples: Any  # per step, the fields at the receivers' nodes, for the derivative of their weights


@dataclass(frozen=True)
class _Rebuild:
    """The two halves of boundary saving: a forward run that records, and its transpose that rebuilds."""

    strategy: BoundarySaving
    propagation: Propagation

    def forward(self, places: Places, inputs: Inputs) -> tuple[Array, _Record]:
        p = self.propagation

        def step(state, wavelet):
            samples, state = before_it_moves(p.samples(places, state), state)
            source = p.source(places, inputs, wavelet)
            kept = []
            for stage in p.substeps:
                record, state = before_it_moves(p.window.ring(stage, state), state)
                kept.append(ring.pack(record, self.strategy.dtype, self.strategy.host))
                state = stage.forward(inputs.coefficients, state, p.frame.derivative, source)
            return state, (p.data(inputs, samples), kept, samples if p.interpolates(inputs) else None)

        final, (data, rings, samples) = _loop(p, step, p.initial(inputs), inputs.wavelet)
        return data, _Record(p.window.known(final), rings, samples)

    def tangent(self, primal: tuple, tangents: Inputs) -> Array:
        """The derivative of the data: forward mode needs nothing of the record."""
        places, inputs, _ = primal
        return jax.jvp(lambda i: _scan(self.propagation, places, i), (inputs,), (tangents,))[1]

    def adjoint(self, primal: tuple, cotangent: Array) -> Inputs:
        """The transpose of `tangent`.

        Backwards in time, each stage of a step rebuilds the state it started from and then pulls cotangents through.
        Those of the coefficients come from the rebuilt state on the window. All others need no state, because the stage
        is linear in it: at rest serves as well as any.
        """
        places, inputs, record = primal
        p, window = self.propagation, self.propagation.window
        near = window.crop_inputs(places, inputs)
        at_rest = p.initial(inputs)
        stages = [(stage, window.ring(stage, at_rest)) for stage in p.substeps]

        def turned(adjoint):
            # a step hands the cotangent of what it subtracts on with the other sign: kept so, it costs no pass
            return State({n: -x if n in p.equation.subtracted else x for n, x in adjoint.waves.items()}, adjoint.layer)

        def step(carry, xs):
            state, adjoint, coefficients, source, receiver = carry
            wavelet, kept, samples, data = xs
            wavelet_bar = jax.tree.map(jnp.zeros_like, wavelet)
            for (stage, like), record in reversed(list(zip(stages, kept, strict=True))):
                known = ring.unpack(record, like, self.strategy.host)
                state = window.fill(stage, window.backward(stage, near, state, wavelet), known)
                _, pull = jax.vjp(window.forward(stage, near, state, wavelet), near.coefficients)
                coefficients = jax.tree.map(jnp.add, coefficients, pull(window.crop(turned(adjoint)))[0])
                coefficients, adjoint = before_it_moves(coefficients, adjoint)

                def of_the_rest(state, wavelet, weight, stage=stage):
                    source = p.source(places, inputs._replace(source_weight=weight), wavelet)
                    return stage.forward(inputs.coefficients, state, p.frame.derivative, source)

                _, pull = jax.vjp(of_the_rest, at_rest, wavelet, inputs.source_weight)
                adjoint, *bars = pull(turned(adjoint))
                adjoint = turned(adjoint)
                wavelet_bar, source = jax.tree.map(jnp.add, (wavelet_bar, source), tuple(bars))
            _, pull = jax.vjp(lambda s: p.data(inputs, p.samples(places, s)), at_rest)
            adjoint = jax.tree.map(jnp.add, adjoint, turned(pull(data)[0]))
            if samples is not None:
                _, pull = jax.vjp(lambda weight: p.data(inputs._replace(receiver_weight=weight), samples), receiver)
                receiver = jax.tree.map(jnp.add, receiver, pull(data)[0])
            return (state, adjoint, coefficients, source, receiver), wavelet_bar

        zeros = jax.tree.map(jnp.zeros_like, (near.coefficients, inputs.source_weight, inputs.receiver_weight))
        carry = varying_like((record.final, at_rest, *zeros), (inputs, cotangent))
        xs = (inputs.wavelet, record.rings, record.samples, cotangent)
        (_, _, coefficients, source, receiver), wavelet = _loop(p, step, carry, xs, reverse=True)
        return Inputs(window.uncrop(coefficients, inputs.coefficients), wavelet, source, receiver)


def _rebuilding(rebuild: _Rebuild, places: Places, inputs: Inputs) -> Array:
    """The data of a shot, whose derivative is `rebuild`'s: known as a linear operator and its transpose, and so good
    for forward mode too.
    """

    @jax.custom_jvp
    def run(inputs: Inputs, places: Places) -> Array:
        return _scan(rebuild.propagation, places, inputs)

    @run.defjvp
    def _(primals, tangents):
        inputs, places = primals
        data, record = rebuild.forward(places, inputs)
        return data, linear_operator(rebuild.tangent, rebuild.adjoint, (places, inputs, record), tangents[0])

    return run(inputs, places)
