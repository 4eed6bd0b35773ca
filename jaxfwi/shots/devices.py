"""Where a computation runs: devices in a mesh, batches, and the grid of a shot cut into blocks over devices."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh

from jaxfwi._checks import as_integer
from jaxfwi.grid.blocks import Split
from jaxfwi.grid.frame import Frame

__all__ = ["On", "chosen_devices", "mesh_of", "split_of", "usable_cores"]

Devices = Sequence[jax.Device]


@dataclass(frozen=True)
class On:
    """Where to compute, and how much at once. Changes time and memory, and results by rounding only. Hashable.

    Args:
        devices: to share the shots among: a list, as ``jax.devices()``, or a number of this process's. By default all
            of this process; on a processor that is one device to jax, all of its cores, a shot on each; that device
            alone where jax's default device is set, or the model was put on one. Inside a `jit` or `grad` of yours, the
            device that computes there anyway. Devices of several hosts serve sums over shots, as gradients: all hosts
            must then make the same call.
        batch: shots computed at once on a device by `vmap`; the rest follow in sequence, so that memory grows with the
            batch. By default one on a CPU, and on other devices as many as fit, by the compiled program's own figures
            (one inside a `jit` or `grad` of yours, where these are not known).
        domains: devices that share the grid of each shot, for a model too large for one: the grid is cut along its last
            axis, or as one number per axis says. Devices must be a multiple of it; each row of them computes a shot.

    Raises:
        ValueError: for what is no such number or list. How many devices there are, and whether the grid can be cut so,
            is checked when something is computed.

    >>> On(devices=1, batch=4)
    On(devices=1, batch=4, domains=1)
    """

    devices: int | Devices | None = None
    batch: int | None = None
    domains: int | Sequence[int] = 1

    def __post_init__(self):
        devices, batch, domains = self.devices, self.batch, self.domains
        if isinstance(devices, list | tuple):
            if not devices or not all(isinstance(d, jax.Device) for d in devices):
                raise ValueError(f"devices must be a number or a list of jax devices, as jax.devices(), got {devices}.")
            if len(set(devices)) < len(devices):
                raise ValueError(f"devices must differ, got {devices}.")
            object.__setattr__(self, "devices", tuple(devices))
        elif devices is not None:
            if not isinstance(devices, int | np.integer) or isinstance(devices, bool):
                raise ValueError(
                    f"devices must be a number or a list of jax devices, as jax.devices(), got {devices!r}."
                )
            object.__setattr__(self, "devices", as_integer("devices", devices, 1))
        if batch is not None:
            object.__setattr__(self, "batch", as_integer("batch", batch, 1))
        if isinstance(domains, tuple | list):
            object.__setattr__(self, "domains", tuple(as_integer("domains", n, 1) for n in domains))
        else:
            object.__setattr__(self, "domains", as_integer("domains", domains, 1))


def chosen_devices(devices: Any, model: Any, traced: bool) -> Devices | None:
    """The devices to share the shots among; None for the only one there is, or for the user's own program."""
    if traced and devices is None:
        return None
    local = jax.local_devices()
    if devices is None:
        chosen = _default_devices(model)
        return None if chosen == tuple(local[:1]) == tuple(local) else chosen
    if isinstance(devices, int | np.integer):
        if not 1 <= devices <= len(local):
            raise ValueError(
                f"devices asks for {devices} but this process has {len(local)} ({local[0].platform}): ask for 1 to "
                f'{len(local)}, or on a CPU call jax.config.update("jax_num_cpu_devices", {max(devices, 1)}) before '
                "jax is first used."
            )
        return tuple(local[:devices])
    if not any(d.process_index == jax.process_index() for d in devices):
        raise ValueError(f"devices must have one of this process, of {local}, got {devices}.")
    return devices


def _default_devices(model: Any) -> Devices:
    """The device that the user has chosen by jax's default or by where the model lies, or all of this process."""
    local = jax.local_devices()
    wanted = jax.config.jax_default_device  # pyright: ignore[reportAttributeAccessIssue]
    if wanted is not None:
        return (wanted if isinstance(wanted, jax.Device) else jax.local_devices(backend=wanted)[0],)
    there = {d for x in jax.tree.leaves(model) if isinstance(x, jax.Array) and x.committed for d in x.devices()}
    return tuple(there) if len(there) == 1 else tuple(local)


def mesh_of(devices: Devices, split: Split | None) -> Mesh:
    """The devices in rows: a row computes a shot."""
    blocks, names = (1, ()) if split is None else (split.blocks, (split.name,))
    if len(devices) % blocks:
        raise ValueError(
            f"devices are {len(devices)}, which is no multiple of the {blocks} domains that a shot is cut into: pass "
            f"devices=jax.devices()[:{len(devices) // blocks * blocks}], or other domains."
            if len(devices) > blocks
            else f"domains = {blocks} needs as many devices, but there are {len(devices)}."
        )
    shape = (len(devices) // blocks, blocks)[: 1 + len(names)]
    return jax.make_mesh(shape, ("shots", *names), axis_types=(AxisType.Auto,) * len(shape), devices=devices)


def split_of(frame: Frame, domains: int | Sequence[int], name: str = "domains") -> Split | None:
    """How to cut a padded grid into `domains` blocks over the mesh axis `name`.

    Args:
        frame: the padded grid.
        domains: a number of blocks along the last axis, or one for each axis, of which one may be above 1.
        name: of the mesh axis.

    Returns:
        The split, or None for a single block.

    Raises:
        ValueError: for numbers that cannot be, or blocks too small for layers and stencil.

    >>> import jaxfwi as jf
    >>> split_of(jf.Simulator(jf.Grid((60, 400), 10.0, 1e-3, 100)).frame, 4)
    Split(axis=1, blocks=4, name='domains')
    """
    ndim = frame.grid.ndim
    blocks: list[int] = [1] * (ndim - 1) + [domains] if isinstance(domains, int) else list(domains)
    if len(blocks) != ndim:
        raise ValueError(f"domains must be a number, or one for each of the grid's {ndim} axes, got {domains}.")
    cut = [axis for axis, n in enumerate(blocks) if n > 1]
    if not cut:
        return None
    if len(cut) > 1:
        raise ValueError(f"domains can cut the grid along one axis only, got {domains}: set all others to 1.")
    axis = cut[0]
    split = Split(axis, blocks[axis], name)
    if axis == 0 and frame.free_surface:
        other = "a horizontal axis" if ndim > 1 else "the shots over devices"
        raise ValueError(f"domains = {domains} cuts the axis of the free surface: cut {other} instead.")

    def fits(n):
        length, needed, _ = frame.room(Split(axis, n, name))
        return length >= needed

    if not fits(split.blocks):
        length, needed, _ = frame.room(split)
        most = next((n for n in range(split.blocks - 1, 1, -1) if fits(n)), 1)
        raise ValueError(
            f"domains = {domains} leaves blocks of {length} cells along axis {axis}, of {frame.cells[axis]} with the "
            f"absorbing layers; each needs {needed}, for the layers of both sides and the stencil's reach. At most "
            f"{most} fit: cut less, another axis, or lower the absorber's width."
        )
    return split


def usable_cores() -> int:
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
