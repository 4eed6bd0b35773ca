import itertools
import subprocess
import sys

import numpy as np
import pytest
from matplotlib import pyplot
from matplotlib.figure import Figure
from PIL import Image

import jaxfwi as jf
from figures import draw, has_units
from jaxfwi import models, plot

pytestmark = pytest.mark.filterwarnings("error")


def grid_of(shape, spacing=100.0, dt=4e-3):
    return jf.Grid(shape, spacing, dt, 200)


GRID = grid_of((30, 80))
vp = models.marmousi_like(GRID)
wave = np.random.default_rng(0).normal(size=(30, 80)) * 1e-3


def test_model_is_drawn_in_km_with_depth_down_and_cells_on_their_positions():
    axes = plot.model(vp, grid_of((30, 80), (100.0, 50.0)), title="Start", clim=(1500.0, 4000.0))
    assert draw(axes.figure).std() > 0
    assert (axes.get_xlabel(), axes.get_ylabel(), axes.get_title()) == (
        "Distance (km)",
        "Depth (km)",
        "Start",
    )
    assert has_units(axes.figure)
    assert "P-wave velocity (m/s)" in [a.get_ylabel() for a in axes.figure.axes]
    (image,) = axes.images
    assert image.get_clim() == (1500.0, 4000.0)
    np.testing.assert_allclose(image.get_extent(), (-0.025, 3.975, 2.95, -0.05))
    bottom, top = axes.get_ylim()
    assert bottom > top


def test_model_marks_the_survey_where_it_is():
    survey = jf.Survey.from_lists(
        [[[20.0, 500.0]], [[20.0, 1500.0]]], [[[260.0, 0.0], [260.0, 4000.0]], [[260.0, 0.0]]], np.zeros(9)
    )
    axes = plot.model(vp, GRID, survey=survey)
    draw(axes.figure)
    stars, triangles = axes.collections
    np.testing.assert_allclose(stars.get_offsets(), [[0.5, 0.02], [1.5, 0.02]])
    np.testing.assert_allclose(triangles.get_offsets(), [[0.0, 0.26], [4.0, 0.26]])
    (one, _) = plot.model(vp, GRID, survey=survey[1]).collections
    np.testing.assert_allclose(one.get_offsets(), [[1.5, 0.02]])
    with pytest.raises(ValueError, match=r"survey must be a jaxfwi\.Survey, .* got \[1\.0, 2\.0\]"):
        plot.model(vp, GRID, survey=[1.0, 2.0])
    with pytest.raises(ValueError, match=r"survey must have positions \(z, x\), got sources of shape \(1, 1, 3\)"):
        plot.model(vp, GRID, survey=jf.Survey.from_arrays(np.zeros((1, 3)), np.zeros((1, 3)), np.zeros(9)))


def test_gather_clips_by_percentile():
    data = np.zeros((200, 20))
    data[:, :] = np.linspace(-1, 1, 4000).reshape(200, 20)
    data[0, 0] = 1e6
    axes = plot.gather(data, GRID, percentile=90.0)
    draw(axes.figure)
    low, high = axes.images[0].get_clim()
    assert low == -high
    np.testing.assert_allclose(high, 0.9, atol=1e-2)
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("Receiver number", "Time (s)")
    np.testing.assert_allclose(axes.images[0].get_extent(), (-0.5, 19.5, 0.798, -0.002))
    assert plot.gather(data, GRID, clim=(-2.0, 2.0)).images[0].get_clim() == (-2.0, 2.0)


def test_gather_against_position_and_of_nothing():
    axes = plot.gather(np.zeros((50, 5)), GRID, receiver_x=np.linspace(1000.0, 1400.0, 5))
    draw(axes.figure)
    assert axes.get_xlabel() == "Distance (km)"
    np.testing.assert_allclose(axes.images[0].get_extent()[:2], (0.95, 1.45))
    with pytest.raises(ValueError, match="evenly spaced"):
        plot.gather(np.zeros((50, 3)), GRID, receiver_x=[0.0, 10.0, 30.0])
    with pytest.raises(ValueError, match="one position per receiver"):
        plot.gather(np.zeros((50, 3)), GRID, receiver_x=[0.0, 10.0])
    with pytest.raises(ValueError, match="percentile must be above 0"):
        plot.gather(np.zeros((50, 3)), GRID, percentile=0.0)


def test_wiggles_swing_by_one_amplitude_and_fill_what_is_positive():
    x, dt = np.array([0.0, 100.0, 250.0]), 4e-3
    data = np.zeros((50, 3))
    data[10, 0], data[20, 1], data[30, 2] = 2.0, -1.0, 0.5
    axes = plot.wiggles(data, GRID, receiver_x=x, percentile=100.0, title="Shot 1")
    draw(axes.figure)
    # the steps between receivers are 100 m and 150 m: the greatest amplitude swings by their median, in km
    np.testing.assert_allclose([line.get_xdata()[10] for line in axes.lines], [0.125, 0.1, 0.25])
    np.testing.assert_allclose([line.get_xdata()[20] for line in axes.lines], [0.0, 0.1 - 0.0625, 0.25])
    np.testing.assert_allclose(axes.lines[0].get_ydata(), np.arange(50) * dt)
    black = [sum(len(path) for path in lobes.get_paths()) > 0 for lobes in axes.collections]
    assert black == [True, False, True]
    top, bottom = axes.get_ylim()
    assert top > bottom
    assert has_units(axes.figure)
    assert plot.wiggles(data, GRID).get_xlabel() == "Receiver number"
    assert plot.wiggles(np.zeros((5, 1)), GRID, axes) is axes


def test_compare_gathers_on_one_scale_with_scaled_differences_below():
    gathers = {"observed": wave, "start": 0.6 * wave, "result": 0.9985 * wave, "again": wave.copy()}
    x = 1000.0 + 20.0 * np.arange(80)
    figure = plot.compare_gathers(gathers, GRID, "observed", receiver_x=x, label="Pressure (Pa)", title="Shot 1")
    draw(figure)
    assert has_units(figure)
    panels = {axes.get_title(): axes for axes in figure.axes if axes.images}
    small, large = r"(result - observed) $\times\ 500$", r"(start - observed) $\times\ 2$"
    assert list(panels) == ["observed", "start", "result", "again", large, small, "again = observed"]
    assert len({axes.images[0].get_clim() for axes in panels.values()}) == 1
    np.testing.assert_allclose(
        panels["start"].images[0].get_clim()[1], np.percentile(abs(np.stack([*gathers.values()])), 99)
    )
    np.testing.assert_allclose(panels[small].images[0].get_array(), 500 * (gathers["result"] - wave))
    np.testing.assert_allclose(panels[small].images[0].get_extent()[:2], (0.99, 2.59))
    rows = [panels[name].get_subplotspec().rowspan.start for name in panels]
    columns = [panels[name].get_subplotspec().colspan.start for name in panels]
    assert (rows, columns) == ([0, 0, 0, 0, 1, 1, 1], [0, 1, 2, 3, 1, 2, 3])


def test_illumination_is_in_decibels_below_the_best():
    energy = np.array([[4.0, 0.4], [4e-8, 0.0]])
    axes = plot.illumination(energy, grid_of((2, 2)), title="Light")
    draw(axes.figure)
    assert has_units(axes.figure)
    np.testing.assert_allclose(axes.images[0].get_array()[:, 0], [0.0, -80.0])
    np.testing.assert_allclose(axes.images[0].get_array()[0], [0.0, -10.0])
    assert axes.images[0].get_clim() == (-60.0, 0.0)


def moving(count=5):
    """A ring that grows, with the model it runs through."""
    z, x = np.mgrid[0:30, 0:80]
    distance, times = np.hypot(z, x - 40), 0.1 * np.arange(1, count + 1)
    return np.stack([np.exp(-((distance - 50 * t) ** 2) / 4) for t in times]), times


def test_snapshots_share_a_scale_about_zero_over_the_model():
    waves, times = moving()
    figure = plot.snapshots(waves, times, GRID, background=vp, label="Pressure (Pa)", title="Waves")
    draw(figure)
    assert has_units(figure)
    *panels, bar = figure.axes
    assert [axes.get_title() for axes in panels] == ["0.100 s", "0.200 s", "0.300 s", "0.400 s", "0.500 s"]
    limit = np.percentile(waves, 99.5)
    for axes, field in zip(panels, waves, strict=True):
        model, image = axes.images
        np.testing.assert_allclose(model.get_array(), vp)
        np.testing.assert_allclose(image.get_array(), field)
        np.testing.assert_allclose(image.get_clim(), (-limit, limit))
        assert image.get_extent() == model.get_extent()
        # what is strong hides the model, what is not there shows it
        assert image.get_alpha()[field > 0.5 * limit].min() == 1.0
        assert image.get_alpha()[field < 1e-3 * limit].max() < 0.01
    assert bar.get_ylabel() == "Pressure (Pa)"
    # labels at the left and below: the third of the first row has no panel below it
    assert [bool(axes.get_ylabel()) for axes in panels] == [True, False, False, True, False]
    assert [bool(axes.get_xlabel()) for axes in panels] == [False, False, True, True, True]
    alone = plot.snapshots(waves[:1], times[:1], grid_of((30, 80), (100.0, 50.0)), clim=(-2.0, 2.0))
    assert alone.axes[0].images[0].get_clim() == (-2.0, 2.0)
    draw(plot.snapshots(np.zeros((2, 5, 6)), [0.0, 1.0], grid_of((5, 6)), background=np.full((5, 6), 1500.0)))


def test_an_animation_plays_in_a_notebook_and_is_written_as_a_file(tmp_path):
    waves, times = moving(3)
    film = plot.animation(waves, times, GRID, background=vp, frame_rate=20.0)
    film.save(tmp_path / "waves.gif", writer="pillow", dpi=40)
    with Image.open(tmp_path / "waves.gif") as gif:
        assert (gif.n_frames, gif.info["duration"]) == (3, 50)
        shown = []
        for frame in range(3):
            gif.seek(frame)
            shown.append(np.asarray(gif.convert("RGB"), dtype=float))
    assert all(np.abs(a - b).max() > 50 for a, b in itertools.pairwise(shown))
    page = film._repr_html_()
    assert page.count("data:image/png;base64") == 3
    # the last frame is what a figure of the last snapshot alone shows
    axes = film._fig.axes[0]
    film._func(2)
    assert axes.get_title() == "0.300 s"
    np.testing.assert_allclose(axes.images[-1].get_array(), waves[2])


def test_compare_draws_all_on_one_symmetric_scale_and_states_the_factor():
    images = {"full": wave, "boundary": wave * (1 + 1.5e-6), "again": wave.copy()}
    figure = plot.compare(images, GRID, difference_to="full", label="Gradient (s/m)", title="Gradients")
    draw(figure)
    assert has_units(figure)
    titles = {axes.get_title(): axes for axes in figure.axes if axes.images}
    factor = r"(boundary - full) $\times\ 5 \cdot 10^{5}$"
    assert set(titles) == {"full", "boundary", "again", factor, "again = full"}
    limits = {axes.images[0].get_clim() for axes in titles.values()}
    assert len(limits) == 1
    low, high = limits.pop()
    assert low == -high
    np.testing.assert_allclose(high, np.percentile(abs(wave), 99.5), rtol=1e-3)
    np.testing.assert_allclose(titles[factor].images[0].get_array(), 5e5 * (images["boundary"] - wave))


def test_compare_of_velocities_is_sequential():
    figure = plot.compare({"true": vp, "start": models.smooth(vp, GRID, 400.0)}, GRID, percentile=100.0)
    draw(figure)
    first, second, _bar = figure.axes
    assert first.images[0].get_clim() == second.images[0].get_clim()
    np.testing.assert_allclose(first.images[0].get_clim(), (1500.0, vp.max()))
    assert first.images[0].get_cmap().name == plot.SEQUENTIAL
    differences = plot.compare({"true": vp, "start": 0.999 * vp}, GRID, difference_to="true", clim=(1500.0, 4500.0))
    draw(differences)
    assert differences.axes[2].get_title() == r"(start - true) $\times\ 500$"
    assert differences.axes[2].images[0].get_clim() == (-3000.0, 3000.0)


@pytest.mark.parametrize("value", [0.0, 2000.0])
def test_compare_of_constants(value):
    constant = np.full((5, 6), value)
    draw(plot.compare({"a": constant, "b": constant}, grid_of((5, 6)), difference_to="a"))


def test_convergence_on_a_logarithmic_axis():
    axes = plot.convergence({"Adam": [8.0, 4.0, 0.0, 1.0], "L-BFGS": [4.0, 1.0]}, relative=True, title="Misfit")
    draw(axes.figure)
    assert axes.get_yscale() == "log"
    assert has_units(axes.figure)
    np.testing.assert_allclose(axes.lines[0].get_ydata(), [1.0, 0.5, np.nan, 0.125])
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["Adam", "L-BFGS"]
    assert plot.convergence({"a": [3.0, 2.0]}, label="Misfit (Pa² s)").get_ylabel() == "Misfit (Pa² s)"


@pytest.mark.parametrize("dt", [1e-3, 2e-3])
def test_spectrum_is_the_continuous_one_whatever_dt(dt):
    t = np.arange(-0.5, 0.5, dt)
    width, grid = 0.02, grid_of((30, 80), dt=dt)
    axes = plot.spectrum(np.exp(-((t / width) ** 2) / 2), grid, title="Gaussian")
    draw(axes.figure)
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("Frequency (Hz)", "Amplitude (wavelet unit / Hz)")
    frequency, amplitude = axes.lines[0].get_data()
    expected = width * np.sqrt(2 * np.pi) * np.exp(-((2 * np.pi * frequency * width) ** 2) / 2)
    np.testing.assert_allclose(amplitude, expected, atol=1e-9)
    assert 20 < axes.get_xlim()[1] < 40
    assert plot.spectrum(np.zeros(10), grid, highest=50.0).get_xlim() == (0.0, 50.0)
    draw(plot.spectrum(np.zeros(10), grid).figure)


def test_every_function_draws_on_given_axes():
    figure = Figure(figsize=(10, 8), layout="constrained")
    axes = figure.subplots(2, 2)
    assert plot.model(vp, GRID, axes[0, 0]) is axes[0, 0]
    assert plot.gather(wave, GRID, axes[0, 1]) is axes[0, 1]
    assert plot.convergence({"a": [1.0, 0.1]}, axes[1, 0]) is axes[1, 0]
    assert plot.spectrum(wave[0], GRID, axes[1, 1]) is axes[1, 1]
    assert plot.wiggles(wave, GRID, axes[0, 1]) is axes[0, 1]
    assert plot.illumination(vp, GRID, axes[0, 0]) is axes[0, 0]
    draw(figure)
    assert all(a.get_xlabel() and a.get_ylabel() for a in axes.flat)


def test_own_figures_show_themselves_in_a_notebook():
    png = b"\x89PNG"
    assert plot.model(vp, GRID)._repr_png_().startswith(png)
    assert plot.compare({"a": vp}, GRID)._repr_png_().startswith(png)
    theirs = Figure(layout="constrained").add_subplot()
    assert not hasattr(plot.model(vp, GRID, theirs), "_repr_png_")


def test_pyplot_keeps_its_figures_to_itself():
    before = pyplot.get_fignums()
    plot.gather(wave, GRID)
    plot.compare({"a": vp}, GRID)
    plot.snapshots(vp[None], [0.0], GRID)
    plot.animation(vp[None], [0.0], GRID).to_jshtml()
    assert pyplot.get_fignums() == before


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: plot.model(vp[0], GRID), r"vp must be a 2D array \[z, x\], got shape \(80,\)"),
        (lambda: plot.model(vp[None], GRID), r"pass a slice, such as array\[:, array.shape\[1\] // 2, :\]"),
        (lambda: plot.gather(vp[0], GRID), r"data must be a 2D array \(time, receivers\)"),
        (lambda: plot.gather(vp[..., None], GRID), r"pass one shot and component, data\[shot, :, :, 0\]"),
        (lambda: plot.compare({}, GRID), "images must hold one section or more"),
        (
            lambda: plot.compare({"a": vp, "b": vp[1:]}, GRID),
            r"images\['b'\] has shape \(29, 80\), the grid \(30, 80\)",
        ),
        (lambda: plot.compare_gathers({"a": vp, "b": vp[1:]}, GRID), "all of one shape"),
        (lambda: plot.compare({"a": vp[0]}, GRID), r"images\['a'\] must be a 2D array"),
        (lambda: plot.compare({"a": vp}, GRID, difference_to="c"), r"difference_to must be one of \['a'\]"),
        (lambda: plot.compare_gathers({}, GRID), "gathers must hold one gather or more"),
        (lambda: plot.compare_gathers({"a": vp}, GRID, "b"), r"difference_to must be one of \['a'\]"),
        (lambda: plot.compare_gathers({"a": vp[0]}, GRID), r"gathers\['a'\] must be a 2D array"),
        (lambda: plot.wiggles(vp[0], GRID), r"data must be a 2D array \(time, receivers\)"),
        (lambda: plot.wiggles(vp, GRID, receiver_x=[0.0]), "receiver_x must hold one position per receiver"),
        (lambda: plot.illumination(-vp, GRID), "diagonal must be energies, none below zero"),
        (lambda: plot.illumination(0 * vp, GRID), "diagonal must be energies, none below zero and some above"),
        (lambda: plot.snapshots(vp, [0.0], GRID), r"pass waves\[None\] for a single snapshot"),
        (lambda: plot.snapshots(vp[None, None], [0.0], GRID), r"pass a slice, such as waves\[:, :, waves.shape\[2\]"),
        (lambda: plot.snapshots(vp[None], 0.0, GRID), "times must hold one number of seconds for each of 1 snapshots"),
        (
            lambda: plot.snapshots(vp[None], [0.0], GRID, background=vp.T),
            r"background has shape \(80, 30\), the grid .* may be transposed",
        ),
        (lambda: plot.animation(vp[None], [0.0], GRID, frame_rate=0), "frame_rate must be a positive number"),
        (lambda: plot.snapshots(vp.T[None], [0.0], GRID), r"each snapshot has shape \(80, 30\), the grid \(30, 80\)"),
        (
            lambda: plot.model(vp[:, :40], GRID),
            r"vp has shape \(30, 40\), .* for a part or a slice .* a grid of its own",
        ),
        (lambda: plot.convergence({}), "values must hold one curve or more"),
        (lambda: plot.convergence({"a": 1.0}), r"values\['a'\] must be one row"),
        (lambda: plot.convergence({"a": [0.0, 1.0]}, relative=True), r"values\['a'\] starts at 0"),
        (lambda: plot.spectrum(vp, GRID), r"pass one of them, wavelet\[0\]"),
        (lambda: plot.spectrum(vp[0], GRID, highest=0.0), "highest must be a positive frequency"),
    ],
)
def test_errors_say_what_to_pass(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize("given", [10.0, (10.0, 20.0), 4e-3], ids=repr)
def test_a_spacing_or_a_time_step_is_no_grid(given):
    for draws in (
        lambda: plot.model(vp, given),
        lambda: plot.illumination(vp, given),
        lambda: plot.compare({"a": vp}, given),
        lambda: plot.snapshots(vp[None], [0.0], given),
        lambda: plot.animation(vp[None], [0.0], given),
        lambda: plot.gather(wave, given),
        lambda: plot.wiggles(wave, given),
        lambda: plot.compare_gathers({"a": wave}, given),
        lambda: plot.spectrum(wave[0], given),
    ):
        with pytest.raises(
            ValueError, match=r"grid must be a jaxfwi\.Grid, .* got .*: pass the grid of your simulator"
        ):
            draws()


def test_matplotlib_is_imported_by_those_who_draw():
    """It doubles the time of ``import jaxfwi``."""
    script = """
import sys, jaxfwi
assert "matplotlib" not in sys.modules
assert {"plot", "misfits", "simulate"} <= set(dir(jaxfwi))
assert callable(jaxfwi.plot.model)
assert dir(jaxfwi.plot) == sorted(jaxfwi.plot.__all__)
assert "matplotlib" in sys.modules
try:
    jaxfwi.plots
except AttributeError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "module 'jaxfwi' has no attribute 'plots'"
