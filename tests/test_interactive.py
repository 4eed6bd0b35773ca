"""What a user sees at a prompt: reprs that never raise, names that completion finds, errors that fit on a screen."""

import subprocess
import sys
import traceback

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxfwi as jf

GRID = jf.Grid(shape=(12, 14), spacing=10.0, dt=1e-3, nt=100)
SURVEY = jf.Survey.from_lists([[50.0, 50.0]] * 2, [[[50.0, 60.0]], [[50.0, 60.0], [50.0, 90.0]]], np.zeros(100))
VP = jnp.linspace(1500.0, 2500.0, 168, dtype=jnp.float32).reshape(12, 14)


def test_reprs_are_short_and_tell_what_matters():
    assert repr(GRID) == "Grid(12 x 14 cells of 10 m: 0.11 km x 0.13 km, 100 steps of 1 ms: 0.1 s)"
    assert repr(SURVEY) == "Survey(2 shots: 1 source and 1 to 2 receivers each, 100 time samples)"
    assert repr(jf.Simulator(GRID)) == f"Simulator({GRID!r})"
    simulator = jf.Simulator(GRID, 8, free_surface=True, memory=jf.Checkpointing(), receiver_fields=["u"])
    told = "space_order=8, free_surface=True, memory=Checkpointing(segments=None), receiver_fields=('u',)"
    assert repr(simulator) == f"Simulator({GRID!r}, {told})"
    assert repr(jf.Acoustic(vp=VP)) == "Acoustic(vp=f32[12,14] from 1500 to 2500)"
    rock = jf.Elastic(vp=np.full((2, 3), 3e3), vs=jnp.array([1504.0, 2000.0], "bfloat16"), rho=0)
    assert repr(rock) == "Elastic(vp=f64[2,3](numpy) of 3000, vs=bf16[2] from 1504 to 2000, rho=0)"
    assert repr(jf.Acoustic(vp=np.array([np.nan, 1.0]))) == "Acoustic(vp=f64[2](numpy) from nan to nan)"
    rates = jf.Elastic(vp=True, vs="frozen", rho=optax.scale(2.0).init)
    assert repr(rates).startswith("Elastic(vp=True, vs='frozen', rho=<function ")


def test_the_repr_of_an_inversion_tells_its_misfit():
    model = jf.Acoustic(vp=VP)
    state = jf.InversionState(3, 0, model, model, jnp.asarray(0.125), None, model, (), jnp.asarray(8.0))
    expected = "InversionState(iteration=3, stage=0, misfit=0.125, unknowns=Acoustic(vp=f32[12,14] from 1500 to 2500))"
    assert repr(state) == expected
    other = eqx.tree_at(lambda s: (s.unknowns, s.misfit), state, ({"a": VP}, None))
    assert repr(other) == "InversionState(iteration=3, stage=0, misfit=None, unknowns={'a': f32[12,14]})"
    assert "f64[2]" in repr(jax.tree.map(lambda x: jnp.stack([x, x]), state))


def test_reprs_inside_of_transformations_and_of_what_is_no_longer_there():
    seen = []
    model = jf.Acoustic(vp=VP)

    def look(model, survey):
        seen.extend([repr(model), repr(survey)])
        return jnp.sum(model.vp) + jnp.sum(survey.source)

    jax.jit(look)(model, SURVEY)
    jax.vmap(jax.grad(look), (None, 0))(model, SURVEY)
    jax.eval_shape(lambda *given: look(*given), model, SURVEY)  # another function: jax would not trace the same again
    all_shots = "Survey(2 shots: 1 source and up to 2 receivers each, 100 time samples)"
    one_shot = "Survey(one shot: 1 source and up to 2 receivers, 100 time samples)"
    short = "Acoustic(vp=f32[12,14])"
    assert seen == [short, all_shots, short, one_shot, short, all_shots]

    # structures of specs, parts and placeholders; arrays that were given away
    for tree in (model, SURVEY, SURVEY[0]):
        for leaf in (None, 0, object(), jax.ShapeDtypeStruct((3,), float), jnp.zeros(()), jnp.zeros((2, 2, 2, 2))):
            assert repr(jax.tree.map(lambda _, leaf=leaf: leaf, tree))
        for i, leaf in enumerate(jax.tree.leaves(tree)):
            assert repr(eqx.tree_at(lambda t, i=i: jax.tree.leaves(t)[i], tree, None))
            gone = leaf.copy()
            broken = eqx.tree_at(lambda t, i=i: jax.tree.leaves(t)[i], tree, gone)
            gone.delete()
            assert repr(broken)


def test_completion_offers_public_names_alone():
    script = """
import types, jaxfwi
assert dir(jaxfwi) == sorted(jaxfwi.__all__)
for name in dir(jaxfwi):
    module = getattr(jaxfwi, name)
    if isinstance(module, types.ModuleType):
        assert dir(module) == sorted(module.__all__), name
        assert all(getattr(module, name) is not None for name in dir(module))
assert dir(jaxfwi.io.segy) == sorted(jaxfwi.io.segy.__all__)
assert jaxfwi._checks.is_concrete  # there, for who knows its name
"""
    done = subprocess.run([sys.executable, "-W", "error", "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


CALLS = {
    "a simulator": lambda s, m: s(m, SURVEY[0]),
    "jit of grad": lambda s, m: jax.jit(jax.grad(lambda m: jnp.sum(s(m, SURVEY[0]))))(m),
    "vmap of jit": lambda s, m: jax.vmap(jax.jit(s), (None, 0))(m, SURVEY),
    "snapshots": lambda s, m: jax.jit(lambda m: jf.snapshots(s, m, SURVEY[0], every=10))(m),
    "simulate": lambda s, m: jf.simulate(s, m, SURVEY),
    "gradient": lambda s, m: jf.Problem(s, SURVEY, np.zeros((2, 100, 2, 1))).misfit_and_gradient(m),
}


@pytest.mark.parametrize("name", CALLS)
def test_an_error_at_the_door_fits_on_a_screen(name):
    turned = jf.Acoustic(vp=VP.T)
    with pytest.raises(ValueError, match=r"Acoustic vp has shape \(14, 12\) but the grid has \(12, 14\)") as told:
        CALLS[name](jf.Simulator(GRID), turned)
    ours = [frame for frame in traceback.extract_tb(told.tb) if "jaxfwi/" in frame.filename.replace("\\", "/")]
    assert len(ours) <= 5  # jax hides its own
