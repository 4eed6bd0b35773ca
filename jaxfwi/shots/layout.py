"""Who computes what: how the shots of a call are dealt out to batches, processor cores, devices and hosts."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from jaxfwi._checks import as_integer, is_concrete
from jaxfwi.grid.blocks import Split
from jaxfwi.shots.aperture import windows
from jaxfwi.simulation.simulator import Simulator, split_of
from jaxfwi.survey.survey import Survey

__all__ = ["Aperture", "Deal", "Devices", "Layout", "Shots", "check_finite", "deal", "is_array", "rows_of"]

Devices = int | Sequence[jax.Device] | None
Aperture = float | Sequence[float] | None


class Shots(NamedTuple):
    """What differs from shot to shot; every leaf leads with the shot axis."""

    survey: Survey
    observed: Any = None
    corner: Any = None  # first cell of the window, if there is an aperture
    counts: Any = None  # False for the copies that fill up the last share, if there are any
    weights: Any = None  # of the data, if there are any

    def compared(self, data: Any) -> Any:
        """Data as a misfit sees them: without what stands in padded traces, and weighted."""
        data = self.survey.masked(data)
        return data if self.weights is None else data * self.weights


@dataclass(frozen=True)
class Layout:
    """The static part of how shots are dealt out: a program is compiled for it.

    Args:
        batch: shots computed at once on a device by `vmap`; None while it is yet to be chosen.
        mesh: the devices, along an axis "shots" and, if grids are split, another; None for the one that jax would
            choose.
        split: how the grid of each shot is cut over devices; None if it is not.
    """

    batch: int | None = 1
    mesh: Mesh | None = None
    split: Split | None = None

    @property
    def shares(self) -> int:
        """Equal shares of the shots in one program, one a device."""
        return 1 if self.mesh is None else self.mesh.shape["shots"]


@dataclass(frozen=True)
class Deal:
    """Shots and how they are dealt out.

    Args:
        layout: for the program.
        shots: all of them, wherever they were given.
        device: one of this host's that compute.
        traced: whether this happens inside a program of the user's.
        window: cells of the model around each shot; None for all.
        cores: how many programs run side by side, where a whole processor is one device to jax.
        side_by_side: how many shares have one memory: those of all cores, or of all devices that are cores.
    """

    layout: Layout
    shots: Shots
    device: Any
    traced: bool
    window: tuple[int, ...] | None
    cores: int
    side_by_side: int

    def given(self, survey: Survey, observed: Any) -> "Deal":
        """The same deal with other shots, as many as a call computes at once, and alike."""
        return replace(self, shots=Shots(survey, observed))

    def take(self, indices: np.ndarray | None = None) -> list[Shots]:
        """All shots or some, where they will be computed: a share for each core, each of as many shots as a program
        deals out evenly. Copies of the first shot fill up the last share.

        Of observed data outside jax, as a memory-mapped file, only these shots are read, and each host reads those of
        its own devices only.
        """
        n = len(self.shots.survey) if indices is None else len(indices)
        fill = -n % (self.cores * self.layout.shares)
        order = np.arange(n) if indices is None else np.asarray(indices)
        order = np.concatenate([order, np.repeat(order[:1], fill)])
        counts = np.arange(n + fill) < n
        return [
            self._share(part, counted if fill else None)
            for part, counted in zip(np.split(order, self.cores), np.split(counts, self.cores), strict=True)
        ]

    def _share(self, order: np.ndarray, counts: np.ndarray | None) -> Shots:
        def placed(x, rows=rows_of):
            return self._placed((len(order), *x.shape[1:]), lambda some: rows(x, order[some]))

        shots = jax.tree.map(placed, self.shots._replace(observed=None))
        if self.shots.observed is not None:
            shots = shots._replace(observed=placed(self.shots.observed, self._read))
        return shots if counts is None else shots._replace(counts=self._placed(counts.shape, lambda some: counts[some]))

    def _read(self, observed: Any, order: np.ndarray) -> Any:
        rows = rows_of(observed, order)
        if not is_array(observed):
            check_finite(self.shots.survey[order].masked(rows))
        return rows

    def place(self, model: Any) -> Any:
        """A model, or any numbers, where they will be computed with: the same on all devices."""
        mesh = self.layout.mesh
        if self.traced or mesh is None:
            return jax.tree.map(_as_array, model)
        everywhere = NamedSharding(mesh, PartitionSpec())

        def place(x):
            if isinstance(x, jax.Array) and x.sharding == everywhere:  # not only equivalent: that is another program
                return x
            whole = _as_array(x) if getattr(x, "is_fully_addressable", True) else np.asarray(x)
            return jax.make_array_from_callback(np.shape(x), everywhere, lambda _: whole)

        return jax.tree.map(place, model)

    def _placed(self, shape: tuple[int, ...], part: Callable[[Any], Any]) -> Any:
        """An array of which each device gets its share of shots; ``part(slice)`` are its rows."""
        if self.traced or self.layout.mesh is None:
            return _as_array(part(slice(None)))

        def rows(index: Any) -> jax.Array:
            return _as_array(part(index[0]))

        return jax.make_array_from_callback(shape, NamedSharding(self.layout.mesh, PartitionSpec("shots")), rows)


def deal(
    simulator: Simulator,
    model: Any,
    survey: Survey,
    observed: Any = None,
    *,
    batch: int | None,
    devices: Devices,
    aperture: Aperture,
    domains: int | Sequence[int] = 1,
    at_once: int | None = None,
    weights: Any = None,
) -> Deal:
    """Decide how shots are dealt out.

    Args:
        simulator, model, survey, observed: as given, checked.
        batch, devices, aperture, domains: as for `simulate`.
        at_once: shots of a mini-batch; all of the survey if None.
        weights: of the data, checked.
    """
    n = len(survey) if at_once is None else at_once
    # under jit what is made of known values is traced too: a new array tells
    traced = not is_concrete(*jax.tree.leaves((model, survey, observed, weights)), jnp.zeros(()))
    chosen = _devices(devices, model, traced)
    own = [d for d in chosen or jax.local_devices() if d.process_index == jax.process_index()]
    device = own[0]
    on_cpu = device.platform == "cpu"
    batch = as_integer("batch", batch, 1) if batch is not None else (1 if traced or on_cpu else None)
    split = split_of(simulator, domains)
    mesh = None if chosen is None else _mesh(chosen, split)
    if split is not None and mesh is None:
        raise ValueError(f"domains = {domains} needs as many devices: pass devices=jax.devices().")
    if split is not None and aperture is not None:
        raise ValueError("domains and aperture both cut the model: an aperture makes it small, so leave domains out.")
    window, corner = (None, None) if aperture is None else windows(simulator.grid, survey, aperture)
    cores = min(n, _cores()) if on_cpu and chosen is None and not traced else 1
    side_by_side = cores if chosen is None else (len(own) if on_cpu else 1)
    shots = Shots(survey, observed, corner, weights=weights)
    return Deal(Layout(batch, mesh, split), shots, device, traced, window, cores, side_by_side)


def _mesh(devices: Sequence, split: Split | None) -> Mesh:
    """The devices in rows: a row computes a shot."""
    parts, names = (1, ()) if split is None else (split.parts, (split.name,))
    if len(devices) % parts:
        raise ValueError(
            f"devices are {len(devices)}, which is no multiple of the {parts} domains that a shot is cut into: pass "
            f"devices=jax.devices()[:{len(devices) // parts * parts}], or other domains."
            if len(devices) > parts
            else f"domains = {parts} needs as many devices, but there are {len(devices)}."
        )
    shape = (len(devices) // parts, parts)[: 1 + len(names)]
    return jax.make_mesh(shape, ("shots", *names), axis_types=(AxisType.Auto,) * len(shape), devices=devices)


def _devices(devices: Devices, model: Any, traced: bool) -> tuple | None:
    """The devices to share the shots among; None for the one and only that there is, or for the user's program."""
    if traced and devices is None:
        return None
    local = jax.local_devices()
    if devices is None:
        there = {d for x in jax.tree.leaves(model) if isinstance(x, jax.Array) and x.committed for d in x.devices()}
        wanted = jax.config.jax_default_device  # pyright: ignore[reportAttributeAccessIssue]
        if wanted is not None:
            there = {wanted if isinstance(wanted, jax.Device) else jax.local_devices(backend=wanted)[0]}
        chosen = tuple(there) if len(there) == 1 else tuple(local)
        return None if chosen == tuple(local[:1]) == tuple(local) else chosen
    if isinstance(devices, int | np.integer) and not isinstance(devices, bool):
        if not 1 <= devices <= len(local):
            raise ValueError(
                f"devices asks for {devices} but this process has {len(local)} ({local[0].platform}): ask for 1 to "
                f'{len(local)}, or on a CPU call jax.config.update("jax_num_cpu_devices", {max(devices, 1)}) before '
                "jax is first used."
            )
        return tuple(local[:devices])
    if not isinstance(devices, list | tuple) or not devices or not all(isinstance(d, jax.Device) for d in devices):
        raise ValueError(f"devices must be a number or a list of jax devices, as jax.devices(), got {devices!r}.")
    if len(set(devices)) < len(devices):
        raise ValueError(f"devices must differ, got {devices}.")
    if not any(d.process_index == jax.process_index() for d in devices):
        raise ValueError(f"devices must have one of this process, of {local}, got {devices}.")
    return tuple(devices)


def _cores() -> int:
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def rows_of(x: Any, order: np.ndarray) -> Any:
    """Rows of an array, or of a file that is indexed like one but not by every order."""
    if is_array(x):
        if len(order) == len(x) and (order == np.arange(len(x))).all():
            return x
        if _on_one_processor(x):
            x = np.asarray(x)  # the same memory, and many times as fast as programs of jax for a few rows
        return x[order]
    rising, back = np.unique(order, return_inverse=True)
    rows = np.asarray(x[rising])
    return rows if (back == np.arange(len(rows))).all() and len(back) == len(rows) else rows[back]


def _on_one_processor(x: Any) -> bool:
    """Whether this process has all of a jax array in its own memory, in one piece."""
    if not isinstance(x, jax.Array) or not is_concrete(x) or not x.is_fully_addressable:
        return False
    return [device.platform for device in x.sharding.device_set] == ["cpu"]


def is_array(x: Any) -> bool:
    """Whether data are in memory, and no file."""
    return isinstance(x, jax.Array | np.ndarray) and not isinstance(x, np.memmap)


def check_finite(observed: Any) -> None:
    """Raise a ValueError if observed data have values that are not finite."""
    if not np.isfinite(np.asarray(observed)).all():
        raise ValueError("observed has values that are not finite: mute or interpolate those traces.")


def _as_array(x: Any) -> jax.Array:
    # with an explicit dtype, so that a number's type that jax only inferred makes no other program
    return jnp.asarray(x, jnp.result_type(x))
