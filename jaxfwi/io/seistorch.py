"""Projects of Seistorch: its configuration, geometry, models and gathers, so that its users can move.

What is where was taken from Seistorch's documents (github.com/GeophyAI/seistorch, ``doc/configure.md`` and
``doc/data_format.md``), and how it adds sources and records from its program. Needs PyYAML (``pip install
jaxfwi[seistorch]``).

=====================================  =====================================================================
in the configuration                   here
=====================================  =====================================================================
``equation``                           `Project.equation`
``geom: dt, nt, h``                    `Project.grid`, its shape from the models
``geom: sources, receivers, Nshots``   `Project.survey`: grid indices, x before z, become metres, z before x
``geom: wavelet, fm``                  `Project.wavelet`; `Project.survey` has it scaled, see there
``wavelet_delay, wavelet_inverse``     `Project.wavelet`, if it is made of ``fm``
``geom: truePath, initPath``           `Project.true`, `Project.start`
``geom: seabed``                       `Project.mask`
``geom: obsPath``                      `Project.observed`
``geom: multiple, pml``, ``boundary``  `Project.simulator`: free surface, absorbing layer
``source_type, receiver_type``         `Project.simulator`: driven and recorded fields
=====================================  =====================================================================

All else, as the optimiser, stays in `Project.configuration`.
"""

import errno
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
from jaxfwi.io.files import existing, needed
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
    """What a Seistorch project holds.

    Args:
        grid: cells, spacing, time step and samples.
        survey: the shots. For the second-order acoustic equation the wavelet is scaled to give Seistorch's data: that
            program adds the wavelet's sample to the field in every step, which is ``w h^ndim / (dt vp)^2`` as
            `jaxfwi.Acoustic` has sources, with vp at the source (of the true model, or else the start model), and
            records the field one step later. For other equations it is as it stands: choose a misfit that does not see
            amplitudes, or scale it.
        wavelet: as Seistorch has it, ``(nt,)``.
        equation: jaxfwi's name for the wave equation, as in ``project.equation(**project.true)``; None if it has none.
        true, start: parameters by name, ``(nz, nx)`` or ``(nz, ny, nx)``; empty where no files are named.
        mask: 0 in the water and 1 elsewhere, of the model's shape, as `jaxfwi.invert` takes it; None if there is none.
        simulator: grid, boundaries and fields as configured; plain, if jaxfwi has no such equation. Choose another
            order or memory by ``dataclasses.replace``.
        configuration: all of the file, as YAML has it.
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

        A file of plain numbers is mapped, and read when it is used. Seistorch's own hold arrays of objects, which are
        read whole: write them by `jaxfwi.io.gathers.write` once.

        Raises:
            FileNotFoundError: if there is no such file, as before data were modelled.
            ValueError: for data that do not fit the survey, what is no ``.npy`` file, or one that holds more than
                numbers.
        """
        given = _geom(self.configuration, "obsPath")
        path = _file(self.root, "obsPath", given)
        if path.suffix != ".npy":
            raise ValueError(
                f"geom: obsPath is {given}, but only .npy files are read: copy the shots by what reads them, and "
                "Project.survey.pad."
            )
        return _gathers(path, self.survey, self.grid.nt)

    def read_result(self, path: str | os.PathLike) -> np.ndarray:
        """A model or gradient that an inversion left, as ``paravpF00E09.npy``, without the absorbing layers around it.

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
        width = _layer(self.configuration)
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
    """Read a Seistorch project; the module says what is taken from where.

    Pickles are read without running anything: they may hold lists, tuples and numbers, numpy's too, and nothing else.
    Indices that are no whole numbers are cut to such, as Seistorch does.

    Args:
        configuration: path of the YAML file.
        root: folder from which the paths in it start, which is where Seistorch was run; by default the file's folder.
        axes: order of the axes in the files of 3D models; Seistorch's documents say ``(nx, nz, ny)``.

    Returns:
        `Project`. Gathers are read by its ``observed()``.

    Raises:
        FileNotFoundError: if a file is missing, naming the key that asks for it.
        ImportError: if PyYAML is not installed.
        ValueError: naming key, value and way out, for a configuration or files that make no project; for pickles that
            hold anything else than numbers.

    >>> import pickle, tempfile, numpy as np, jaxfwi as jf
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     np.save(f"{folder}/vp.npy", np.full((30, 40), 1500.0, np.float32))
    ...     for name, indices in {"sources": [[20, 1]], "receivers": [[[0, 10, 20], [2, 2, 2]]]}.items():
    ...         with open(f"{folder}/{name}.pkl", "wb") as file:
    ...             pickle.dump(indices, file)
    ...     with open(f"{folder}/forward.yml", "w") as file:
    ...         _ = file.write('''
    ... equation: acoustic
    ... geom: {dt: 0.001, nt: 500, h: 10.0, fm: 10.0, wavelet_delay: 150, Nshots: 99, multiple: false, pml: {N: 50},
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
    config = _parsed(path)
    name = config.get("equation")
    equation = _EQUATIONS.get(name) if isinstance(name, str) else None
    if sorted(axes) != ["x", "y", "z"]:
        raise ValueError(f'axes must be the letters x, y and z in the order of the model files\' axes, got "{axes}".')
    source, receiver = (_indices(_file(root, key, _geom(config, key))) for key in ("sources", "receivers"))
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
    grid = Grid(shape, _number(config, "h"), _number(config, "dt"), round(_number(config, "nt")))
    shots = min(len(source), round(_number(config, "Nshots", len(source))))
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
    seabed = _geom(config, "seabed", None)
    mask = None if seabed is None else _turned(models.read(_file(root, "seabed", seabed)), axes if ndim == 3 else "zx")
    if mask is not None and mask.shape != grid.shape:
        raise ValueError(f"geom: seabed has shape {mask.shape}, the models {grid.shape}.")
    return Project(grid, survey, wavelet, equation, true, start, mask, _simulator(config, grid, equation), config, root)


def _parsed(path: Path) -> dict[str, Any]:
    yaml = needed("yaml", "seistorch")
    try:
        config = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is no YAML of plain values: {error}") from None
    if not isinstance(config, dict) or not isinstance(config.get("geom"), dict):
        raise ValueError(f"{path} has no section geom: it is no configuration of Seistorch.")
    return config


_MISSING: Any = object()


def _geom(config: Mapping[str, Any], key: str, default: Any = _MISSING) -> Any:
    """A value of the section geom; blank ones are as if they were not there."""
    value = config["geom"].get(key)
    if value is None and default is _MISSING:
        raise ValueError(f"the configuration has no geom: {key}.")
    return default if value is None else value


def _number(config: Mapping[str, Any], key: str, default: Any = _MISSING) -> float:
    value = _geom(config, key, default)
    try:
        if isinstance(value, bool):
            raise ValueError
        return float(value)  # YAML takes 1e-3 for text
    except (TypeError, ValueError):
        raise ValueError(f"geom: {key} must be a number, got {value!r}.") from None


def _names(config: Mapping[str, Any], key: str) -> list[str]:
    value = _geom(config, key, [])
    names = [value] if isinstance(value, str) else value
    if not isinstance(names, list) or not all(isinstance(n, str) for n in names):
        raise ValueError(f"geom: {key} must be a list of names, got {value!r}.")
    return names


def _file(root: Path, key: str, given: Any) -> Path:
    """The file that a key names."""
    if not isinstance(given, str):
        raise ValueError(f"geom: {key} must be a path, got {given!r}.")
    path = root / given
    if not path.exists():
        raise FileNotFoundError(
            errno.ENOENT, f"geom: {key} names a file that is not there (root= says where paths start)", str(path)
        )
    return path


def _model(
    config: Mapping[str, Any], key: str, root: Path, equation: type[WaveEquation] | None, axes: str
) -> dict[str, np.ndarray]:
    """The parameters that a section names and the equation has."""
    paths = _geom(config, key, {})
    if not isinstance(paths, dict):
        raise ValueError(f"geom: {key} must have a path for each parameter, got {paths!r}.")
    wanted = paths if equation is None else _PARAMETERS[equation]
    found = {
        name: _turned(models.read(_file(root, f"{key}: {name}", paths[name])), axes)
        for name in wanted
        if paths.get(name) is not None
    }
    if found and equation is not None and len(found) < len(wanted):
        missing = next(name for name in wanted if name not in found)
        raise ValueError(f"geom: {key} has no {missing}, which the equation {config['equation']} needs.")
    return found


def _turned(model: np.ndarray, axes: str) -> np.ndarray:
    """A model with its axes in order, z first."""
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
    """Indices ``(points, ndim)`` from z to x, of coordinates in the order x, z or x, y, z, each a number or as many as
    there are points in lists of any shape.
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
    """As Seistorch has it, as long as the grid's time axis: filled with zeros or cut."""
    given = _geom(config, "wavelet", None)
    if given is None:
        sign = -1.0 if _geom(config, "wavelet_inverse", False) else 1.0
        delay = _number(config, "wavelet_delay") * grid.dt
        return sign * np.asarray(ricker(grid, _number(config, "fm"), delay))
    path = _file(root, "wavelet", given)
    samples = np.ravel(models.read(path))[: grid.nt]
    return np.pad(samples, (0, grid.nt - len(samples)))


def _layer(config: Mapping[str, Any]) -> int:
    """Cells of the absorbing layer: keys changed from version to version."""
    for section, key in (("pml", "N"), ("boundary", "width"), ("boundary", "bwidth")):
        found = _geom(config, section, {})
        if isinstance(found, dict) and isinstance(found.get(key), int):
            return found[key]
    raise ValueError("the configuration has no width of the absorbing layer, geom: pml: N or geom: boundary: width.")


def _simulator(config: Mapping[str, Any], grid: Grid, equation: type[WaveEquation] | None) -> Simulator:
    options: dict[str, Any] = {}
    for key, name in (("source_type", "source_fields"), ("receiver_type", "receiver_fields")):
        known = {} if equation is None else _FIELDS[equation]
        for field_name in _names(config, key) if known else []:
            if field_name not in known:
                raise ValueError(
                    f"geom: {key} has {field_name!r}, but of {config['equation']} jaxfwi knows {', '.join(known)}."
                )
            options.setdefault(name, ())
            options[name] += (known[field_name],)
    order = _geom(config, "spatial_order", None)
    if order is not None:
        options["space_order"] = round(_number(config, "spatial_order"))
    multiple = bool(_geom(config, "multiple", False))
    return Simulator(grid, absorber=CPML(width=_layer(config)), free_surface=multiple, **options)


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
