"""Mistakes that can be seen before a program runs: each is told, naming the argument, what it got and the way out."""

import dataclasses
import re
import sys
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers import problem_with, simulate_with

import jaxfwi as jf

GRID = jf.Grid((12, 14), 10.0, 1e-3, 300)
SIMULATOR = jf.Simulator(GRID, absorber=jf.CPML(width=3))
MODEL = jf.Acoustic(vp=jnp.full((12, 14), 2000.0))
WAVELET = jf.ricker(GRID, 12.0)
SURVEY = jf.Survey.from_arrays([[20.0, 20.0], [20.0, 50.0]], [[10.0, 0.0], [10.0, 40.0], [110.0, 130.0]], WAVELET)
OBSERVED = jnp.zeros((2, 300, 3, 1))
PROBLEM = jf.Problem(SIMULATOR, SURVEY, OBSERVED)


def simulate(model=MODEL, survey=SURVEY, simulator=SIMULATOR, **options):
    return simulate_with(simulator, model, survey, **options)


def vp(value, shape=(12, 14), dtype=float):
    return jf.Acoustic(vp=jnp.full(shape, value, dtype))


def one_cell(value):
    return jf.Acoustic(vp=MODEL.vp.at[3, 4].set(value))


def survey(source=((20.0, 20.0),), receiver=((10.0, 10.0),), wavelet=WAVELET):
    return jf.Survey.from_arrays(source, receiver, wavelet)


def simulator(**options):
    return dataclasses.replace(SIMULATOR, **options)


def misfit(observed=OBSERVED, function=jf.misfits.l2, **options):
    return problem_with(SIMULATOR, SURVEY, observed, misfit=function, **options).misfit_and_gradient(MODEL)


TOLD = {
    # grid
    "shape": (lambda: jf.Grid((0, 5), 10.0, 1e-3, 10), r"shape must be .* 0\b"),
    "fractional shape": (lambda: jf.Grid((4.5, 5), 10.0, 1e-3, 10), r"shape must be .*4\.5"),
    "four axes": (lambda: jf.Grid((2, 2, 2, 2), 10.0, 1e-3, 10), r"shape must be one to three .*\(2, 2, 2, 2\)"),
    "spacing": (lambda: jf.Grid((5, 5), -1.0, 1e-3, 10), r"spacing must be positive metres, got \(-1\.0, -1\.0\)"),
    "spacing per axis": (
        lambda: jf.Grid((5, 5), (1.0, 2.0, 3.0), 1e-3, 10),
        r"spacing must be .* axis of shape \(5, 5\)",
    ),
    "dt": (lambda: jf.Grid((5, 5), 10.0, 0.0, 10), r"dt must be .*, got 0\.0"),
    "NaN dt": (lambda: jf.Grid((5, 5), 10.0, float("nan"), 10), r"dt must be .*, got nan"),
    "nt": (lambda: jf.Grid((5, 5), 10.0, 1e-3, 0), r"nt must be .* 0\b"),
    "fractional nt": (lambda: jf.Grid((5, 5), 10.0, 1e-3, 10.5), r"nt must be .*10\.5"),
    "frequency": (lambda: jf.ricker(GRID, 600.0), r"frequency must lie .* Nyquist frequency 500 Hz of dt, got 600"),
    # survey
    "source shape": (lambda: survey(source=[20.0, 20.0]), r"source must be \(shots, ndim\) or .*, got shape \(2,\)"),
    "receiver axes": (
        lambda: survey(receiver=[[1.0, 2.0, 3.0]]),
        r"receiver must be \(receivers, 2\) .*shape \(1, .*3\)",
    ),
    "receiver shots": (
        lambda: survey(receiver=np.zeros((4, 2, 2))),
        r"receiver must be .*\(1, receivers, 2\) .*shape \(4, 2, 2\)",
    ),
    "no receivers": (lambda: survey(receiver=np.zeros((0, 2))), r"a survey needs .* a receiver, got .*\(1, 0, 2\)"),
    "wavelet shape": (
        lambda: survey(wavelet=np.zeros((1, 300, 5))),
        r"wavelet must be .*\(1, time, 1\) .*shape \(1, 300, 5\)",
    ),
    "wavelet shots": (lambda: survey(wavelet=np.zeros((3, 300))), r"wavelet must be .*\(1, time\).*shape \(3, 300\)"),
    "NaN position": (lambda: survey(source=[[np.nan, 0.0]]), r"source has values that are not finite"),
    "NaN wavelet": (lambda: survey(wavelet=WAVELET * np.nan), r"wavelet has values that are not finite"),
    "spread": (
        lambda: jf.Survey.fixed_spread(
            source_x=[1.0, 2.0], source_z=[1.0, 2.0, 3.0], receiver_x=0.0, receiver_z=0.0, wavelet=WAVELET
        ),
        r"source coordinates must broadcast .*\(3,\), \(2,\)",
    ),
    "spread without x": (
        lambda: jf.Survey.fixed_spread(source_x=1.0, source_z=1.0, receiver_z=0.0, wavelet=WAVELET),
        r"same coordinates: give x",
    ),
    "spread with y alone": (
        lambda: jf.Survey.fixed_spread(source_y=1.0, source_z=1.0, receiver_y=0.0, receiver_z=0.0, wavelet=WAVELET),
        r"y coordinate needs an x",
    ),
    # simulator
    "odd order": (lambda: simulator(space_order=5), r"space_order must be even, got 5"),
    "order 0": (lambda: simulator(space_order=0), r"space_order must be .* 0\b"),
    "negative width": (lambda: jf.CPML(width=-1), r"CPML width must be .* -1\b"),
    "fractional width": (lambda: jf.CPML(width=2.5), r"CPML width must be .*2\.5"),
    "width of one side": (lambda: jf.CPML(width=((1, 2), (3,))), r"CPML width must be .* \(near, far\) pair per axis"),
    "widths of three axes": (
        lambda: simulator(absorber=jf.CPML(width=((1, 1),) * 3)),
        r"CPML width has 3 pairs for a grid of 2 axes",
    ),
    "CPML velocity": (lambda: jf.CPML(velocity=0.0), r"CPML velocity .* must be positive .*velocity=0\.0"),
    "CPML reflection": (lambda: jf.CPML(reflection=1.5), r"reflection between 0 and 1.*reflection=1\.5"),
    "absorber": (lambda: simulator(absorber=20), r"absorber must be a jaxfwi\.CPML, got 20"),
    "memory": (lambda: simulator(memory="full"), r"memory must be FullStorage\(\), Checkpointing\(\) or .*'full'"),
    "memory class": (lambda: simulator(memory=jf.FullStorage), r"memory must be FullStorage\(\), .*FullStorage"),
    "segments": (lambda: jf.Checkpointing(0), r"Checkpointing segments must be .* 0\b"),
    "fractional segments": (lambda: jf.Checkpointing(2.5), r"Checkpointing segments must be .*2\.5"),
    "ring": (lambda: jf.BoundarySaving("float8"), r"BoundarySaving dtype must be None, .*'int8', got 'float8'"),
    "fields as text": (lambda: simulator(source_fields="u"), r'source_fields must be a tuple .*source_fields=\("u",\)'),
    "source field": (
        lambda: simulate(simulator=simulator(source_fields=("vz",))),
        r"source_fields names 'vz', which Acoustic does not have: it has u\.",
    ),
    "receiver field": (
        lambda: simulate(simulator=simulator(receiver_fields=("u", "vx"))),
        r"receiver_fields names 'vx', .*: it has u\.",
    ),
    # model
    "no model": (lambda: simulate(MODEL.vp), r"model must be .*Acoustic\(vp=\.\.\.\)"),
    "shape of vp": (lambda: simulate(vp(2000.0, (14, 12))), r"Acoustic vp has shape \(14, 12\) but .* \(12, 14\)"),
    "whole numbers": (lambda: simulate(vp(2000, dtype=int)), r"Acoustic vp must be floating-point .*int64"),
    "a number": (lambda: simulate(jf.Acoustic(vp=2000.0)), r"Acoustic vp .*(array|shape)"),
    "NaN": (lambda: simulate(one_cell(np.nan)), r"Acoustic vp has values that are not finite"),
    "zero": (lambda: simulate(one_cell(0.0)), r"Acoustic vp must be positive .* 0\."),
    "negative": (lambda: simulate(one_cell(-1500.0)), r"Acoustic vp must be positive .* -1500\."),
    "unstable": (
        lambda: simulate(one_cell(8000.0)),
        r"grid\.dt = 0\.001 s is unstable for 8000 m/s at space order 4: the largest stable dt is 0\.000\d+ s",
    ),
    # a model with its survey
    "source above": (
        lambda: simulate(survey=survey(source=[[20.0, 20.0], [-10.0, 20.0]])),
        r"source off the grid: shot 1, source 0, at \(-10, 20\) m; the grid reaches from 0 to \(110, 130\) m",
    ),
    "source one cell beyond": (
        lambda: simulate(survey=survey(source=[[[20.0, 20.0], [20.0, 140.0]]])),
        r"source off the grid: shot 0, source 1, at \(20, 140\) m",
    ),
    "receiver off": (
        lambda: simulate(survey=survey(receiver=[[0.0, 0.0], [110.0, 130.0], [111.0, 5.0], [5.0, -2.0]])),
        r"receiver off the grid: shot 0, receiver 2, at \(111, 5\) m; .*\(2 such receivers",
    ),
    "receiver of one shot off": (
        lambda: SIMULATOR(MODEL, survey(receiver=[[0.0, 0.0], [0.0, 130.5]])[0]),
        r"receiver off the grid: receiver 1, at \(0, 130\.5\) m",
    ),
    "axes": (
        lambda: simulate(survey=survey([[1.0]], [[1.0]])),
        r"positions have 1 coordinates but the grid has 2 axes",
    ),
    "wavelet length": (
        lambda: simulate(survey=survey(wavelet=np.zeros(200))),
        r"wavelet has 200 time samples but the grid has nt = 300",
    ),
    "shots for a simulator": (
        lambda: SIMULATOR(MODEL, SURVEY),
        r"one shot: pass survey\[i\], or use simulate\(simulator, model, survey\)",
    ),
    "a shot for simulate": (lambda: simulate(survey=SURVEY[0]), r"no shot axis: pass survey\[i : i \+ 1\]"),
    "no survey": (lambda: simulate(survey=SURVEY.source), r"survey must be a jaxfwi\.Survey"),
    "simulator of simulate": (
        lambda: jf.simulate(jf.Problem(SIMULATOR, SURVEY), MODEL, SURVEY),
        r"simulator must be a jaxfwi\.Simulator, got Problem\(",
    ),
    "on of simulate": (lambda: jf.simulate(SIMULATOR, MODEL, SURVEY, on=4), r"on must be a jaxfwi\.On, got 4"),
    # what computes
    "batch": (lambda: jf.On(batch=0), r"batch must be a whole number of at least 1, got 0"),
    "fractional batch": (lambda: jf.On(batch=1.5), r"batch must be .* 1\.5"),
    "devices": (lambda: jf.On(devices="cpu"), r"devices must be a number or a list of jax devices, .* got 'cpu'"),
    "fractional devices": (lambda: jf.On(devices=2.0), r"devices must be a number or .* got 2\.0"),
    "devices as an answer": (lambda: jf.On(devices=True), r"devices must be a number or .* got True"),
    "no devices": (lambda: jf.On(devices=[]), r"devices must be a number or a list .* got \[\]"),
    "numbers of devices": (lambda: jf.On(devices=[0, 1]), r"devices must be a number or a list .* got \[0, 1\]"),
    "a device twice": (lambda: jf.On(devices=2 * jax.devices()), r"devices must differ"),
    "domains": (lambda: jf.On(domains=0), r"domains must be a whole number of at least 1, got 0"),
    "fractional domains": (lambda: jf.On(domains=(1, 2.5)), r"domains must be .* 2\.5"),
    # problem
    "simulator of a problem": (
        lambda: jf.Problem(GRID, SURVEY, OBSERVED),
        r"simulator must be a jaxfwi\.Simulator, got Grid\(",
    ),
    "survey of a problem": (
        lambda: jf.Problem(SIMULATOR, OBSERVED, SURVEY),
        r"survey must be a jaxfwi\.Survey, got an array of shape \(2, 300, 3, 1\)",
    ),
    "on of a problem": (
        lambda: jf.Problem(SIMULATOR, SURVEY, OBSERVED, on={"devices": 2}),
        r"on must be a jaxfwi\.On, got \{'devices': 2\}",
    ),
    "misfits in a list": (
        lambda: jf.Problem(SIMULATOR, SURVEY, OBSERVED, misfit=[jf.misfits.l2]),
        r"misfit must be a function of predicted and observed data, got list",
    ),
    "a parameter's misfit": (
        lambda: jf.Problem(SIMULATOR, SURVEY, OBSERVED, misfit=jf.Elastic(jf.misfits.l2, "l2", jf.misfits.l2)),
        r"misfit must be a function of predicted and observed data, got str",
    ),
    **{
        f"observed missing for {name}": (
            lambda compute=compute: compute(jf.Problem(SIMULATOR, SURVEY)),
            r"observed is missing: give the recorded data, Problem\(simulator, survey, observed\)",
        )
        for name, compute in {
            "misfit_and_gradient": lambda problem: problem.misfit_and_gradient(MODEL),
            "hessian_product": lambda problem: problem.hessian_product(MODEL, MODEL),
            "gauss_newton_product": lambda problem: problem.gauss_newton_product(MODEL, MODEL),
            "invert": lambda problem: jf.invert(problem, MODEL, optimizer=optax.sgd(1.0), iterations=1),
            "AsVector": lambda problem: jf.AsVector(problem, MODEL),
        }.items()
    },
    "seed": (
        lambda: jf.Problem(SIMULATOR, SURVEY).gauss_newton_diagonal(MODEL, seed=jax.random.key(0)),
        r"seed must be a whole number of at least 0, got .*key",
    ),
    # inversion
    "a simulator to invert": (
        lambda: jf.invert(SIMULATOR, MODEL, optimizer=optax.sgd(1.0), iterations=1),
        r"problem must be a jaxfwi\.Problem\(simulator, survey, observed, \.\.\.\), got Simulator\(",
    ),
    "a simulator as a vector": (
        lambda: jf.AsVector(SIMULATOR, MODEL),
        r"problem must be a jaxfwi\.Problem\(simulator, survey, observed, \.\.\.\), got Simulator\(",
    ),
    "save": (
        lambda: jf.invert(PROBLEM, MODEL, optimizer=optax.sgd(1.0), iterations=1, save="folder"),
        r"save must be a jaxfwi\.SaveTo, got 'folder'",
    ),
    "resume": (
        lambda: jf.invert(PROBLEM, MODEL, optimizer=optax.sgd(1.0), iterations=1, resume=MODEL),
        r"resume must be a jaxfwi\.InversionState, got Acoustic\(",
    ),
    "every": (lambda: jf.SaveTo("never made", every=0), r"every must be a whole number of at least 1, got 0"),
    "config": (lambda: jf.SaveTo("never made", config={"misfit": len}), r"config must hold what JSON has"),
    # data
    "shots of observed": (
        lambda: misfit(OBSERVED[:1]),
        r"observed has shape \(1, 300, 3, 1\), but .*\(shots, time, receivers, components\) = \(2, 300, 3, 1\)",
    ),
    "components of observed": (lambda: misfit(OBSERVED[..., 0]), r"observed has shape \(2, 300, 3\), but"),
    "NaN in observed": (
        lambda: misfit(OBSERVED.at[1, 5, 2, 0].set(np.nan)),
        r"observed has values .* not finite: .*mute",
    ),
    "no function": (lambda: misfit(function="l2"), r"misfit must be a function .*str"),
    "direction": (
        lambda: PROBLEM.hessian_product(MODEL, vp(1.0, (12, 13))),
        r"direction must .*f64\[12,13\]",
    ),
    "direction of another type": (
        lambda: PROBLEM.gauss_newton_product(MODEL, MODEL.vp),
        r"direction must ",
    ),
}


@pytest.mark.parametrize("name", TOLD)
def test_told(name):
    mistake, message = TOLD[name]
    with pytest.raises(ValueError, match=message):
        mistake()


def test_what_lies_on_the_edge_is_on_the_grid():
    corners = [[0.0, 0.0], [0.0, 130.0], [110.0, 0.0], [110.0, 130.0]]
    SIMULATOR.admit(MODEL, survey(source=corners, receiver=corners))
    # single-precision metres at the far edge of a grid of 0.1 m
    grid = jf.Grid((12, 14), 0.1, 1e-5, 300)
    edge = survey([np.float32([1.1, 1.3])], [np.float32([1.1, 1.3])], np.zeros(300))
    jf.Simulator(grid).admit(MODEL, edge)


@pytest.mark.parametrize("order", [2, 4, 8])
@pytest.mark.parametrize("fastest", [2000.0, 2345.6, 3333.3, 4999.9])
def test_the_stable_dt_that_is_named_is_accepted(fastest, order):
    def check(dt):
        grid = jf.Grid(GRID.shape, (10.0, 12.0), dt, 300)
        jf.Simulator(grid, order).check_model(vp(fastest))

    with pytest.raises(ValueError, match="unstable") as raised:
        check(1e-2)
    named = float(re.search(r"largest stable dt is (\S+) s", str(raised.value)).group(1))
    check(named)
    with pytest.raises(ValueError, match="unstable"):
        check(1.002 * named)


@pytest.mark.parametrize("free_surface", [False, True])
def test_the_largest_stable_dt_is_the_largest(free_surface):
    def largest(factor):
        grid = jf.Grid((9, 11), (10.0, 12.0), 1.0, 1)
        grid = jf.Grid((9, 11), (10.0, 12.0), factor * grid.stable_dt(2000.0, 4), 1500)
        rough = np.zeros(1500)
        rough[:50] = np.random.default_rng(0).standard_normal(50)  # all that the grid carries
        shot = survey([[20.0, 24.0]], [[50.0, 36.0]], rough)[0].on_nodes(grid)
        simulator = jf.Simulator(grid, absorber=jf.CPML(width=5), free_surface=free_surface)
        data = jnp.abs(jax.jit(simulator)(vp(2000.0, (9, 11)), shot))  # under jit values are not known, and not checked
        return float(data[-200:].max() / data[:200].max())

    # Waves leave through the layer: measured 0.05 and 0.02.
    assert largest(1.0 - 1e-9) < 0.2
    # 2 % more: measured 1e200 and more.
    assert largest(1.02) > 1e50


@pytest.mark.parametrize("order", [2, 8])
def test_dispersion_is_told_with_the_safe_frequency(order):
    safe = GRID.safe_frequency(2000.0, order)
    grid = jf.Grid(GRID.shape, 10.0, 1e-3, 1000)
    simulator = jf.Simulator(grid, order)
    with pytest.warns(UserWarning, match=r"the wavelet reaches .* where 2000 m/s at space order .* safe up to") as told:
        simulator.admit(MODEL, survey(wavelet=jf.ricker(grid, safe)))
    assert len(told) == 1
    reaches, named = re.search(r"reaches (\S+) Hz .* up to (\S+) Hz", str(told[0].message)).groups()
    assert float(named) == pytest.approx(safe, rel=1e-2)  # three digits
    # 95 % of a Ricker wavelet's energy lie below 1.65 of its peak frequency.
    assert float(reaches) == pytest.approx(1.65 * safe, rel=0.05)
    simulator.admit(MODEL, survey(wavelet=jf.ricker(grid, safe / 1.75)))  # warnings are errors here


SPIKY = jf.Survey(SURVEY.source, SURVEY.receiver, jnp.zeros((2, 300, 1)).at[:, 0].set(1.0))


@pytest.mark.skipif(sys.version_info < (3, 12), reason="warnings cannot skip frames of a package before Python 3.12")
@pytest.mark.parametrize(
    "run",
    [
        lambda s: jf.simulate(s, MODEL, SPIKY),
        lambda s: s(MODEL, SPIKY[0]),
        lambda s: jf.Problem(s, SPIKY, OBSERVED).misfit_and_gradient(MODEL),
        lambda s: jf.Problem(s, SPIKY, OBSERVED).hessian_product(MODEL, MODEL),
        lambda s: next(jf.invert(jf.Problem(s, SPIKY, OBSERVED), MODEL, optimizer=optax.sgd(1.0), iterations=1)),
    ],
    ids=["simulate", "simulator", "misfit_and_gradient", "hessian_product", "invert"],
)
def test_the_warning_points_at_the_caller(run):
    class StopError(Exception):
        pass

    def stop(message, category, filename, lineno, *_):
        raise StopError(filename)

    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        warnings.simplefilter("always")
        patch.setattr(warnings, "showwarning", stop)
        with pytest.raises(StopError, match=re.escape(__file__)):
            run(SIMULATOR)


# In one dimension and by full storage, which traces soonest: what is asked is what comes before the time loop.
LINE = jf.Grid(14, 10.0, 1e-3, 300)
ON_LINE = jf.Simulator(LINE, absorber=jf.CPML(width=3), memory=jf.FullStorage())
ARGUMENTS = (
    jf.Acoustic(vp=jnp.full(14, 2000.0)),
    jf.Survey.from_arrays([[20.0], [50.0]], [[10.0], [40.0], [130.0]], WAVELET),
    OBSERVED,
)
LINE_PROBLEM = jf.Problem(ON_LINE, *ARGUMENTS[1:])
FUNCTIONS = {
    "simulate": lambda m, s, o: jf.simulate(ON_LINE, m, s),
    "simulator": lambda m, s, o: ON_LINE(m, s[0]),
    "misfit_and_gradient": lambda m, s, o: jf.Problem(ON_LINE, s, o).misfit_and_gradient(m),
    "hessian_product": lambda m, s, o: jf.Problem(ON_LINE, s, o).hessian_product(m, m),
    "gauss_newton_product": lambda m, s, o: jf.Problem(ON_LINE, s, o).gauss_newton_product(m, m),
}


@pytest.mark.parametrize("traced", range(4), ids=["model", "survey", "observed", "none"])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_checks_hold_under_jit(name, traced):
    """Whichever argument is traced, and whichever is a constant of the traced function."""

    def function(x):
        return FUNCTIONS[name](*(x if i == traced else a for i, a in enumerate(ARGUMENTS)))

    ours = jax.eval_shape(function, ARGUMENTS[min(traced, 2)])  # traces as jit does, and compiles nothing
    shapes = [x.shape for x in jax.tree.leaves(ours)]
    data, model = OBSERVED.shape, LINE.shape
    expected = {"simulate": [data], "simulator": [data[1:]], "misfit_and_gradient": [(), model]}
    assert shapes == expected.get(name, [model])


@pytest.mark.telling
def test_shapes_are_checked_under_jit_too():
    with pytest.raises(ValueError, match=r"Acoustic vp has shape \(12, 13\)"):
        jax.eval_shape(simulate, vp(2000.0, (12, 13)))
    with pytest.raises(ValueError, match=r"observed has shape \(1, 300, 3, 1\)"):
        jax.eval_shape(misfit, OBSERVED[:1])
    # and values that are constants of the traced function
    negative, off = one_cell(-1.0), survey([[-10.0, 0.0]])
    with pytest.raises(ValueError, match=r"Acoustic vp must be positive"):
        jax.eval_shape(lambda s: simulate(negative, s), SURVEY)
    with pytest.raises(ValueError, match=r"source off the grid"):
        jax.eval_shape(lambda m: simulate(m, off), MODEL)


def test_an_error_while_a_program_runs_is_not_hidden_by_a_second_run(monkeypatch):
    """What a compiled program refuses is run again only where a misfit closes over values that are differentiated."""
    problem = dataclasses.replace(LINE_PROBLEM, on=jf.On(devices=1))
    value, _ = problem.misfit_and_gradient(ARGUMENTS[0])

    def refuse(*_):
        raise TypeError("another type than the program was compiled for")

    with monkeypatch.context() as patch:
        patch.setattr(jax.stages.Compiled, "__call__", refuse)
        with pytest.raises(TypeError, match="another type than the program was compiled for"):
            problem.misfit_and_gradient(ARGUMENTS[0])
    assert problem.misfit_and_gradient(ARGUMENTS[0])[0] == value


def test_an_error_of_a_callback_of_the_users_is_told_once():
    calls = []

    def callback(number):
        calls.append(number)
        raise TypeError("the callback's own")

    def failing(predicted, observed):
        number = jax.lax.stop_gradient(jf.misfits.l2(predicted, observed))
        return jf.misfits.l2(predicted, observed) + jax.pure_callback(callback, number, number)

    # one shot, so that one call is all there can be; jax raises it as an error of its own, which holds the text
    _, survey, observed = ARGUMENTS
    problem = jf.Problem(ON_LINE, survey[:1], observed[:1], misfit=failing)
    with pytest.raises(Exception, match="the callback's own"):
        problem.misfit_and_gradient(ARGUMENTS[0])
    assert len(calls) == 1
