"""Projects of Seistorch: its configuration, geometry, models and gathers, for users who move to jaxfwi.

The places of things in its files are those of Seistorch's documents (github.com/GeophyAI/seistorch,
``doc/configure.md`` and ``doc/data_format.md``); how it adds sources and records was taken from its program. Needs
PyYAML (``pip install jaxfwi[seistorch]``).

=====================================  =====================================================================
in the configuration                   here
=====================================  =====================================================================
``equation``                           `Project.equation`
``geom: dt, nt, h``                    `Project.grid`, its shape from the models
``geom: sources, receivers, Nshots``   `Project.survey`: grid indices, x before z, become metres, z before x
``geom: wavelet, fm``                  `Project.wavelet`; scaled in `Project.survey`, see there
``wavelet_delay, wavelet_inverse``     `Project.wavelet`, if it is made from ``fm``
``geom: truePath, initPath``           `Project.true`, `Project.start`
``geom: seabed``                       `Project.mask`
``geom: obsPath``                      `Project.observed`
``geom: multiple, pml``, ``boundary``  `Project.simulator`: free surface, absorbing layer
``source_type, receiver_type``         `Project.simulator`: driven and recorded fields
=====================================  =====================================================================

Everything else, such as the optimiser, stays in `Project.configuration`.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from jaxfwi.equations import Acoustic, Elastic, VariableDensityAcoustic, WaveEquation
from jaxfwi.grid.absorber import CPML
from jaxfwi.grid.grid import Grid
from jaxfwi.io import models, pickles
from jaxfwi.io.configuration import file_of, geom, layer_width, names, number, parsed
from jaxfwi.io.files import existing
from jaxfwi.simulation.simulator import Simulator
from jaxfwi.survey.survey import Survey
from jaxfwi.survey.wavelets import ricker

__all__ = ["Project", "read"]

_EQUATIONS: dict[str, type[WaveEquation]] = {
    "acoustic": Acoustic,
    "acoustic_habc": Acoustic,
    "acoustic1st": VariableDensityAcoustic,
    "elastic": Elastic,
}
_PARAMETERS = {Acoustic: ("vp",), VariableDensityAcoustic: ("vp", "rho"), Elastic: ("vp", "vs", "rho")}
_FIELDS = {
    Acoustic: {"h1": "u"},
    VariableDensityAcoustic: {"p": "p", "vx": "vx", "vz": "vz"},
    Elastic: {"vx": "vx", "vz": "vz", "txx": "sxx", "tzz": "szz", "txz": "sxz"},
}


@dataclass(frozen=True, eq=False)
class Project:
    """The content of a Seistorch project; `read` returns it and has an example.

    Args:
        grid: cells, spacing, time step and samples.
        survey: the shots. For the second-order acoustic equation the wavelet is scaled so that data are Seistorch's:
            that program adds the wavelet's sample to the field in every step, which is a source of ``w h^ndim / (dt
            vp)^2`` in `jaxfwi.Acoustic`, with vp at the source (of the true model, or else the start model), and
            records the field one step later. For other equations the wavelet is not scaled: choose a misfit that does
            not depend on amplitudes, or scale it yourself.
        wavelet: that of Seistorch, ``(nt,)``.
        equation: the class of jaxfwi for the wave equation, for ``project.equation(**project.true)``; None if there is
            none.
        true, start: parameters by name, ``(nz, nx)`` or ``(nz, ny, nx)``; empty where no files are named.
        mask: 1 where cells may change and 0 in the water, of the model's shape, as `jaxfwi.invert` and
            `jaxfwi.models.smooth` take it; None if there is none.
        simulator: with grid, boundaries and fields as configured; with default fields, if jaxfwi does not have the
            equation. Choose another order or memory by ``dataclasses.replace``.
        configuration: the whole file, as read from YAML.
        root: folder from which relative paths start.
    """

    grid: Grid
    survey: Survey
    wavelet: np.ndarray = field(repr=False)
    equation: type[WaveEquation] | None
    true: dict[str, np.ndarray] = field(repr=False)
    start: dict[str, np.ndarray] = field(repr=False)
    mask: np.ndarray | None = field(repr=False)
    simulator: Simulator = field(repr=False)
    configuration: dict[str, Any] = field(repr=False)
    root: Path

    def observed(self) -> np.ndarray:
        """The shot gathers of ``geom: obsPath``, ``(shots, time, receivers, components)``, with zeros for padding.

        A file of plain numbers is memory-mapped, and read when it is used. Seistorch's own files contain arrays of
        objects, which are read completely: write them by `jaxfwi.io.gathers.write` once.

        Raises:
            FileNotFoundError: if there is no such file, for instance before data were modelled.
            ValueError: for data that do not fit the survey, or a file that is not ``.npy`` or contains anything but
                numbers.
        """
        given = geom(self.configuration, "obsPath")
        path = file_of(self.root, "obsPath", given)
        if path.suffix != ".npy":
            raise ValueError(
                f"geom: obsPath is {given}, but only .npy files are read: read the shots yourself, and pad them by "
                "Project.survey.pad."
            )
        return _gathers(path, self.survey, self.grid.nt)

    def read_result(self, path: str | os.PathLike) -> np.ndarray:
        """Read a model or gradient that an inversion wrote, such as ``paravpF00E09.npy``, without the absorbing layers
        around it.

        Args:
            path: of the file.

        Returns:
            ``(nz, nx)``, of the grid's shape.

        Raises:
            FileNotFoundError: if there is no such file.
            ValueError: for a file of another shape than the grid with its layers, or of a 3D model.
        """
        if self.grid.ndim != 2:
            raise ValueError("results are read in 2D: Seistorch's documents do not say how 3D ones lie.")
        width = layer_width(self.configuration)
        top = 0 if self.simulator.free_surface else width
        nz, nx = self.grid.shape
        result = models.read(path)
        if result.shape != (nz + top + width, nx + 2 * width):
            raise ValueError(
                f"{path} has shape {result.shape}, but the grid {self.grid.shape} with its layers of {width} cells is "
                f"{(nz + top + width, nx + 2 * width)}."
            )
        return result[top : top + nz, width : width + nx]


def read(configuration: str | os.PathLike, root: str | os.PathLike | None = None, *, axes: str = "xzy") -> Project:
    """Read a Seistorch project; the table in `jaxfwi.io.seistorch` shows what is taken from where.

    Pickles are read without running anything: they may contain lists, tuples and numbers, also of numpy, and nothing
    else. Indices that are not whole numbers are cut to whole ones, as in Seistorch.

    Args:
        configuration: path of the YAML file.
        root: folder from which the paths in it start, which is where Seistorch was run; by default the file's folder.
        axes: order of the axes in the files of 3D models; Seistorch's documents say ``(nx, nz, ny)``.

    Returns:
        `Project`. Gathers are read by its ``observed()``.

    Raises:
        FileNotFoundError: if a file is missing, naming the key that asks for it.
        ImportError: if PyYAML is not installed.
        ValueError: for a configuration or files that do not make a project, naming key, value and remedy; for pickles
            that contain anything but numbers.

    >>> import pickle, tempfile, numpy as np, jaxfwi as jf
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     np.save(f"{folder}/vp.npy", np.full((30, 40), 1500.0, np.float32))
    ...     positions = {"sources": [[20, 1]], "receivers": [[[0, 10, 20], [2, 2, 2]]]}
    ...     for name, indices in positions.items():
    ...         with open(f"{folder}/{name}.pkl", "wb") as file:
    ...             pickle.dump(indices, file)
    ...     with open(f"{folder}/forward.yml", "w") as file:
    ...         _ = file.write('''
    ... equation: acoustic
    ... geom: {dt: 0.001, nt: 500, h: 10.0, fm: 10.0, wavelet_delay: 150, Nshots: 99,
    ...        multiple: false, pml: {N: 50},
    ...        truePath: {vp: vp.npy}, sources: sources.pkl, receivers: receivers.pkl}
    ... ''')
    ...     project = jf.io.seistorch.read(f"{folder}/forward.yml")
    >>> project.grid
    Grid(30 x 40 cells of 10 m: 0.29 km x 0.39 km, 500 steps of 1 ms: 0.5 s)
    >>> project.survey, project.survey.source[0].tolist()
    (Survey(1 shot: 1 source and 3 receivers each, 500 time samples), [[10.0, 200.0]])
    >>> project.equation(**project.true).vp.shape
    (30, 40)
    """
    path = existing(configuration)
    root = path.parent if root is None else Path(root)
    config = parsed(path)
    name = config.get("equation")
    equation = _EQUATIONS.get(name) if isinstance(name, str) else None
    if sorted(axes) != ["x", "y", "z"]:
        raise ValueError(f'axes must be the letters x, y and z in the order of the model files\' axes, got "{axes}".')
    source, receiver = (_indices(file_of(root, key, geom(config, key))) for key in ("sources", "receivers"))
    ndim = _dimensions(source)
    true, start = (_model(config, key, root, equation, axes if ndim == 3 else "zx") for key in ("truePath", "initPath"))
    shapes = {f"{key}: {n}": m.shape for key, ms in (("truePath", true), ("initPath", start)) for n, m in ms.items()}
    if not shapes:
        raise ValueError("geom: truePath and initPath name no model: the grid's shape is that of the models.")
    first, shape = next(iter(shapes.items()))
    for where, other in shapes.items():
        if other != shape or len(other) != ndim:
            raise ValueError(
                f"geom: {where} has shape {other}, geom: {first} {shape}, and sources have {ndim} coordinates: all "
                "must fit."
            )
    grid = Grid(shape, number(config, "h"), number(config, "dt"), round(number(config, "nt")))
    shots = min(len(source), round(number(config, "Nshots", len(source))))
    if len(receiver) != len(source) or shots < 1:
        raise ValueError(
            f"there are {len(source)} sources, {len(receiver)} lists of receivers and Nshots = {shots}: each source "
            "needs its list, and there must be a shot."
        )
    nodes = [_nodes(f"source {i}", source[i], grid.shape)[0] for i in range(shots)]
    spreads = [_nodes(f"shot {i}: receivers", receiver[i], grid.shape) for i in range(shots)]
    wavelet = _wavelet(config, root, grid)
    model = true or start
    emitted: Any = wavelet
    if equation is Acoustic and "vp" in model:
        factor = grid.spacing[0] ** ndim / (grid.dt * np.array([model["vp"][tuple(n)] for n in nodes], float)) ** 2
        emitted = factor[:, None] * np.append(wavelet[1:], 0.0)
    h = grid.spacing[0]
    survey = Survey.from_lists([h * n for n in nodes], [h * r for r in spreads], emitted)
    seabed = geom(config, "seabed", None)
    mask = (
        None if seabed is None else _turned(models.read(file_of(root, "seabed", seabed)), axes if ndim == 3 else "zx")
    )
    if mask is not None and mask.shape != grid.shape:
        raise ValueError(f"geom: seabed has shape {mask.shape}, the models {grid.shape}.")
    return Project(grid, survey, wavelet, equation, true, start, mask, _simulator(config, grid, equation), config, root)


def _model(
    config: Mapping[str, Any], key: str, root: Path, equation: type[WaveEquation] | None, axes: str
) -> dict[str, np.ndarray]:
    """The parameters in the files that a section names, of those that the equation has."""
    paths = geom(config, key, {})
    if not isinstance(paths, dict):
        raise ValueError(f"geom: {key} must have a path for each parameter, got {paths!r}.")
    wanted = paths if equation is None else _PARAMETERS[equation]
    found = {
        name: _turned(models.read(file_of(root, f"{key}: {name}", paths[name])), axes)
        for name in wanted
        if paths.get(name) is not None
    }
    if found and equation is not None and len(found) < len(wanted):
        missing = next(name for name in wanted if name not in found)
        raise ValueError(f"geom: {key} has no {missing}, which the equation {config['equation']} needs.")
    return found


def _turned(model: np.ndarray, axes: str) -> np.ndarray:
    """A model with its axes in the order of jaxfwi, z first."""
    return model if model.ndim != 3 or len(axes) != 3 else model.transpose([axes.index(a) for a in "zyx"])


def _indices(path: Path) -> Any:
    found = pickles.load(path)
    if not isinstance(found, list | tuple | np.ndarray) or not len(found):
        raise ValueError(f"{path} must hold a list with an entry for each shot, got {type(found).__name__}.")
    return found


def _dimensions(source: Any) -> int:
    for shot, given in enumerate(source):
        if np.shape(given) not in ((2,), (3,)) or np.shape(given) != np.shape(source[0]):
            raise ValueError(f"source {shot} must be [x, z], or as all [x, y, z], in grid indices, got {given!r}.")
    return len(source[0])


def _nodes(name: str, given: Any, shape: tuple[int, ...]) -> np.ndarray:
    """Indices ``(points, ndim)``, axes from z to x.

    Args:
        name: for messages.
        given: coordinates in the order x, z or x, y, z, each a number or a list of any shape with one number per point.
        shape: of the grid.
    """
    order = "[x, z]" if len(shape) == 2 else "[x, y, z]"
    try:
        points = np.stack([np.ravel(np.asarray(c, float)) for c in given][::-1], axis=-1)
    except (TypeError, ValueError):
        raise ValueError(f"{name} must be {order}, with as many numbers in each, got {given!r}.") from None
    if points.shape[1] != len(shape) or not len(points) or not np.isfinite(points).all():
        raise ValueError(f"{name} must be {order} in finite numbers, got {given!r}.")
    nodes = np.trunc(points).astype(int)
    for at in nodes[(nodes < 0).any(axis=1) | (nodes >= shape).any(axis=1)][:1, ::-1].tolist():
        raise ValueError(f"{name}: {order} = {at} is outside the grid, {shape} from z to x: indices start at 0.")
    return nodes


def _wavelet(config: Mapping[str, Any], root: Path, grid: Grid) -> np.ndarray:
    """The wavelet of Seistorch, cut or filled with zeros to the length of the grid's time axis."""
    given = geom(config, "wavelet", None)
    if given is None:
        sign = -1.0 if geom(config, "wavelet_inverse", False) else 1.0
        delay = number(config, "wavelet_delay") * grid.dt
        return sign * np.asarray(ricker(grid, number(config, "fm"), delay))
    path = file_of(root, "wavelet", given)
    samples = np.ravel(models.read(path))[: grid.nt]
    return np.pad(samples, (0, grid.nt - len(samples)))


def _simulator(config: Mapping[str, Any], grid: Grid, equation: type[WaveEquation] | None) -> Simulator:
    options: dict[str, Any] = {}
    for key, name in (("source_type", "source_fields"), ("receiver_type", "receiver_fields")):
        fields = {} if equation is None else _FIELDS[equation]
        for theirs in names(config, key) if fields else []:
            if theirs not in fields:
                raise ValueError(
                    f"geom: {key} has {theirs!r}, but of {config['equation']} jaxfwi knows {', '.join(fields)}."
                )
            options.setdefault(name, ())
            options[name] += (fields[theirs],)
    order = geom(config, "spatial_order", None)
    if order is not None:
        options["space_order"] = round(number(config, "spatial_order"))
    multiple = bool(geom(config, "multiple", False))
    return Simulator(grid, absorber=CPML(width=layer_width(config)), free_surface=multiple, **options)


def _gathers(path: Path, survey: Survey, nt: int) -> np.ndarray:
    """Gathers of a ``.npy`` file: numbers, or an array of objects with one array for each shot."""
    with open(path, "rb") as file:
        try:
            version = np.lib.format.read_magic(file)
            header = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
            _, _, dtype = header[version](file)
        except (ValueError, KeyError) as error:
            raise ValueError(f"{path} cannot be read as a .npy file: {error}.") from None
        content = file.read() if dtype.hasobject else b""
    if dtype.hasobject:
        shots = pickles.loads(content, str(path))
    else:
        try:
            shots = np.load(path, mmap_mode="r", allow_pickle=False)
        except ValueError as error:
            raise ValueError(f"{path} cannot be read: {error}. It is cut off.") from None
    mask = survey.receiver_mask
    counts = np.full(len(survey), survey.receiver.shape[1]) if mask is None else np.asarray(mask).sum(axis=1)
    if len(shots) < len(survey):
        raise ValueError(f"{path} has {len(shots)} shots, the survey {len(survey)}.")
    shots = shots[: len(survey)]
    for shot, (gather, n) in enumerate(zip(shots, counts, strict=True)):
        shape = np.shape(gather)
        if len(shape) != 3 or shape[:2] != (nt, n):
            raise ValueError(
                f"shot {shot} of {path} has shape {shape}, but {nt} samples, {n} receivers and some components are "
                "configured."
            )
    return shots if isinstance(shots, np.ndarray) and mask is None else survey.pad(list(shots))
