"""First-order systems on a staggered grid: the common parts of velocity-pressure and velocity-stress equations.

Such an equation is a table. For each field it lists the derivatives of other fields that move it, and their
coefficients; a sub-step moves some of the fields by the others. From the table follow the sub-step backwards, the
memory variables of the absorbing layer, and the ring that boundary saving must record.
"""

import functools
import operator
from typing import Any, ClassVar, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxfwi.equations.base import Advance, Ring, Source, State, SubStep, WaveEquation
from jaxfwi.equations.first_derivatives import FirstDerivative, FirstDerivatives, layer_key
from jaxfwi.grid import stencils
from jaxfwi.grid.blocks import in_outermost
from jaxfwi.grid.derivative import Derivative, Patched
from jaxfwi.grid.surface import surface

__all__ = [
    "Staggered",
    "Table",
    "Term",
    "axis_names",
    "buoyancies",
    "check_positive",
    "closed",
    "fastest",
    "half_way",
    "next_node_mean",
]


class Term(NamedTuple):
    """A coefficient, with a sign, times a sum of derivatives.

    Args:
        coefficient: its name.
        derivatives: a field's name and an axis for each.
        sign: 1 or -1.
    """

    coefficient: str
    derivatives: tuple[tuple[str, int], ...]
    sign: float = 1.0


Table = dict[str, tuple[Term, ...]]


class Staggered(WaveEquation):
    """A first-order system ``field_t = sum of coefficient * derivatives of other fields + source``.

    A time step has two sub-steps. In the state of step n, the fields that the first one moves lie half a step before
    ``n dt``, the others at ``n dt``: leapfrog (Madariaga 1976; Virieux 1986, Geophysics 51, 889-901). First derivatives
    are damped by the C-PML of Komatitsch & Martin (2007, Geophysics 72, SM155-SM167).

    Beside the attributes of any equation it may set ``isotropic_loss``: in the layer waves lose in all directions this
    fraction of their loss across it.
    """

    staggered: ClassVar[bool] = True
    isotropic_loss: ClassVar[float] = 0.0

    @classmethod
    def tables(cls, ndim: int) -> tuple[Table, Table]:
        """The terms that move each field, for the two sub-steps of a time step."""
        raise NotImplementedError

    @classmethod
    def source_scale(cls, name: str) -> str | None:
        """The coefficient that scales sources of a field: None for the time step alone."""
        raise NotImplementedError

    @classmethod
    def halves(cls, ndim: int) -> dict[str, tuple[bool, ...]]:
        fields = cls.fields(ndim)
        tables = cls.tables(ndim)
        return {term.coefficient: fields[n].half for table in tables for n, terms in table.items() for term in terms}

    @classmethod
    def initial(cls, zeros: Array, derivative: Derivative) -> State:
        layer = {}
        for table in cls.tables(zeros.ndim):
            layer |= _first_derivatives(cls, table, derivative).layer_at_rest(zeros)
        return State(dict.fromkeys(cls.fields(zeros.ndim), zeros), layer)

    @classmethod
    def substeps(cls, ndim: int, space_order: int) -> tuple[SubStep, ...]:
        tables, fields, reach = cls.tables(ndim), cls.fields(ndim), space_order // 2
        read = {d for table in tables for d in _derivatives(table)}

        def substep(table):
            # values half-way are read by a derivative on the model's nodes as far as this, and the other way round
            ring = tuple(
                Ring(name, axis, reach - 1 + fields[name].half[axis], reach - 1 + fields[name].half[axis])
                for name in table
                for axis in range(ndim)
                if (name, axis) in read
            )
            layer = tuple(layer_key(name, axis) for name, axis in _derivatives(table))
            return SubStep(_move(cls, table, 1.0), _move(cls, table, -1.0), ring, layer)

        return tuple(map(substep, tables))

    @classmethod
    def row_volumes(cls, space_order: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
        s = surface(space_order)
        return s.node_volumes, s.half_volumes


def axis_names(ndim: int) -> str:
    """The axes' letters in their order: z, zx or zyx."""
    return {1: "z", 2: "zx", 3: "zyx"}[ndim]


def half_way(ndim: int, *axes: int) -> tuple[bool, ...]:
    """The `half` of a `Field` whose values lie half-way between nodes along these axes."""
    return tuple(axis in axes for axis in range(ndim))


def next_node_mean(x: Array, axis: int) -> Array:
    """The mean of each node's value and the next one's along an axis; the last node's is its own."""
    n = x.shape[axis]
    return 0.5 * (
        x + jnp.concatenate([stencils.slice_axis(x, axis, 1, n - 1), stencils.slice_axis(x, axis, n - 1, 1)], axis)
    )


def closed(x: Array, half: tuple[bool, ...]) -> Array:
    """`x`, zero half a cell beyond the last node: nothing moves there, as nothing lies before the first node."""
    for axis, h in enumerate(half):
        if h:
            x = stencils.pad_axis(stencils.slice_axis(x, axis, 0, x.shape[axis] - 1), axis, 0, 1)
    return x


def buoyancies(rho: Array, dt: float) -> dict[str, Array]:
    """``dt / rho`` half-way between nodes along each axis, by the axis' letter; rho is the mean of both nodes."""
    return {
        name: closed(dt / next_node_mean(rho, axis), half_way(rho.ndim, axis))
        for axis, name in enumerate(axis_names(rho.ndim))
    }


def fastest(vp: Any, rho: Any) -> float:
    """The speed in m/s that limits the time step, above vp where dense cells lie beside light ones.

    The root of the largest ``rho vp^2`` of a node times the mean of ``1 / rho`` half-way to its neighbours.
    """
    vp, rho = np.asarray(vp, float), np.asarray(rho, float)
    largest = 0.0
    for axis in range(rho.ndim):
        wide = np.concatenate([rho.take([0], axis), rho, rho.take([-1], axis)], axis)
        before, after = (wide.take(range(s, s + rho.shape[axis]), axis) for s in (0, 2))
        largest = max(largest, float(np.max(rho * vp**2 * (1.0 / (rho + before) + 1.0 / (rho + after)))))
    return largest**0.5


def check_positive(model: Any, name: str, unit: str) -> None:
    """Raise a ValueError if a parameter is not finite and positive everywhere."""
    value, equation = np.asarray(getattr(model, name)), type(model).__name__
    if not np.isfinite(value).all():
        raise ValueError(f"{equation} {name} has values that are not finite: look for NaN in the model.")
    if not (value > 0).all():
        raise ValueError(
            f"{equation} {name} must be positive {unit} everywhere, its smallest value is {value.min():g}."
        )


def _derivatives(table: Table) -> list[tuple[str, int]]:
    """The derivatives that a table names, each once."""
    return list(dict.fromkeys(d for terms in table.values() for term in terms for d in term.derivatives))


def _first_derivatives(equation: type[Staggered], table: Table, derivative: Derivative) -> FirstDerivatives:
    fields = equation.fields(len(derivative.spacing))
    return FirstDerivatives(tuple(FirstDerivative(derivative, n, axis, fields[n]) for n, axis in _derivatives(table)))


def _move(equation: type[Staggered], table: Table, direction: float) -> Advance:
    """A sub-step that moves the fields of a table, forwards (1) or backwards (-1)."""

    def advance(coefficients: dict[str, Array], state: State, derivative: Derivative, source: Source) -> State:
        rates, layer, read = _first_derivatives(equation, table, derivative)(state.waves, state.layer)
        waves, fields = state.waves | read, equation.fields(len(derivative.spacing))
        for name, terms in table.items():
            wave = _damped_in_layer(waves[name], derivative, fields[name].half, equation.isotropic_loss)
            moved = Patched(wave, {})
            for coefficient, derivatives, sign in terms:
                rate = functools.reduce(operator.add, (rates[d] for d in derivatives))
                moved = moved + rate.scaled(direction * sign * coefficients[coefficient])
            scale = equation.source_scale(name)
            inject = source.add if direction > 0 else source.remove
            waves[name] = inject(name, moved.merged(), source.dt if scale is None else coefficients[scale])
        return State(waves, {**state.layer, **layer})

    return advance


def _damped_in_layer(field: Array, derivative: Derivative, half: tuple[bool, ...], fraction: float) -> Array:
    """A field after the isotropic loss of a time step: in all directions, a fraction of each slab's loss across it."""
    remaining: dict[int, Array] = {}  # by axis
    for slab in derivative.slabs if fraction else ():
        axis = slab.axis
        profile = (slab.half if half[axis] else slab.nodes).loss
        loss = np.zeros(field.shape[axis])
        start = slab.start(field.shape, 0, half[axis])[axis]
        loss[start : start + slab.width] = profile[::-1] if slab.far else profile
        shape = [-1 if a == axis else 1 for a in range(field.ndim)]
        factor = jnp.asarray(np.exp(-fraction * loss).reshape(shape), field.dtype)
        factor = in_outermost(slab.split, slab.far, factor, 1.0)
        remaining[axis] = remaining[axis] * factor if axis in remaining else factor
    for factor in remaining.values():
        field = field * factor
    return field
