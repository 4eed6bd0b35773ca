"""Seistorch projects, and the pickles of which they consist."""

import builtins
import copyreg
import datetime
import os
import pickle
import struct
import sys

import jax.numpy as jnp
import numpy as np
import optax
import pytest
import yaml

import jaxfwi as jf
from jaxfwi.io import pickles

PROTOCOLS = range(pickle.HIGHEST_PROTOCOL + 1)


def same(a, b):
    """The same numbers in the same lists, tuples and arrays, of the same types."""
    if type(a) is not type(b):
        return False
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, np.ndarray):
        return a.dtype == b.dtype and a.shape == b.shape and bool((a == b).all())
    return a == b


NUMBERS = {
    "lists": [[1, 2], [300, -4], [2**40, 2**80]],
    "tuples": ([1], (2, 3), (), ((4,),)),
    "floats": [[0.1, -1e300], float("inf")],
    "scalars": [np.int64(3), np.float32(0.5), np.uint8(7), np.int16(-2), np.float64(0.1), np.float16(2)],
    "array": np.arange(12).reshape(3, 4),
    "arrays": [np.arange(3, dtype=np.int32), np.linspace(0, 1, 5), np.zeros((2, 1), np.float32), np.array(7)],
    "columns first": np.asfortranarray(np.arange(12.0).reshape(3, 4)),
    "not contiguous": np.arange(24).reshape(4, 6)[::2, ::3],
    "other order of bytes": np.arange(3, dtype=">i4"),
    "shared": [[1, 2]] * 3,
    "meshgrid": [np.meshgrid(np.arange(3), np.arange(2))[0], np.zeros((2, 3), int)],
}


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("name", NUMBERS)
def test_numbers_come_back(tmp_path, name, protocol):
    (tmp_path / "x.pkl").write_bytes(pickle.dumps(NUMBERS[name], protocol=protocol))
    assert same(pickles.load(tmp_path / "x.pkl"), NUMBERS[name])


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_arrays_without_numbers(protocol):
    # the older protocols have empty bytes as a call of their own, which nobody needs
    content = pickle.dumps([np.zeros((2, 0), np.float32)], protocol=protocol)
    if protocol >= 3:
        assert same(pickles.loads(content), [np.zeros((2, 0), np.float32)])
    else:
        with pytest.raises(ValueError, match=r"holds __builtin__\.bytes"):
            pickles.loads(content)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_pickles_of_older_numpys(protocol):
    # numpy 1 had its names in numpy.core; those of protocol 4 are preceded by their length
    content = pickle.dumps([np.arange(3.0), np.int32(4)], protocol=protocol)
    for module in (b"multiarray", b"numeric"):
        ours, theirs = b"numpy._core." + module, b"numpy.core." + module
        content = content.replace(bytes([len(ours)]) + ours, bytes([len(theirs)]) + theirs).replace(ours, theirs)
    start = content.find(b"\x95")
    if protocol >= 4:  # frames are preceded by their length too
        content = content[:start] + b"\x95" + struct.pack("<Q", len(content) - start - 9) + content[start + 9 :]
    assert b"numpy.core" in content
    assert b"numpy._core" not in content
    assert same(pickles.loads(content), [np.arange(3.0), np.int32(4)])


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_arrays_of_arrays_are_lists(protocol):
    ragged = np.empty(2, object)
    ragged[:] = [np.zeros((3, 2)), np.ones((3, 1))]
    assert same(pickles.loads(pickle.dumps(ragged, protocol=protocol)), list(ragged))
    square = np.empty((2, 2), object)
    square[:] = [[1, 2.5], [[3], (4,)]]
    assert same(pickles.loads(pickle.dumps(square, protocol=protocol)), [[1, 2.5], [[3], (4,)]])


class Executes:
    """Runs when it is unpickled, if anything is."""

    def __init__(self, function=exec, arguments=("import builtins; builtins.executed = True",)):
        self.called = function, arguments

    def __reduce__(self):
        return self.called


class Stateful:
    def __setstate__(self, state):
        builtins.executed = True


class WithState(Stateful):
    def __reduce__(self):
        return Stateful, (), {"a": 1}


NOT_NUMBERS = {
    "a call": (Executes(), r"builtin(s|__)\.exec\b"),
    "a call within": ([[1, 2], [3, Executes()]], r"builtin(s|__)\.exec\b"),
    "a shell": (Executes(os.system, ("false",)), r"(posix|nt)\.system"),
    "getattr": (Executes(getattr, (1, "real")), r"builtin(s|__)\.getattr"),
    "a class": (WithState(), r"test_io_seistorch\.Stateful"),
    "numpy's other functions": (Executes(np.zeros, (3,)), r"numpy\.zeros|numpy\._core\.multiarray\.zeros"),
    "a function": ([np.sum], r"numpy\.sum|_sum"),
    "an array of objects": (np.array([[Executes()]]), r"builtin(s|__)\.exec\b"),
    "a date": (datetime.date(2000, 1, 1), r"datetime\.date"),
    "text": (["src"], "something of type str"),
    "bytes": ([b"src"], r"something of type bytes|a bare bytes"),
    "nothing": ([None], "something of type NoneType"),
    "truth": ([True], "something of type bool"),
    "a dictionary": ({"x": 1}, "something of type dict"),
    "a set": ([{1}], r"something of type set|builtin(s|__)\.set"),
    "complex": ([1j], r"builtin(s|__)\.complex"),
    "complex numbers": (np.zeros(2, complex), "an array of numpy's type 'c16'"),
    "complex number": (np.complex64(1), "an array of numpy's type 'c8'"),
    "texts": (np.array(["a"]), "an array of numpy's type 'U1'"),
    "truths": (np.zeros(2, bool), "an array of numpy's type 'b1'"),
    "dates": (np.zeros(2, "M8[s]"), "an array of numpy's type 'M8'"),
    "records": (np.zeros(2, [("a", "i4"), ("b", object)]), "an array of numpy's type 'V12'"),
    "texts of any length": (np.array(["a"], np.dtypes.StringDType()), "numpy"),
    "a type": (np.dtype("f8"), "a bare dtype"),
}


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize(("given", "message"), NOT_NUMBERS.values(), ids=NOT_NUMBERS)
def test_nothing_else_is_read_and_nothing_is_run(tmp_path, given, message, protocol):
    (tmp_path / "bad.pkl").write_bytes(pickle.dumps(given, protocol=protocol))
    with pytest.raises(ValueError, match=rf"bad\.pkl holds .*({message})"):
        pickles.load(tmp_path / "bad.pkl")
    assert not hasattr(builtins, "executed")


def test_these_pickles_would_run():
    """The tests above are worth something only if pickle itself runs them."""
    for given in (Executes(), [[3, Executes()]], np.array([[Executes()]]), WithState()):
        pickle.loads(pickle.dumps(given))
        assert builtins.executed
        del builtins.executed


BY_HAND = {
    # c: a name; ( t: a tuple; R: call; o, i: older ways to make an object; \x81: the newer; b: set its state; .: end
    "older call": b"(cos\nsystem\nS'false'\no.",
    "oldest call": b"(S'false'\nios\nsystem\n.",
    "newer call": b"cos\nsystem\n(S'false'\nt\x81.",
    "call by names on the stack": b"\x8c\x02os\x8c\x06system\x93(\x8c\x05falset R.".replace(b" ", b""),
    "state of a name": b"cnumpy\ndtype\n}S'name'\nS'x'\nsb.",
    "attributes of a name": b"cnumpy\ndtype\n(N}S'__call__'\nI1\nstb.",
    "class method": b"cnumpy\nndarray.tofile\n.",
    "dotted name": b"\x80\x04\x8c\x05numpy\x8c\x0dndarray.dumps\x93.",
    "made of a stand-in": b"cnumpy\nndarray\n)\x81.",
    "called twice": b"cnumpy\nndarray\n)R)R.",
    "state of an encoded text": b"c_codecs\nencode\n(Va\nVlatin1\ntR(I1\ntb.",
    "reference": b"Pelsewhere\n.",
    "newer reference": b"I1\nQ.",
    "a bare array": b"cnumpy._core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntVb\ntR.",
    "a bare name": b"cnumpy\nndarray\n.",
    "buffer from elsewhere": b"\x80\x05\x97.",
    "no end": b"(lp0\nI1\n",
    "no beginning": b"hello",
    "empty": b"",
    "endless": b"(lp0\ng0\na.",
    "deep": b"(" * 5000 + b"l" * 5000 + b".",
    "popped too often": b"00.",
}


@pytest.mark.parametrize("content", BY_HAND.values(), ids=BY_HAND)
def test_pickles_made_by_hand(content, capfd):
    with pytest.raises(ValueError, match=r"the pickle (holds|cannot be read)"):
        pickles.loads(content)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("state", [b"}Vname\nVdtype\ns", b"(N}Vname\nVdtype\nst", b"I1\n"])
def test_what_stands_in_for_a_name_takes_no_state(state):
    # or else one that is known could be made another
    with pytest.raises(ValueError, match="holds a state for ndarray"):
        pickles.loads(b"cnumpy\nndarray\n" + state + b"b(Vf8\nI00\nI01\ntR.")


def test_registered_extensions_are_refused():
    copyreg.add_extension("builtins", "exec", 240)
    try:
        with pytest.raises(ValueError, match=r"holds builtins\.exec"):
            pickles.loads(b"\x82\xf0.")
    finally:
        copyreg.remove_extension("builtins", "exec", 240)


def noted(shape, dtype, flags, data):
    """A pickle of an array whose state says what it likes."""
    state = f"(I1\n{shape}cnumpy\ndtype\n(V{dtype}\nI00\nI01\ntR(I3\nV|\nNNNI-1\nI-1\nI{flags}\ntbI00\n".encode()
    made = b"cnumpy._core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntVb\ntR"
    return made + state + data + b"tb."


@pytest.mark.parametrize(
    ("content", "message"),
    [
        # addresses in the stead of objects, which numpy would follow
        (noted("(I1\nt", "O8", 0, b"C\x08\x01\x02\x03\x04\x05\x06\x07\x08"), "objects that does not hold as many"),
        (noted("(I3\nt", "O8", 63, b"(I1\nI2\nl"), "objects that does not hold as many"),
        (noted("(I3\nt", "f8", 0, b"C\x08\x01\x02\x03\x04\x05\x06\x07\x08"), "does not hold as many bytes"),
        (noted("(I1\nt", "f8", 0, b"(I1\nl"), "does not hold as many bytes"),
        (noted("(I-1\nt", "f8", 0, b"C\x00"), "shape is not numbers"),
        (noted("I1\n", "f8", 0, b"C\x00"), "shape is not numbers"),
        (noted("(I99999999999\nI0\nt", "O8", 0, b"(l"), None),
    ],
)
def test_arrays_that_are_not_what_they_say(content, message):
    if message is None:
        assert pickles.loads(content) == []  # and at once
        return
    with pytest.raises(ValueError, match=message):
        pickles.loads(content)


def test_a_pickle_that_is_cut_off_is_reported():
    for protocol in PROTOCOLS:
        content = pickle.dumps([[1, 2.5], np.arange(3), np.float32(1)], protocol=protocol)
        for length in range(len(content)):
            with pytest.raises(ValueError, match=r"the pickle (cannot be read: .*cut off|holds )"):
                pickles.loads(content[:length])
    with pytest.raises(FileNotFoundError, match=r"no such file.*missing\.pkl"):
        pickles.load("missing.pkl")


NZ, NX, DT, NT, H = 24, 40, 1e-3, 130, 10.0
SOURCES = [[12, 3], [20, 4], [30, 3]]
RECEIVERS = [[[5, 20, 35], [2, 2, 3]], [[8], [2]], [[9, 11], [1, 1]]]


def project(folder, geom=None, sources=SOURCES, receivers=RECEIVERS, vp=None, **top):
    """Writes a project as Seistorch's documents describe one; returns the configuration's path."""
    for name in ("configs", "geometry", "models"):
        (folder / name).mkdir(exist_ok=True)
    for name, x in (("sources", sources), ("receivers", receivers)):
        (folder / "geometry" / f"{name}.pkl").write_bytes(pickle.dumps(x))
    vp = 1500.0 + 10.0 * np.arange(NZ)[:, None] + np.arange(NX) if vp is None else vp
    np.save(folder / "models" / "vp.npy", vp.astype(np.float32))
    for name in ("vs", "rho"):
        np.save(folder / "models" / f"{name}.npy", 0.5 * vp)
    np.save(folder / "models" / "smooth.npy", np.full(vp.shape, 1800.0, np.float32))
    np.save(folder / "models" / "seabed.npy", (vp > 1550).astype(np.float32))
    config = {
        "seed": 20230503,
        "dtype": "float32",
        "equation": "acoustic",
        "training": {"minibatch": True, "batch_size": 2, "lr": {"vp": 10.0}},
        "geom": {
            "obsPath": "./shot_gather.npy",
            "truePath": {"vp": "./models/vp.npy", "vs": None, "rho": None, "Q": None},
            "initPath": {"vp": "./models/smooth.npy"},
            "sources": "./geometry/sources.pkl",
            "receivers": "./geometry/receivers.pkl",
            "seabed": None,
            "wavelet": None,
            "multiple": False,
            "boundary_saving": True,
            "wavelet_delay": 100,
            "wavelet_inverse": False,
            "source_type": ["h1"],
            "receiver_type": ["h1"],
            "invlist": {"vp": True},
            "multiscale": [[1.0, 3.0], "all"],
            "dt": DT,
            "nt": NT,
            "fm": 15.0,
            "h": H,
            "Nshots": 999,
            "pml": {"N": 50},
            **(geom or {}),
        },
        **top,
    }
    path = folder / "configs" / "forward.yml"
    path.write_text(yaml.safe_dump(config), encoding="utf-8")
    return path


def objects(arrays):
    """An array of objects as Seistorch saves its gathers."""
    out = np.empty(len(arrays), np.ndarray)
    out[:] = arrays
    return out


def test_a_project_is_read(tmp_path):
    found = jf.io.seistorch.read(project(tmp_path, {"seabed": "./models/seabed.npy"}), root=tmp_path)
    assert found.grid == jf.Grid((NZ, NX), H, DT, NT)
    np.testing.assert_array_equal(found.survey.source[:, 0], H * np.array(SOURCES)[:, ::-1])
    for shot, (x, z) in enumerate(RECEIVERS):
        real = np.asarray(found.survey.receiver_mask)[shot]
        np.testing.assert_array_equal(found.survey.receiver[shot][real], H * np.stack([z, x], axis=-1))
    assert found.equation is jf.Acoustic
    assert list(found.true) == ["vp"]
    np.testing.assert_array_equal(found.true["vp"], np.load(tmp_path / "models" / "vp.npy"))
    assert (found.start["vp"] == 1800).all()
    np.testing.assert_array_equal(found.mask, found.true["vp"] > 1550)
    # Ricker's wavelet, its peak after so many samples, to rounding of its argument of up to 5, squared
    t = (np.arange(NT) - 100) * DT * np.pi * 15.0
    np.testing.assert_allclose(found.wavelet, (1 - 2 * t**2) * np.exp(-(t**2)), atol=1e-13)
    assert found.simulator == jf.Simulator(
        found.grid, absorber=jf.CPML(width=50), source_fields=("u",), receiver_fields=("u",)
    )
    assert found.configuration["training"]["batch_size"] == 2
    repr(found).encode()
    assert len(repr(found)) < 600


@pytest.mark.filterwarnings("ignore:the wavelet reaches")  # both disperse alike
def test_the_scaled_wavelet_gives_what_seistorch_records(tmp_path):
    """Against Seistorch's time step as it is described: the field moves on, the wavelet's sample is added to it where
    the source is, the receivers record it.
    """
    rng = np.random.default_rng(0)
    nz, nx = 120, 130  # nothing comes back from the edges, where Seistorch has another absorbing layer
    vp = np.kron(rng.uniform(1500, 2500, (nz // 10, nx // 10)), np.ones((10, 10))).astype(np.float32)
    sources = [[60, 55], [70, 62]]
    receivers = [[[50, 64, 75], [60, 60, 48]], [[66], [66]]]
    found = jf.io.seistorch.read(project(tmp_path, {"spatial_order": 2}, sources, receivers, vp), root=tmp_path)
    data = jf.simulate(found.simulator, jf.Acoustic(vp=jnp.asarray(vp, float)), found.survey)
    for shot, ((sx, sz), (rx, rz)) in enumerate(zip(sources, receivers, strict=True)):
        u, before, recorded = np.zeros((nz, nx)), np.zeros((nz, nx)), []
        for sample in found.wavelet:
            laplacian = np.zeros_like(u)
            laplacian[1:-1, 1:-1] = u[2:, 1:-1] + u[:-2, 1:-1] + u[1:-1, 2:] + u[1:-1, :-2] - 4 * u[1:-1, 1:-1]
            u, before = 2 * u - before + (vp.astype(float) * DT / H) ** 2 * laplacian, u
            u[sz, sx] += sample
            recorded.append(u[rz, rx])
        expected = np.array(recorded)
        # the first sample, 1e-8 of the peak, has none before it and is left out: measured 2e-9, with a margin
        assert abs(expected).max() > 1
        np.testing.assert_allclose(data[shot, :, : len(rx), 0], expected, rtol=0, atol=1e-8 * abs(expected).max())


def test_what_was_read_is_inverted(tmp_path):
    path = project(tmp_path, {"pml": {"N": 5}, "fm": 10.0})
    found = jf.io.seistorch.read(path, root=tmp_path)
    observed = jf.simulate(found.simulator, found.equation(**found.true), found.survey)
    gathers = [np.asarray(x, np.float32) for x in found.survey.unpad(observed)]
    np.save(tmp_path / "shot_gather.npy", objects(gathers), allow_pickle=True)
    np.testing.assert_array_equal(found.observed(), found.survey.pad(gathers))
    start = found.equation(vp=jnp.asarray(found.start["vp"]))
    states = list(
        jf.invert(
            jf.Problem(found.simulator, found.survey, found.observed()), start, optimizer=optax.adam(10.0), iterations=3
        )
    )
    assert states[-1].misfit < states[0].misfit
    same_again = jf.Problem(found.simulator, found.survey, found.observed()).misfit_and_gradient(
        found.equation(**found.true)
    )
    # data of single precision: the square of its rounding, beside the misfit of another model
    assert same_again[0] < 1e-12 * states[0].misfit


def test_gathers_of_every_kind(tmp_path):
    path = project(tmp_path, {"Nshots": 2, "receiver_type": ["h1", "h1"]}, receivers=[RECEIVERS[0]] * 3)
    found = jf.io.seistorch.read(path, root=tmp_path)
    assert len(found.survey) == 2
    data = np.random.default_rng(0).normal(size=(3, NT, 3, 2)).astype(np.float32)
    np.save(tmp_path / "shot_gather.npy", data)
    mapped = found.observed()
    assert isinstance(mapped, np.memmap)
    np.testing.assert_array_equal(mapped, data[:2])
    np.save(tmp_path / "shot_gather.npy", objects(list(data)), allow_pickle=True)
    np.testing.assert_array_equal(found.observed(), data[:2])
    assert found.observed().dtype == np.float32
    np.save(tmp_path / "shot_gather.npy", objects([*data[:2], Executes()]), allow_pickle=True)
    with pytest.raises(ValueError, match=r"shot_gather\.npy holds builtins\.exec"):
        found.observed()
    assert not hasattr(builtins, "executed")
    content = (tmp_path / "shot_gather.npy").read_bytes()
    for made, message in (
        (content[:300], r"shot_gather\.npy cannot be read: .*cut off"),
        (b"hello", r"shot_gather\.npy cannot be read as a \.npy file"),
    ):
        (tmp_path / "shot_gather.npy").write_bytes(made)
        with pytest.raises(ValueError, match=message):
            found.observed()
    for wrong, message in (
        (data[:1], "has 1 shots, the survey 2"),
        (data[:, 1:], r"shot 0 of .* has shape \(129, 3, 2\), but 130 samples, 3 receivers"),
        (data[:, :, :2], r"shot 0 of .* has shape \(130, 2, 2\)"),
        (objects([data[0], data[0, :, :1]]), r"shot 1 of .* has shape \(130, 1, 2\)"),
    ):
        np.save(tmp_path / "shot_gather.npy", wrong, allow_pickle=True)
        with pytest.raises(ValueError, match=message):
            found.observed()
    np.save(tmp_path / "shot_gather.npy", data)
    (tmp_path / "shot_gather.npy").write_bytes((tmp_path / "shot_gather.npy").read_bytes()[:-10])
    with pytest.raises(ValueError, match="It is cut off"):
        found.observed()
    (tmp_path / "shot_gather.npy").unlink()
    with pytest.raises(FileNotFoundError, match="obsPath names a file that is not there"):
        found.observed()
    path = project(tmp_path, {"obsPath": "./models/shots.hdf5"})
    (tmp_path / "models" / "shots.hdf5").touch()
    with pytest.raises(ValueError, match=r"obsPath is \./models/shots\.hdf5, but only \.npy"):
        jf.io.seistorch.read(path, root=tmp_path).observed()


@pytest.mark.parametrize("axes", ["xzy", "zyx"])
def test_three_dimensions(tmp_path, axes):
    sizes = {"x": 7, "y": 6, "z": 5}
    shape = tuple(sizes[a] for a in "zyx")
    vp = np.arange(1500.0, 1500.0 + np.prod(shape)).reshape(shape)
    grid = np.meshgrid([1, 3, 5], [0, 2])
    receivers = [[grid[0], grid[1], np.full_like(grid[0], 1)], [[1, 2], [3, 4], [0, 0]]]
    path = project(
        tmp_path, {"seabed": "./models/seabed.npy"}, np.array([[6, 5, 4], [0, 1, 2]]), receivers,
        vp.transpose(["zyx".index(a) for a in axes]),
    )  # fmt: skip
    found = jf.io.seistorch.read(path, root=tmp_path, axes=axes)
    assert found.grid.shape == shape
    np.testing.assert_array_equal(found.true["vp"], vp)
    np.testing.assert_array_equal(found.mask, vp > 1550)
    np.testing.assert_array_equal(found.survey.source[:, 0], H * np.array([[4, 5, 6], [2, 1, 0]]))
    expected = [[1, y, x] for y in (0, 2) for x in (1, 3, 5)]
    np.testing.assert_array_equal(found.survey.receiver[0], H * np.array(expected))
    # the third power of h where sources are points in 3D
    peak = H**3 / (DT * np.array([vp[4, 5, 6], vp[2, 1, 0]])) ** 2
    np.testing.assert_allclose(found.survey.wavelet.max(axis=(1, 2)), peak * found.wavelet.max(), rtol=1e-14)


def test_other_equations(tmp_path):
    files = {name: f"./models/{name}.npy" for name in ("vp", "vs", "rho")}
    elastic = {"truePath": files, "initPath": {}, "source_type": ["txx", "tzz"], "receiver_type": ["vx", "vz"]}
    elastic |= {"multiple": True, "pml": None, "boundary": {"type": "pml", "width": 20}, "wavelet_inverse": True}
    found = jf.io.seistorch.read(project(tmp_path, elastic, equation="elastic"), root=tmp_path)
    assert found.equation is jf.Elastic
    assert list(found.true) == ["vp", "vs", "rho"]
    assert found.start == {}
    assert found.simulator == jf.Simulator(
        found.grid,
        absorber=jf.CPML(width=20),
        free_surface=True,
        source_fields=("sxx", "szz"),
        receiver_fields=("vx", "vz"),
    )
    found.simulator.fields(found.equation)
    assert found.wavelet.min() == -1.0
    np.testing.assert_array_equal(found.survey.wavelet[1, :, 0], found.wavelet)
    first = {**elastic, "source_type": ["p"], "receiver_type": ["p"]}
    found = jf.io.seistorch.read(project(tmp_path, first, equation="acoustic1st"), root=tmp_path)
    assert found.equation is jf.VariableDensityAcoustic
    assert list(found.true) == ["vp", "rho"]
    # What jaxfwi does not have is read all the same, as far as it goes.
    found = jf.io.seistorch.read(project(tmp_path, elastic, equation="vdr"), root=tmp_path)
    assert found.equation is None
    assert sorted(found.true) == ["rho", "vp", "vs"]
    assert found.simulator.source_fields is None


def test_wavelets_from_files(tmp_path):
    for samples in (np.arange(1.0, 11.0), np.arange(1.0, 200.0)[None]):
        path = project(tmp_path, {"wavelet": "./models/w.npy", "fm": None, "equation": "elastic"}, equation="elsewhere")
        np.save(tmp_path / "models" / "w.npy", samples)
        found = jf.io.seistorch.read(path, root=tmp_path)
        expected = np.concatenate([samples.ravel(), np.zeros(NT)])[:NT]
        np.testing.assert_array_equal(found.wavelet, expected)
        np.testing.assert_array_equal(found.survey.wavelet[0, :, 0], expected)


def test_paths_start_at_the_configuration_or_a_given_root(tmp_path):
    path = project(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"geom: sources names a file .*root=.*configs"):
        jf.io.seistorch.read(path)
    assert len(jf.io.seistorch.read(path.rename(tmp_path / "forward.yml")).survey) == 3
    absolute = project(tmp_path, {"sources": str(tmp_path / "geometry" / "sources.pkl")})
    assert len(jf.io.seistorch.read(absolute, root=tmp_path).survey) == 3


def test_indices_are_cut_as_seistorch_cuts_them(tmp_path):
    sources, receivers = [[np.int64(12), 3.9]], [[np.array([5.0, 20.7]), (2, 2)]]
    found = jf.io.seistorch.read(project(tmp_path, None, sources, receivers), root=tmp_path)
    assert found.survey.source[0, 0].tolist() == [30.0, 120.0]
    assert found.survey.receiver[0].tolist() == [[20.0, 50.0], [20.0, 200.0]]


@pytest.mark.parametrize(("multiple", "top"), [(False, 50), (True, 0)])
def test_results_lose_their_layers(tmp_path, multiple, top):
    found = jf.io.seistorch.read(project(tmp_path, {"multiple": multiple}), root=tmp_path)
    padded = np.pad(found.true["vp"], ((top, 50), (50, 50)), mode="edge")
    np.save(tmp_path / "paravpF00E09.npy", padded)
    np.testing.assert_array_equal(found.read_result(tmp_path / "paravpF00E09.npy"), found.true["vp"])
    np.save(tmp_path / "paravpF00E09.npy", padded[1:])
    with pytest.raises(ValueError, match=r"has shape .* but the grid \(24, 40\) with its layers of 50 cells"):
        found.read_result(tmp_path / "paravpF00E09.npy")


def test_yaml_numbers_that_are_text(tmp_path):
    path = project(tmp_path)
    path.write_text(path.read_text().replace("dt: 0.001", "dt: 1e-3"))
    assert yaml.safe_load(path.read_text())["geom"]["dt"] == "1e-3"
    assert jf.io.seistorch.read(path, root=tmp_path).grid.dt == 1e-3


MISTAKES = {
    "no dt": ({"geom": {"dt": None}}, r"the configuration has no geom: dt\."),
    "dt": ({"geom": {"dt": "fast"}}, r"geom: dt must be a number, got 'fast'"),
    "truth for a number": ({"geom": {"h": True}}, r"geom: h must be a number, got True"),
    "negative h": ({"geom": {"h": -1.0}}, r"spacing must be positive"),
    "no sources": ({"geom": {"sources": None}}, r"no geom: sources\."),
    "path": ({"geom": {"sources": 5}}, r"geom: sources must be a path, got 5"),
    "no models": ({"geom": {"truePath": {}, "initPath": None}}, r"truePath and initPath name no model"),
    "models": ({"geom": {"truePath": "vp.npy"}}, r"truePath must have a path for each parameter, got 'vp\.npy'"),
    "missing parameter": (
        {"geom": {"truePath": {"vp": "./models/vp.npy"}}, "equation": "elastic"},
        r"truePath has no vs, which the equation elastic needs",
    ),
    "shapes": ({"vp": np.ones((3, 4, 5))}, r"has shape .* and sources have 2 coordinates"),
    "no layer": ({"geom": {"pml": {}}}, r"no width of the absorbing layer"),
    "field": ({"geom": {"source_type": ["vz"]}}, r"source_type has 'vz', but of acoustic jaxfwi knows h1"),
    "fields": ({"geom": {"source_type": [1]}}, r"source_type must be a list of names, got \[1\]"),
    "no shot": ({"geom": {"Nshots": 0}}, r"3 sources, 3 lists of receivers and Nshots = 0"),
    "lists": ({"receivers": RECEIVERS[:2]}, r"3 sources, 2 lists of receivers"),
    "source": ({"sources": [[1, 2], [3]] + [[1, 1]]}, r"source 1 must be \[x, z\], .*got \[3\]"),
    "sources": ({"sources": 5}, r"sources\.pkl must hold a list with an entry for each shot, got int"),
    "unequal": ({"receivers": [[[1, 2], [3]]] * 3}, r"shot 0: receivers must be \[x, z\], with as many numbers"),
    "axes": ({"receivers": [[[1], [2], [3]]] * 3}, r"shot 0: receivers must be \[x, z\] in finite numbers"),
    "none": ({"receivers": [[[], []]] * 3}, r"shot 0: receivers must be \[x, z\] in finite numbers"),
    "outside": (
        {"sources": [[1, 2], [NX, 2], [1, 1]]},
        r"source 1: \[x, z\] = \[40, 2\] is outside the grid, \(24, 40",
    ),
    "negative": ({"sources": [[1, 2], [-1, 2], [1, 1]]}, r"source 1: \[x, z\] = \[-1, 2\] is outside"),
    "not finite": ({"receivers": [[[np.nan], [2]]] * 3}, r"in finite numbers"),
    "malicious": ({"sources": [Executes()]}, r"sources\.pkl holds builtins\.exec: only lists, tuples and numbers"),
    "seabed": ({"geom": {"seabed": "./models/small.npy"}}, r"seabed has shape \(2, 2\), the models \(24, 40\)"),
}


@pytest.mark.parametrize(("made", "message"), MISTAKES.values(), ids=MISTAKES)
def test_what_makes_no_project(tmp_path, made, message):
    path = project(tmp_path, **made)
    np.save(tmp_path / "models" / "small.npy", np.ones((2, 2)))
    with pytest.raises(ValueError, match=message):
        jf.io.seistorch.read(path, root=tmp_path)
    assert not hasattr(builtins, "executed")


def test_configurations_that_are_none(tmp_path):
    path = tmp_path / "forward.yml"
    for content, message in (
        ("geom: [", r"forward\.yml is no YAML of plain values"),
        ("a: 1", r"forward\.yml has no section geom"),
        ("geom: !!python/object/apply:os.system ['false']", r"no YAML of plain values: could not determine a constr"),
    ):
        path.write_text(content)
        with pytest.raises(ValueError, match=message):
            jf.io.seistorch.read(path)
    with pytest.raises(FileNotFoundError, match=r"no such file.*missing\.yml"):
        jf.io.seistorch.read(tmp_path / "missing.yml")
    with pytest.raises(ValueError, match=r'axes must be the letters .* got "xy"'):
        jf.io.seistorch.read(project(tmp_path), root=tmp_path, axes="xy")


def test_a_missing_yaml_says_what_to_install(tmp_path, monkeypatch):
    path = project(tmp_path)
    monkeypatch.setitem(sys.modules, "yaml", None)
    with pytest.raises(ImportError, match=r"^yaml is not installed: pip install jaxfwi\[seistorch\]\.$"):
        jf.io.seistorch.read(path, root=tmp_path)
