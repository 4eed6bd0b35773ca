"""One rule for the arguments of the public namespaces: whoever needs spacing or time step takes a grid, and says so."""

import inspect

import jax
import numpy as np
import pytest

import jaxfwi as jf
from jaxfwi.io import gathers, models, segy, seistorch

NAMESPACES = {
    name: getattr(jf, name)
    for name in ("diagnostics", "filters", "hosts", "misfits", "models", "optimise", "plot", "regularisation")
} | {"io.gathers": gathers, "io.models": models, "io.segy": segy, "io.seistorch": seistorch}
# A recording has a time step of its own, and so has a model read from a file.
OWN = {"io.segy.Recording": {"dt"}, "io.segy.read": {"dt"}}
DATA, IMAGE = np.ones((1, 9, 2, 1)), np.ones((3, 4))
SURVEY = jf.Survey.from_arrays([[0.0, 0.0]], [[0.0, 10.0], [0.0, 20.0]], np.zeros(9))
KEY = jax.random.key(0)

# Calls with everything right but the grid.
CALLS = {
    "diagnostics.cycle_skipping": lambda grid: jf.diagnostics.cycle_skipping(DATA, DATA, grid),
    "diagnostics.time_shifts": lambda grid: jf.diagnostics.time_shifts(DATA, DATA, grid),
    "misfits.Filtered": lambda grid: jf.misfits.Filtered(jf.misfits.l2, jf.filters.Tilt(1.0), grid),
    "misfits.SlicedGraphSpace": lambda grid: jf.misfits.SlicedGraphSpace(grid, time_shift=0.1),
    "misfits.Traveltime": lambda grid: jf.misfits.Traveltime(grid),
    "misfits.Wasserstein": lambda grid: jf.misfits.Wasserstein(grid),
    "models.marmousi_like": lambda grid: jf.models.marmousi_like(grid),
    "models.smooth": lambda grid: jf.models.smooth(IMAGE, grid, 10.0),
    "models.two_layers": lambda grid: jf.models.two_layers(grid),
    "optimise.mute": lambda grid: jf.optimise.mute(grid, SURVEY.source, 10.0),
    "optimise.smooth": lambda grid: jf.optimise.smooth(grid, 10.0),
    "plot.animation": lambda grid: jf.plot.animation(IMAGE[None], [0.0], grid),
    "plot.compare": lambda grid: jf.plot.compare({"a": IMAGE}, grid),
    "plot.compare_gathers": lambda grid: jf.plot.compare_gathers({"a": IMAGE}, grid),
    "plot.gather": lambda grid: jf.plot.gather(IMAGE, grid),
    "plot.illumination": lambda grid: jf.plot.illumination(IMAGE, grid),
    "plot.model": lambda grid: jf.plot.model(IMAGE, grid),
    "plot.snapshots": lambda grid: jf.plot.snapshots(IMAGE[None], [0.0], grid),
    "plot.spectrum": lambda grid: jf.plot.spectrum(IMAGE[0], grid),
    "plot.wiggles": lambda grid: jf.plot.wiggles(IMAGE, grid),
    "regularisation.Reference": lambda grid: jf.regularisation.Reference(grid, 0.0),
    "regularisation.Tikhonov": lambda grid: jf.regularisation.Tikhonov(grid),
    "regularisation.TotalVariation": lambda grid: jf.regularisation.TotalVariation(grid),
    "io.models.read": lambda grid: models.read("/nowhere/vp.npy", grid),
    "io.segy.write": lambda grid: segy.write("/nowhere/line.sgy", SURVEY, DATA, grid),
    "io.segy.write_model": lambda grid: segy.write_model("/nowhere/vp.sgy", IMAGE, grid),
}
OTHERS = {
    "Butterworth": lambda grid: jf.filters.Butterworth(high=5.0)(DATA, grid),
    "Tilt": lambda grid: jf.filters.Tilt(1.0)(DATA, grid),
    "product of filters": lambda grid: (jf.filters.Tilt(1.0) * jf.filters.Butterworth(high=5.0))(DATA, grid),
    "Encoding": lambda grid: jf.Encoding()(KEY, SURVEY, DATA, grid),
    "ricker": lambda grid: jf.ricker(grid, 5.0),
    "Survey.on_nodes": lambda grid: SURVEY.on_nodes(grid),
    "Survey.towed_streamer": lambda grid: jf.Survey.towed_streamer(
        source_x=0.0, source_z=5.0, receiver_z=5.0, first_offset=0.0, receiver_spacing=5.0, receivers=2,
        wavelet=np.zeros(9), grid=grid,
    ),
}  # fmt: skip


def public():
    """The functions and classes of the namespaces, by name, and their parameters."""
    for namespace, module in NAMESPACES.items():
        for name in module.__all__:
            function = getattr(module, name)
            if callable(function):
                yield f"{namespace}.{name}", list(inspect.signature(function).parameters)


def test_no_spacing_and_no_time_step_beside_the_grid():
    for name, parameters in public():
        assert not {"dt", "spacing"} & (set(parameters) - OWN.get(name, set())), name


def test_masks_are_of_cells_that_may_change():
    for name, parameters in public():
        assert not {"keep", "kept", "fixed", "frozen"} & set(parameters), name


def test_spelling():
    for name, parameters in public():
        for word in (name, *parameters):
            assert "iz" not in word.replace("size", "").replace("optimizer", "").replace("horizontal", ""), (name, word)


def test_every_function_with_a_grid_is_tested_here():
    takers = {name for name, parameters in public() if "grid" in parameters}
    assert takers - {"io.seistorch.Project"} == set(CALLS)


@pytest.mark.parametrize(
    "given", [10.0, 4e-3, (10.0, 10.0), np.ones((3, 4)), None], ids=["h", "dt", "axes", "model", "no"]
)
@pytest.mark.parametrize("name", CALLS | OTHERS)
def test_other_things_are_no_grid(name, given):
    if given is None and name in ("io.models.read", "Survey.towed_streamer"):
        return  # the grid may be left out
    shown = r"an array of shape \(3, 4\)" if isinstance(given, np.ndarray) else r".*"
    with pytest.raises(ValueError, match=rf"^grid must be a jaxfwi\.Grid, .* got {shown}: pass the grid of your"):
        (CALLS | OTHERS)[name](given)
