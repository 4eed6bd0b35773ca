"""First-order systems on a staggered grid: what velocity-pressure and velocity-stress equations share.

Such an equation is a table. It says of each field which derivatives of other fields move it, and with what coefficient;
a stage of the time step moves some of the fields by the others. From the table follow the stage backwards, the memory
variables of the absorbing layer, and the ring that boundary saving must record.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxfwi.equations.base import Field, Ring, Stage, State, WaveEquation
from jaxfwi.grid import stencils
from jaxfwi.grid.absorber import Slab
from jaxfwi.grid.blocks import Split, in_outermost, with_neighbours
from jaxfwi.grid.derivative import Derivative, first_row
from jaxfwi.grid.linear import linear_operator
from jaxfwi.grid.surface import surface

__all__ = [
    "Staggered",
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
    """A coefficient, with a sign, times a sum of derivatives, each of a field along an axis."""

    coefficient: str
    derivatives: tuple[tuple[str, int], ...]
    sign: float = 1.0


Table = dict[str, tuple[Term, ...]]


class Staggered(WaveEquation):
    """A first-order system ``field_t = sum of coefficient * derivatives of other fields + source``.

    In the state of step n, what the first stage moves is known half a step before ``n dt`` and the rest at ``n dt``:
    leapfrog (Madariaga 1976; Virieux 1986, Geophysics 51, 889-901). The first derivative damped by a C-PML is that of
    Komatitsch & Martin (2007, Geophysics 72, SM155-SM167).
    """

    staggered: ClassVar[bool] = True
    isotropic_loss: ClassVar[float] = 0.0  # in the layer, for waves along it too, as a part of that across it

    @classmethod
    def tables(cls, ndim: int) -> tuple[Table, Table]:
        """What moves the fields, in the two stages of a time step."""
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
        memory = {}
        for table in cls.tables(zeros.ndim):
            memory |= _rates(cls, derivative, table).memory(zeros)
        return State(dict.fromkeys(cls.fields(zeros.ndim), zeros), memory)

    @classmethod
    def stages(cls, ndim: int, space_order: int) -> tuple[Stage, ...]:
        tables, fields, reach = cls.tables(ndim), cls.fields(ndim), space_order // 2
        read = {key for table in tables for key in _derivatives(table)}

        def stage(table):
            # so far a derivative on the model's nodes looks beyond the values half-way, and the other way round
            ring = tuple(
                Ring(name, axis, reach - 1 + fields[name].half[axis], reach - 1 + fields[name].half[axis])
                for name in table
                for axis in range(ndim)
                if (name, axis) in read
            )
            return Stage(_moved(cls, table, 1.0), _moved(cls, table, -1.0), ring, tuple(map(_key, _derivatives(table))))

        return tuple(map(stage, tables))

    @classmethod
    def row_volumes(cls, space_order: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
        s = surface(space_order)
        return s.node_volumes, s.half_volumes


def axis_names(ndim: int) -> str:
    """The axes' letters in their order: z, zx or zyx."""
    return {1: "z", 2: "zx", 3: "zyx"}[ndim]


def half_way(ndim: int, *axes: int) -> tuple[bool, ...]:
    """Half-way between nodes along these axes."""
    return tuple(axis in axes for axis in range(ndim))


def next_node_mean(x: Array, axis: int) -> Array:
    """The mean of each node's value and the next one's along an axis; the last node's is its own."""
    n = x.shape[axis]
    return 0.5 * (
        x + jnp.concatenate([stencils.slice_axis(x, axis, 1, n - 1), stencils.slice_axis(x, axis, n - 1, 1)], axis)
    )


def closed(x: Array, half: tuple[bool, ...]) -> Array:
    """`x`, with zeros half a cell beyond the last node: nothing moves there, as half a cell before the first node."""
    for axis, h in enumerate(half):
        if h:
            x = stencils.pad_axis(stencils.slice_axis(x, axis, 0, x.shape[axis] - 1), axis, 0, 1)
    return x


def buoyancies(rho: Array, dt: float) -> dict[str, Array]:
    """``dt / rho`` half-way between nodes along each axis, by the axis' letter: the mean density's."""
    return {
        name: closed(dt / next_node_mean(rho, axis), half_way(rho.ndim, axis))
        for axis, name in enumerate(axis_names(rho.ndim))
    }


def fastest(vp: Any, rho: Any) -> float:
    """The speed in m/s that limits the time step: above vp where dense cells lie beside light ones.

    It is the root of the largest ``rho vp^2`` of a node times the mean of ``1 / rho`` half-way to its neighbours.
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
    """The derivatives that a table asks for, each once."""
    return list(dict.fromkeys(d for terms in table.values() for term in terms for d in term.derivatives))


def _key(derivative: tuple[str, int]) -> str:
    return f"{derivative[0]} along axis {derivative[1]}"


def _rates(equation: type[Staggered], derivative: Derivative, table: Table) -> "Rates":
    fields = equation.fields(len(derivative.spacing))
    return Rates(derivative, tuple((name, axis, fields[name]) for name, axis in _derivatives(table)))


def _moved(equation: type[Staggered], table: Table, direction: float) -> Callable:
    """A stage of the time step, forwards (1) or backwards (-1)."""

    def stage(coefficients: dict[str, Array], state: State, derivative: Derivative, source: Any) -> State:
        rates = _rates(equation, derivative, table)
        dense, patches, memory, read = rates(state.waves, state.memory)
        waves = state.waves | read
        half = {name: field.half for name, field in equation.fields(len(derivative.spacing)).items()}
        for name, terms in table.items():
            field = _kept(derivative, waves[name], half[name], equation.isotropic_loss)
            for c, derivatives, sign in terms:
                field = field + direction * sign * coefficients[c] * sum(dense[_key(d)] for d in derivatives)
            extra: dict[tuple, Array] = {}
            for c, derivatives, sign in terms:
                for d in derivatives:
                    for start, patch in zip(rates.starts(d, field.shape), patches[_key(d)], strict=True):
                        more = direction * sign * stencils.slice_at(coefficients[c], start, patch.shape) * patch
                        where = (start, patch.shape)
                        extra[where] = extra[where] + more if where in extra else more
            for (start, _), patch in extra.items():
                field = stencils.add_at(field, start, patch)
            scale = equation.source_scale(name)
            act = source.add if direction > 0 else source.remove
            waves[name] = act(name, field, source.dt if scale is None else coefficients[scale])
        return State(waves, {**state.memory, **memory})

    return stage


def _kept(derivative: Derivative, field: Array, half: tuple[bool, ...], share: float) -> Array:
    """What a step leaves of a field in the layer, if waves lose something in all directions there."""
    left: dict[int, Array] = {}  # along each axis
    for slab in derivative.slabs if share else ():
        profile = (slab.half if half[slab.axis] else slab.nodes).loss
        loss = np.zeros(field.shape[slab.axis])
        start = slab.start(field.shape, 0, half[slab.axis])[slab.axis]
        loss[start : start + slab.width] = profile[::-1] if slab.far else profile
        shape = [-1 if axis == slab.axis else 1 for axis in range(field.ndim)]
        kept = in_outermost(slab.split, slab.far, jnp.asarray(np.exp(-share * loss).reshape(shape), field.dtype), 1.0)
        left[slab.axis] = left[slab.axis] * kept if slab.axis in left else kept
    for kept in left.values():
        field = field * kept
    return field


@dataclass(frozen=True)
class Rates:
    """The derivatives of a stage, damped in the layer's slabs and closed at a free surface, as one linear operator.

    Each derivative comes as a dense pass over the grid and patches to be added to it: the change of the first rows at a
    free surface, and ``psi = decay psi + gain derivative`` in each slab across its axis. With them come the fields that
    were read: taken from here for the rest of the step, all of their cotangents are there when, going backwards, the
    patches are added to them.
    """

    derivative: Derivative
    reads: tuple[tuple[str, int, Field], ...]

    def memory(self, field: Array) -> dict[str, tuple[Array, ...]]:
        """Memory variables at rest."""
        return {
            _key((name, axis)): tuple(stencils.slice_axis(field, axis, 0, slab.width) for slab in self._slabs(axis))
            for name, axis, _ in self.reads
        }

    def starts(self, d: tuple[str, int], shape: tuple[int, ...]) -> list[tuple[int, ...]]:
        """Where the patches of a derivative begin."""
        axis = d[1]
        to_half = not next(f for n, a, f in self.reads if (n, a) == d).half[axis]
        first = [first_row(self.derivative.order // 2, len(shape))] if self._at_surface(axis) else []
        return first + [slab.start(shape, 0, to_half) for slab in self._slabs(axis)]

    def __call__(self, waves: dict[str, Array], memory: dict[str, Any]) -> tuple[dict, dict, dict, dict]:
        operands = {name: waves[name] for name, *_ in self.reads}
        keys = [_key((name, axis)) for name, axis, _ in self.reads]
        return linear_operator(self._apply, self._transpose, (), (operands, {key: memory.get(key, ()) for key in keys}))

    def _apply(self, _, operands):
        waves, memory = operands
        order, reach = self.derivative.order, self.derivative.order // 2
        dense, patches, new = {}, {}, {}
        for name, axis, field in self.reads:
            key, to_half = _key((name, axis)), not field.half[axis]
            u = with_neighbours(waves[name], reach, self._split(axis))
            h = self.derivative.spacing[axis]
            dense[key] = stencils.pad_axis(stencils.staggered(u, axis, order, h, to_half), axis, reach, reach)
            patches[key], psis = [], []
            if self._at_surface(axis):
                change = self._change(field, u.dtype)
                patches[key].append(_rows(change, stencils.slice_axis(u, 0, reach, change.shape[1])))
            for slab, psi in zip(self._slabs(axis), memory[key], strict=True):
                a, b = slab.recursion(u.ndim, u.dtype, to_half)
                first = slab.start(u.shape, 0, to_half)[axis] - reach
                near = stencils.slice_axis(u, axis, first, slab.width + 2 * reach)
                psi = b * psi + a * stencils.staggered(near, axis, order, h, to_half)
                patches[key].append(psi)
                psis.append(psi)
            new[key] = tuple(psis)
        return dense, patches, new, waves

    def _transpose(self, _, cotangents):
        """The transpose of `_apply`: of the two staggered derivatives each is minus the other's transpose."""
        dense, patches, memory, waves = cotangents
        order, reach = self.derivative.order, self.derivative.order // 2
        waves = dict(waves)
        old, later = {}, []
        for name, axis, field in self.reads:
            key, to_half = _key((name, axis)), not field.half[axis]
            h = self.derivative.spacing[axis]
            wide = with_neighbours(stencils.unfused_on_cpu(dense[key]), reach, self._split(axis))
            pulled = -stencils.pad_axis(stencils.staggered(wide, axis, order, h, not to_half), axis, reach, reach)
            waves[name] = waves[name] + pulled
            rest, psis = list(patches[key]), []
            if self._at_surface(axis):
                change = self._change(field, pulled.dtype)
                later.append((name, first_row(reach, pulled.ndim), _rows(change.T, rest.pop(0))))
            for slab, patch, psi in zip(self._slabs(axis), rest, memory[key], strict=True):
                a, b = slab.recursion(pulled.ndim, pulled.dtype, to_half)
                psi = psi + patch
                psis.append(b * psi)
                later.append((name, *self._pulled_from(slab, a * psi, to_half, pulled.shape)))
            old[key] = tuple(psis)
        for name, start, patch in later:
            waves[name] = stencils.add_at(waves[name], start, patch)
        return waves, old

    def _pulled_from(self, slab: Slab, values: Array, to_half: bool, shape: tuple[int, ...]):
        """Minus the opposite derivative of values in a slab that are zero outside it, and where it begins."""
        order, reach, axis = self.derivative.order, self.derivative.order // 2, slab.axis
        start = list(slab.start(shape, 0, to_half))
        before = min(reach, start[axis] - reach)
        after = min(reach, shape[axis] - reach - start[axis] - slab.width)
        start[axis] -= before
        wide = stencils.pad_axis(values, axis, reach + before, reach + after)
        pulled = -stencils.staggered(wide, axis, order, self.derivative.spacing[axis], not to_half)
        return tuple(start), pulled

    def _slabs(self, axis: int) -> list[Slab]:
        return [slab for slab in self.derivative.slabs if slab.axis == axis]

    def _split(self, axis: int) -> Split | None:
        """The split, if derivatives along this axis look across it."""
        split = self.derivative.split
        return split if split is not None and split.axis == axis else None

    def _at_surface(self, axis: int) -> bool:
        return self.derivative.free_surface and axis == 0

    def _change(self, field: Field, dtype: Any) -> np.ndarray:
        """How the derivative across a free surface differs there from the plain one.

        Normal stress and pressure are zero on the surface whatever their array holds; the normal velocity's derivative
        is not used there.
        """
        s, order = surface(self.derivative.order), self.derivative.order
        if field.half[0]:
            change = s.to_nodes.copy()
            if not field.odd:
                change[0] = -_plain(order, change.shape, to_half=False)[0]
        else:
            change = s.to_half.copy()
            if field.odd:
                change[:, 0] = -_plain(order, change.shape, to_half=True)[:, 0]
        return (change / self.derivative.spacing[0]).astype(dtype)


def _plain(order: int, shape: tuple[int, ...], to_half: bool) -> np.ndarray:
    """The plain derivative's matrix in the first rows."""
    out, first = np.zeros(shape), 0 if to_half else -1
    for i in range(shape[0]):
        for k, c in enumerate(stencils.staggered_derivative(order), start=1):
            for j, value in ((i + first + k, c), (i + first + 1 - k, -c)):
                if 0 <= j < shape[1]:
                    out[i, j] += value
    return out


def _rows(matrix: np.ndarray, u: Array) -> Array:
    """A matrix times the rows of u."""
    return jnp.tensordot(jnp.asarray(matrix), u, axes=1, precision="highest")
