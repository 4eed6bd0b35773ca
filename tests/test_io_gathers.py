"""Gathers on disk: what is read is what was written, no more of it than asked for, and nothing is left half-written."""

import pickle
import subprocess
import sys
import weakref
import zipfile

import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers import invert_with

import jaxfwi as jf

NAMES = ["line.npz", "line", "line.zarr"]
ARCHIVES = NAMES[:2]
SHOTS, TIME, RECEIVERS, COMPONENTS = 4, 30, 5, 2


def data_of(dtype=np.float32, shape=(SHOTS, TIME, RECEIVERS, COMPONENTS)):
    return np.random.default_rng(0).normal(size=shape).astype(dtype)


def ragged(mask):
    mask = np.asarray(mask)
    wavelet = np.zeros((len(mask), TIME, 1))
    positions = np.zeros((*mask.shape, 2)) + 10.0 * np.arange(mask.shape[1])[:, None]
    return jf.Survey(jnp.zeros((len(mask), 1, 2)), jnp.asarray(positions), jnp.asarray(wavelet), None, None, mask)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16])
def test_round_trip(tmp_path, name, dtype):
    data = data_of(dtype)
    jf.io.gathers.write(tmp_path / name, data)
    found = jf.io.gathers.read(tmp_path / name)
    assert (found.shape, found.dtype, found.ndim, len(found), found.size) == (data.shape, dtype, 4, SHOTS, data.size)
    np.testing.assert_array_equal(np.asarray(found), data)
    np.testing.assert_array_equal(np.stack(list(found)), data)
    assert np.asarray(found, np.float64).dtype == np.float64


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "index",
    [
        0,
        -1,
        np.int32(2),
        slice(1, 3),
        slice(None, None, -2),
        slice(4, 4),
        [3, 0, 3],
        np.array([2, 1]),
        np.array([True, False, False, True]),
        np.array([[0, 1], [2, 3]]),
        (1, slice(None), 2),
        (slice(None), 7),
        ([2, 0], slice(3, 9), slice(None), 1),
        (slice(0, 0), 7),
    ],
    ids=str,
)
def test_indexed_like_an_array(tmp_path, name, index):
    data = data_of()
    jf.io.gathers.write(tmp_path / name, data)
    np.testing.assert_array_equal(jf.io.gathers.read(tmp_path / name)[index], data[index])


@pytest.mark.parametrize("name", NAMES)
def test_indices_that_cannot_be(tmp_path, name):
    jf.io.gathers.write(tmp_path / name, data_of())
    found = jf.io.gathers.read(tmp_path / name)
    for index in (SHOTS, [0, -SHOTS - 1], ..., None, (), (1, [2, 3]), (1, TIME), 1.5):
        with pytest.raises(IndexError):
            found[index]
    with pytest.raises(ValueError, match="cannot be an array without a copy"):
        np.asarray(found, copy=False)


@pytest.mark.parametrize("name", ARCHIVES)
def test_padding_is_not_written_and_comes_back(tmp_path, name):
    survey = ragged([[True, True, False], [True, False, True], [True, True, True], [False, False, True]])
    data = np.asarray(survey.masked(data_of(shape=(4, TIME, 3, 1))))
    jf.io.gathers.write(tmp_path / name, data, survey)
    np.testing.assert_array_equal(np.asarray(jf.io.gathers.read(tmp_path / name, survey)), data)
    # Without the survey padding comes last.
    found = jf.io.gathers.read(tmp_path / name)
    assert found.shape == data.shape
    np.testing.assert_array_equal(found[1][:, :2], data[1][:, [0, 2]])
    assert not found[1][:, 2].any()
    stored = jf.io.gathers.read(tmp_path / name)._shot(3)
    np.testing.assert_array_equal(stored[:, :1], data[3][:, 2:])


def test_a_generator_is_written_shot_by_shot(tmp_path):
    made = []

    def model():
        for shot in range(6):
            gather = np.full((TIME, 3, 1), shot, np.float32)
            made.append(weakref.ref(gather))
            yield gather
            del gather
            assert sum(x() is not None for x in made) <= 2  # one may still be held by who writes it

    for name in NAMES:
        jf.io.gathers.write(tmp_path / name, model())
        assert np.asarray(jf.io.gathers.read(tmp_path / name))[:, 0, 0, 0].tolist() == [0, 1, 2, 3, 4, 5]


def test_jobs_write_their_shots(tmp_path):
    data = data_of()
    for shot in (2, 0, 3):
        jf.io.gathers.write_shot(tmp_path / "line", shot, data[shot])
    with pytest.raises(ValueError, match=r"3 shots up to 3, but not shot 1"):
        jf.io.gathers.read(tmp_path / "line")
    jf.io.gathers.write_shot(tmp_path / "line", 1, jnp.asarray(data[1]))
    np.testing.assert_array_equal(np.asarray(jf.io.gathers.read(tmp_path / "line")), data)
    with np.load(tmp_path / "line" / "shot_000002.npz") as archive:
        np.testing.assert_array_equal(archive["data"], data[2])


def test_numpy_reads_and_writes_the_archive(tmp_path):
    data = data_of()
    jf.io.gathers.write(tmp_path / "ours.npz", data)
    with np.load(tmp_path / "ours.npz") as archive:
        assert archive.files == [f"shot_{i:06d}" for i in range(SHOTS)]
        np.testing.assert_array_equal(archive["shot_000003"], data[3])
    np.savez_compressed(tmp_path / "theirs.npz", **{f"shot_{i:06d}": x for i, x in enumerate(data)})
    np.testing.assert_array_equal(jf.io.gathers.read(tmp_path / "theirs.npz")[:], data)


@pytest.mark.parametrize("name", NAMES)
def test_a_write_that_fails_leaves_what_was_there(tmp_path, name):
    def failing():
        yield data_of()[0]
        raise RuntimeError("no power")

    with pytest.raises(RuntimeError, match="no power"):
        jf.io.gathers.write(tmp_path / name, failing())
    assert not list(tmp_path.iterdir())
    jf.io.gathers.write(tmp_path / name, data_of())
    with pytest.raises(RuntimeError if name == "line.npz" else FileExistsError):
        jf.io.gathers.write(tmp_path / name, failing())
    assert [path.name for path in tmp_path.iterdir()] == [name]
    np.testing.assert_array_equal(np.asarray(jf.io.gathers.read(tmp_path / name)), data_of())


def test_a_damaged_shot_is_reported_and_the_others_are_read(tmp_path):
    data = data_of(shape=(SHOTS, 3000, RECEIVERS, COMPONENTS))  # more than what is read with the header
    jf.io.gathers.write(tmp_path / "line.npz", data)
    content = bytearray((tmp_path / "line.npz").read_bytes())
    place = content.index(data[2].tobytes()) + 100
    content[place] ^= 1
    (tmp_path / "line.npz").write_bytes(content)
    found = jf.io.gathers.read(tmp_path / "line.npz")
    np.testing.assert_array_equal(found[[0, 1, 3]], data[[0, 1, 3]])
    with pytest.raises(ValueError, match=r"line\.npz cannot be read: Bad CRC"):
        found[2]

    jf.io.gathers.write(tmp_path / "line", data)
    found = jf.io.gathers.read(tmp_path / "line")
    file = tmp_path / "line" / "shot_000001.npz"
    file.write_bytes(file.read_bytes()[:-200])
    np.testing.assert_array_equal(found[[0, 2, 3]], data[[0, 2, 3]])
    with pytest.raises(ValueError, match=r"shot_000001\.npz cannot be read"):
        found[1]
    with pytest.raises(ValueError, match=r"shot_000001\.npz cannot be read"):
        jf.io.gathers.read(tmp_path / "line")
    jf.io.gathers.write_shot(tmp_path / "line", 1, data[1, :-1])
    with pytest.raises(ValueError, match=r"shot 1 of .*line has shape \(2999, 5, 2\) but had \(3000, 5, 2\)"):
        found[1]

    jf.io.gathers.write(tmp_path / "line.zarr", data)
    chunks = sorted(p for p in (tmp_path / "line.zarr").rglob("*") if p.is_file() and p.name != "zarr.json")
    assert len(chunks) == SHOTS
    found = jf.io.gathers.read(tmp_path / "line.zarr")
    chunks[1].write_bytes(chunks[1].read_bytes()[:50])
    np.testing.assert_array_equal(found[[0, 2, 3]], data[[0, 2, 3]])
    with pytest.raises(ValueError, match=r"shot 1 of .*line\.zarr cannot be read"):
        found[1]
    chunks[1].unlink()
    with pytest.raises(ValueError, match=r"shot 1 of .*line\.zarr is not there"):
        found[1]
    jf.io.gathers.write(tmp_path / "silent.zarr", 0 * data)
    assert not np.asarray(jf.io.gathers.read(tmp_path / "silent.zarr")).any()


class Executes:
    def __reduce__(self):
        return exec, ("import builtins; builtins.executed = True",)


def test_nothing_is_unpickled(tmp_path):
    np.savez(tmp_path / "bad.npz", shot_000000=np.array([[[Executes()]]]))
    with pytest.raises(ValueError, match="cannot be read: Object arrays"):
        jf.io.gathers.read(tmp_path / "bad.npz")[0]
    (tmp_path / "worse.npz").write_bytes(pickle.dumps(Executes()))
    with pytest.raises(ValueError, match="cannot be read"):
        jf.io.gathers.read(tmp_path / "worse.npz")
    assert not hasattr(__import__("builtins"), "executed")


GRID = jf.Grid((12, 14), 10.0, 1e-3, 200)
SIMULATOR = jf.Simulator(GRID, absorber=jf.CPML(width=3))
SURVEY = jf.Survey.from_lists(
    [[20.0, 20.0], [20.0, 50.0], [20.0, 80.0]],
    [[[10.0, 0.0], [10.0, 40.0]], [[10.0, 40.0]], [[10.0, 0.0], [20.0, 60.0]]],
    jf.ricker(GRID, 15.0),
)
MODEL = jf.Acoustic(vp=jnp.full(GRID.shape, 2000.0))
OBSERVED = np.asarray(jf.simulate(SIMULATOR, jf.Acoustic(vp=MODEL.vp + 100.0), SURVEY))


@pytest.mark.parametrize("name", NAMES)
def test_gathers_are_observed_data(tmp_path, name):
    jf.io.gathers.write(tmp_path / name, OBSERVED, SURVEY)
    observed = jf.io.gathers.read(tmp_path / name)
    whole = jf.Problem(SIMULATOR, SURVEY, OBSERVED).misfit_and_gradient(MODEL)
    read = jf.Problem(SIMULATOR, SURVEY, observed).misfit_and_gradient(MODEL)
    assert whole[0] > 0
    np.testing.assert_array_equal(read[0], whole[0])  # the same program with the same numbers
    np.testing.assert_array_equal(read[1].vp, whole[1].vp)


def test_an_inversion_reads_its_mini_batches_only(tmp_path):
    read = []

    def shot(number):
        read.append(number)
        return OBSERVED[number]

    observed = jf.io.gathers.Gathers(OBSERVED.shape, OBSERVED.dtype, shot, "memory")
    options = {"optimizer": optax.sgd(1.0), "iterations": 3, "shots_per_iteration": 1, "seed": 1}
    whole = [state.model.vp for state in invert_with(SIMULATOR, MODEL, SURVEY, OBSERVED, **options)]
    states = invert_with(SIMULATOR, MODEL, SURVEY, observed, **options)
    for iteration, (state, expected) in enumerate(zip(states, whole, strict=True)):
        np.testing.assert_array_equal(state.model.vp, expected)
        assert len(read) == iteration + 1
    assert sorted(read) == [0, 1, 2]
    # Checkpoints compare three shots of the data, and tell others.
    jf.io.gathers.write(tmp_path / "line", OBSERVED, SURVEY)
    jf.io.gathers.write(tmp_path / "other", 2 * OBSERVED, SURVEY)
    options["save"] = jf.SaveTo(tmp_path / "checkpoints")
    for _ in range(2):
        states = list(invert_with(SIMULATOR, MODEL, SURVEY, jf.io.gathers.read(tmp_path / "line"), **options))
        np.testing.assert_array_equal(states[-1].model.vp, whole[-1])
    assert len(states) == 1  # the second time it was done
    with pytest.raises(ValueError, match="observed was"):
        invert_with(SIMULATOR, MODEL, SURVEY, jf.io.gathers.read(tmp_path / "other"), **options)


def test_values_that_are_not_finite_are_reported_when_they_are_read(tmp_path):
    bad = OBSERVED.copy()
    bad[1, 5, 0] = np.nan
    jf.io.gathers.write(tmp_path / "line.npz", bad, SURVEY)
    with pytest.raises(ValueError, match="observed has values that are not finite"):
        jf.Problem(SIMULATOR, SURVEY, jf.io.gathers.read(tmp_path / "line.npz")).misfit_and_gradient(MODEL)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("data", "survey", "message"),
    [
        (np.zeros((2, TIME, 3)), None, r"shot 0 of .* must be real numbers \(time, receivers, components\), .*\(30, 3"),
        (np.zeros((2, TIME, 3, 1), complex), None, "got complex128 of shape"),
        (np.zeros((0, TIME, 3, 1)), None, "have 0 shots"),
        (np.zeros((2, TIME, 0, 1)), None, r"got float64 of shape \(30, 0, 1\)"),
        ([np.zeros((TIME, 3, 1)), np.zeros((TIME - 1, 3, 1))], None, r"shot 1 of .* \(29, 3, 1\) where the first has"),
        (np.zeros((2, TIME, 3, 1)), ragged([[True, True, False]]), r"survey of 1 shots and 3 receivers: shot 1 has"),
        (np.zeros((2, TIME, 2, 1)), ragged([[True, True, False]] * 2), r"3 receivers: shot 0 has shape \(30, 2, 1\)"),
        (np.zeros((1, TIME, 3, 1)), ragged([[True, True, False]] * 2), "have 1 shots, the survey 2"),
    ],
)
def test_data_that_cannot_be_written(tmp_path, name, data, survey, message):
    with pytest.raises(ValueError, match=message):
        jf.io.gathers.write(tmp_path / name, data, survey)
    assert not list(tmp_path.iterdir())


def test_zarr_holds_shots_alike(tmp_path):
    with pytest.raises(ValueError, match=r"are alike in a zarr array: pad them by survey\.pad"):
        jf.io.gathers.write(tmp_path / "line.zarr", [np.zeros((TIME, 3, 1)), np.zeros((TIME, 2, 1))])


def test_files_that_hold_no_gathers(tmp_path):
    for name in ("missing.npz", "missing", "missing.zarr"):
        with pytest.raises(FileNotFoundError, match=f"no such file.*{name}"):
            jf.io.gathers.read(tmp_path / name)
    np.savez(tmp_path / "other.npz", data=np.zeros(3))
    with pytest.raises(ValueError, match=r"other\.npz holds no gathers shot_000000"):
        jf.io.gathers.read(tmp_path / "other.npz")
    with pytest.raises(ValueError, match="holds no gathers"):
        jf.io.gathers.read(tmp_path)
    np.savez(tmp_path / "flat.npz", shot_000000=np.zeros((3, 4)))
    with pytest.raises(ValueError, match=r"shot 0 of .* has shape \(3, 4\)"):
        jf.io.gathers.read(tmp_path / "flat.npz")
    np.savez(tmp_path / "unlike.npz", shot_000000=np.zeros((3, 4, 1)), shot_000001=np.zeros((3, 4, 2)))
    with pytest.raises(ValueError, match=r"shot 1 of .* has shape \(3, 4, 2\) where the first has"):
        jf.io.gathers.read(tmp_path / "unlike.npz")
    with zipfile.ZipFile(tmp_path / "text.npz", "w") as archive:
        archive.writestr("shot_000000.npy", "no array")
    with pytest.raises(ValueError, match=r"text\.npz cannot be read"):
        jf.io.gathers.read(tmp_path / "text.npz")
    jf.io.gathers.write(tmp_path / "line.npz", OBSERVED)
    with pytest.raises(ValueError, match=r"shot 1 of .* has 2 receivers, in the survey 1: write it with its survey"):
        jf.io.gathers.read(tmp_path / "line.npz", SURVEY)
    with pytest.raises(ValueError, match=r"has 3 shots, the survey 2"):
        jf.io.gathers.read(tmp_path / "line.npz", SURVEY[:2])
    jf.io.gathers.write(tmp_path / "line.zarr", OBSERVED)
    with pytest.raises(ValueError, match=r"the survey \(shots, receivers\) \(2, 2\)"):
        jf.io.gathers.read(tmp_path / "line.zarr", SURVEY[:2])
    (tmp_path / "line.zarr" / "zarr.json").write_text("{}")
    with pytest.raises(ValueError, match=r"line\.zarr cannot be read as a zarr array"):
        jf.io.gathers.read(tmp_path / "line.zarr")


def test_a_missing_zarr_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "zarr", None)
    with pytest.raises(ImportError, match=r"^zarr is not installed: pip install jaxfwi\[zarr\]\.$"):
        jf.io.gathers.write(tmp_path / "line.zarr", data_of())
    assert not list(tmp_path.iterdir())


def test_models_are_checked(tmp_path):
    vp = np.random.default_rng(0).uniform(1500, 4000, (12, 14))
    for dtype, expected in ((np.float32, np.float32), (np.float64, np.float64), (np.int16, np.float32)):
        jf.io.models.write(tmp_path / "vp.npy", vp.astype(dtype))
        found = jf.io.models.read(tmp_path / "vp.npy", GRID, least=0.0)
        assert found.dtype == expected
        np.testing.assert_array_equal(found, vp.astype(dtype).astype(expected))
    jf.io.models.write(tmp_path / "turned.npy", vp.T)  # not contiguous
    np.testing.assert_array_equal(jf.io.models.read(tmp_path / "turned.npy"), vp.T)
    with pytest.raises(ValueError, match=r"has shape \(14, 12\), the grid \(12, 14\)\. It may be transposed"):
        jf.io.models.read(tmp_path / "turned.npy", GRID)
    with pytest.raises(ValueError, match=r"vp\.npy is .* at cell \(\d+, \d+\), below 4000"):
        jf.io.models.read(tmp_path / "vp.npy", least=4000.0)
    with pytest.raises(FileNotFoundError):
        jf.io.models.read(tmp_path / "missing.npy")
    before = (tmp_path / "vp.npy").read_bytes()
    vp[3, 4] = np.nan
    with pytest.raises(ValueError, match=r"model is nan at cell \(3, 4\)"):
        jf.io.models.write(tmp_path / "vp.npy", vp)
    assert (tmp_path / "vp.npy").read_bytes() == before
    np.save(tmp_path / "nan.npy", vp)
    np.save(tmp_path / "objects.npy", np.array([Executes()]))
    np.savez(tmp_path / "several.npy.npz", vp)
    np.save(tmp_path / "complex.npy", vp + 1j)
    np.save(tmp_path / "four.npy", np.zeros((2, 2, 2, 2)))
    (tmp_path / "cut.npy").write_bytes(before[:-10])
    for name, message in {
        "nan.npy": r"nan\.npy is nan at cell \(3, 4\)",
        "objects.npy": "cannot be read as a .npy file of numbers: Object arrays",
        "several.npy.npz": "archive of several arrays",
        "complex.npy": "must hold real numbers, got complex128",
        "four.npy": r"must be \(nz,\), .* got shape \(2, 2, 2, 2\)",
        "cut.npy": r"cut\.npy cannot be read",
    }.items():
        with pytest.raises(ValueError, match=message):
            jf.io.models.read(tmp_path / name)
    assert not hasattr(__import__("builtins"), "executed")


def test_io_is_imported_by_those_who_read_files():
    script = """
import sys, jaxfwi
assert "jaxfwi.io" not in sys.modules
assert "io" in dir(jaxfwi)
jaxfwi.io.gathers
assert not {"segyio", "zarr", "yaml"} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", script], check=True)
