"""What is asked for and what is computed: the command line, models of the user's or our own, and the case they make."""

import dataclasses
from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import Any, Literal, Self, TypeVar

import numpy as np
import optax

import jaxfwi as jf
from kit.measure import model_error
from kit.results import Results, UserError

Array = np.ndarray
Models = dict[str, Array]  # by the name of the parameter
C = TypeVar("C", bound="Case")


@dataclass(frozen=True)
class Options:
    """The command line."""

    out: Path
    """The output folder."""
    preset: Literal["tiny", "quick", "full"] | None = None
    """How much to compute: tiny to see that it runs; quick, the default; full."""
    stage: Literal["make", "model", "invert", "compare", "all"] = "all"
    """Make models; model data; invert; compare. Each reads what the one before wrote; what was interrupted goes on."""
    vp: Path | None = None
    """A .npy file with the true P-wave velocity in m/s, (depth, distance); by default a section of ours."""
    start: Path | None = None
    """A .npy file with the starting model; by default made of the true one."""
    spacing: float | None = None
    """Metres between the cells of your model."""


@dataclass(frozen=True)
class Case:
    """What is computed; lengths in metres, times in seconds. An experiment adds its own."""

    shape: tuple[int, ...]  # of the section, where no file is given
    spacing: float
    _: KW_ONLY
    water_depth: float | None = None  # of the section, where no file is given; by default 9 % of its depth
    start_smoothing: float | None = None  # standard deviation of a Gaussian; by default the start is linear in depth
    slowest: float = 0.0  # bounds of an inversion, m/s, set by stage make: the models' extremes and 5 % more
    fastest: float = 0.0  # the time step is chosen for it

    @property
    def cells(self) -> jf.Grid:
        """The grid without its time axis."""
        return jf.Grid(self.shape, self.spacing, dt=1.0, nt=1)

    def section(self) -> Array:
        """The true model where no file is given."""
        return jf.models.marmousi_like(self.cells, water_depth=self.water_depth)

    def start_of(self, true: Array) -> Array:
        """The starting model where no file is given."""
        rock = ~fixed_cells(true)
        if self.start_smoothing is None:
            return jf.models.linear_in_depth(true, mask=rock)
        return jf.models.smooth(true, self.cells, self.start_smoothing, mask=rock)

    def fitted(self, true: Array, start: Array, options: Any) -> Self:
        """The case for these models, whose shape and spacing it has."""
        slowest, fastest = min(true.min(), start.min()), max(true.max(), start.max())
        return dataclasses.replace(self, slowest=0.95 * float(slowest), fastest=1.05 * float(fastest))

    def evaluated(self, fixed: Array) -> dict[str, Array]:
        """The cells where errors are measured, the whole of them first."""
        return {"whole": ~fixed}


@dataclass(frozen=True, kw_only=True)
class Inversion(Case):
    """An inversion in bands, from low to high frequency."""

    iterations: tuple[int, ...]  # of each band
    rates: tuple[float, ...]  # Adam's first step in each band, m/s
    last_rates: tuple[float, ...] = (0.1,) * 3  # of a band, as a part of its first; between them half a cosine
    frequencies: tuple[float, ...] = (3.0, 6.0)  # peak frequency of the Ricker wavelet of each band, Hz
    shots_per_iteration: int = 10
    duration: float = 4.0  # of the records
    order: int = 8

    @property
    def names(self) -> tuple[str, ...]:
        """One for each band."""
        return tuple(f"{frequency:g} Hz" for frequency in self.frequencies)

    def grid(self, staggered: bool = False) -> jf.Grid:
        """With the longest time step that is safely stable."""
        dt = 0.9 * self.cells.stable_dt(self.fastest, self.order, staggered)
        return jf.Grid(self.shape, self.spacing, dt, nt=round(self.duration / dt))

    def rate(self, band: int, rates: tuple[float, ...] | None = None) -> optax.Schedule:
        """The step of a band, m/s: the first is that of `rates`, by default the case's, and it falls as it says."""
        first = (rates or self.rates)[band]
        return optax.cosine_decay_schedule(first, self.iterations[band], alpha=self.last_rates[band])

    def band(self, band: int, shots: int, optimizer: Any = None, **options: Any) -> jf.Stage:
        """A band of an inversion of so many shots, by default by Adam."""
        optimizer = optax.adam(self.rate(band)) if optimizer is None else optimizer
        size = min(self.shots_per_iteration, shots)
        return jf.Stage(self.iterations[band], optimizer, shots_per_iteration=size, name=self.names[band], **options)


@dataclass(frozen=True)
class Scene:
    """A case with its models, and the cells that are not inverted for."""

    case: Any
    true: Models
    start: Models
    fixed: Array

    @property
    def limits(self) -> dict[str, Any]:
        """Mask and bounds of an acoustic inversion."""
        bounds = jf.Acoustic(vp=self.case.slowest), jf.Acoustic(vp=self.case.fastest)
        return {"mask": jf.Acoustic(vp=~self.fixed), "bounds": bounds}

    def errors(self, models: Models) -> dict[str, float]:
        """Relative L2 errors in per cent, such as ``{"vp": 12.3, "vp upper": ...}``."""
        cells = self.case.evaluated(self.fixed)
        return {
            name if part == "whole" else f"{name} {part}": model_error(models[name], self.true[name], where)
            for name in self.true
            for part, where in cells.items()
            if where.any()
        }


def scene(case: Case, results: Results, *names: str) -> Scene:
    """The models of stage make: the P-wave velocity, or all parameters of these names."""
    true, start = (
        {name: results.load(f"{when}_{name}.npy", "make") for name in names or ("vp",)} for when in ("true", "start")
    )
    return Scene(case, true, start, fixed_cells(true["vp"]))


def fixed_cells(true: Array) -> Array:
    """Cells that are not inverted for: the water, or on land the rows of the sources."""
    water = jf.models.is_water(true)
    if not water.any():
        water[:3] = True
    return water


def models_of(options: Options, case: C) -> tuple[Array, Array, C]:
    """The true and the starting velocity, of the user's files or our own, and the case that fits them."""
    if options.vp is None:
        if options.spacing is not None or options.start is not None:
            raise UserError("--spacing and --start go with a model of your own: give --vp FILE too.")
        true = np.asarray(case.section(), np.float32)
    else:
        spacing = options.spacing
        if spacing is None or not 0 < spacing < float("inf"):
            raise UserError(f"--vp needs --spacing, the positive metres between its cells, got {spacing}.")
        true = load_model(options.vp, "--vp")
        case = dataclasses.replace(case, shape=true.shape, spacing=spacing)
    if options.start is None:
        start = np.asarray(case.start_of(true), np.float32)
    else:
        start = load_model(options.start, "--start", shape=true.shape)
    return true, start, case.fitted(true, start, options)


def load_model(
    path: Path, option: str, ndim: int = 2, shape: tuple[int, ...] | None = None, zeros: bool = False
) -> Array:
    """A user's model, in m/s or any positive unit, from a ``.npy`` file.

    Args:
        path: of the file.
        option: the command line's name for it, such as ``"--vp"``, for messages.
        ndim: the axes it must have.
        shape: the shape it must have, where another file has set that.
        zeros: whether cells may be 0, as the S-wave velocity is in water.

    Returns:
        The model in float32.
    """
    if not path.is_file():
        raise UserError(f"{option}: there is no file {path}.")
    try:
        model = np.load(path, allow_pickle=False)
    except (ValueError, OSError, EOFError):
        model = None
    if not isinstance(model, np.ndarray) or model.dtype.kind not in "fiu":
        raise UserError(f"{option}: {path} is not a .npy file of real numbers, as numpy.save writes them.")
    if model.ndim != ndim or model.size == 0:
        raise UserError(f"{option}: {path} has shape {model.shape}; a model of {ndim} axes is needed, depth first.")
    model = model.astype(np.float32)
    if not np.isfinite(model).all():
        raise UserError(f"{option}: {path} has {np.sum(~np.isfinite(model))} cells that are NaN or infinite.")
    if not ((model >= 0) if zeros else (model > 0)).all():
        wanted = "must not be negative" if zeros else "must be positive everywhere"
        raise UserError(f"{option}: {path} {wanted}; its smallest value is {model.min():g}.")
    if shape is not None and model.shape != shape:
        raise UserError(f"{option}: {path} has shape {model.shape}, the model beside it {shape}.")
    return model


def read_config(results: Results, kind: type[C]) -> C:
    """What stage make resolved and wrote to ``config.json``, as `kind`, a dataclass."""
    results.need("config.json", "make")
    config = results.read_json("config.json")
    names = [field.name for field in dataclasses.fields(kind)]
    missing = [name for name in names if name not in config]
    if missing:
        raise UserError(f"{results.path('config.json')} is of another version, without {missing[0]}: run --stage make.")
    values: dict[str, Any] = {k: tuple(config[k]) if isinstance(config[k], list) else config[k] for k in names}
    return kind(**values)
