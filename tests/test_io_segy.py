"""SEG-Y against files made here byte by byte from the standard (revision 1), and against itself."""

import struct
import sys

import jax.numpy as jnp
import numpy as np
import pytest

import jaxfwi as jf

WIDE = {1, 5, 9, 13, 17, 21, 37, 41, 45, 49, 73, 77, 81, 85, 181, 185}  # first bytes of fields of four bytes
ORDER = {"big": ">", "little": "<"}
WAVELET = np.zeros(50)


def grid_of(dt=1e-3, shape=(40, 61), spacing=10.0):
    return jf.Grid(shape, spacing, dt, 50)


def header_of(fields, order):
    out = bytearray(240)
    for byte, value in fields.items():
        struct.pack_into(order + ("i" if byte in WIDE else "h"), out, byte - 1, value)
    return bytes(out)


def segy(path, traces, endian="big", code=5, interval=2000, samples=None, **binary):
    """Writes a file of (trace header by first byte, samples)."""
    order = ORDER[endian]
    samples = len(traces[0][1]) if samples is None else samples
    head = bytearray(400)
    for byte, value in {3217: interval, 3221: samples, 3225: code, **binary.pop("fields", {})}.items():
        struct.pack_into(order + "h", head, byte - 3201, value)
    kind = {5: "f4", 2: "i4", 3: "i2", 1: "u4"}[code]
    content = b" " * 3200 + bytes(head)
    for fields, data in traces:
        content += header_of(fields, order) + np.asarray(data).astype(order + kind).tobytes()
    path.write_bytes(content)
    return path


def trace(source, receiver, record=1, samples=4, value=None, scalar=1, **fields):
    """A trace from (x, z) to (x, z), in units of the scalar; its samples tell its source and receiver."""
    value = 1000 * source[0] + receiver[0] if value is None else value
    places = {73: source[0], 49: source[1], 81: receiver[0], 41: -receiver[1], 69: scalar, 71: scalar, 9: record}
    extra = {int(name.removeprefix("b")): x for name, x in fields.items()}
    return {**places, **extra}, value + np.arange(samples)


def line(scalar=1, **fields):
    """Three shots of 2, 3 and 1 receivers, out of order."""
    shots = {7: (100, [(90, 8), (80, 8)]), 3: (50, [(40, 8), (60, 9), (30, 8)]), 5: (20, [(90, 8)])}
    traces = [trace((x, 5), r, record, scalar=scalar, **fields) for record, (x, rs) in shots.items() for r in rs]
    return [traces[i] for i in np.random.default_rng(0).permutation(len(traces))]


@pytest.mark.parametrize("endian", ["big", "little"])
@pytest.mark.parametrize(("scalar", "factor"), [(1, 1.0), (0, 1.0), (10, 10.0), (-10, 0.1), (-1000, 1e-3)])
def test_headers_make_a_survey(tmp_path, endian, scalar, factor):
    found = jf.io.segy.read(segy(tmp_path / "line.sgy", line(scalar), endian), WAVELET)
    survey = found.survey
    # integers times or divided by a power of ten, in double precision: to rounding
    np.testing.assert_allclose(survey.source[:, 0], factor * np.array([[5, 50], [5, 20], [5, 100]]), rtol=1e-14)
    expected = [[[8, 30], [8, 40], [9, 60]], [[8, 90]], [[8, 80], [8, 90]]]
    for shot, receivers in enumerate(expected):
        real = np.asarray(survey.receiver_mask)[shot]
        assert real.sum() == len(receivers)
        np.testing.assert_allclose(survey.receiver[shot][real], factor * np.array(receivers), rtol=1e-14)
    assert found.dt == 0.002
    assert found.observed.shape == (3, 4, 3, 1)
    data = np.asarray(found.observed)
    assert data.dtype == np.float32
    np.testing.assert_array_equal(data[0, :, :, 0], np.array([50030, 50040, 50060]) + np.arange(4)[:, None])
    np.testing.assert_array_equal(data[1, 0, :, 0], [20090, 0, 0])
    np.testing.assert_array_equal(found.observed[2][:2, :, 0], [[100080, 100090, 0], [100081, 100091, 0]])
    # whatever the order, each trace is where it says
    assert [len(traces) for traces in found.traces] == [3, 1, 2]
    for shot, traces in enumerate(found.traces):
        assert [line(scalar)[t][1][0] for t in traces] == data[shot, 0, : len(traces), 0].tolist()


def test_the_order_of_traces_does_not_matter(tmp_path):
    traces = line()
    first = jf.io.segy.read(segy(tmp_path / "a.sgy", traces), WAVELET)
    for seed in range(3):
        order = np.random.default_rng(seed).permutation(len(traces))
        found = jf.io.segy.read(segy(tmp_path / "b.sgy", [traces[i] for i in order]), WAVELET)
        np.testing.assert_array_equal(found.survey.source, first.survey.source)
        np.testing.assert_array_equal(found.survey.receiver, first.survey.receiver)
        np.testing.assert_array_equal(np.asarray(found.observed), np.asarray(first.observed))
        for theirs, ours in zip(first.traces, found.traces, strict=True):
            np.testing.assert_array_equal(order[ours], theirs)


def test_shots_by_where_the_source_is(tmp_path):
    traces = [trace((x, 5), (r, 8), record=1) for x in (70, 20) for r in (0, 10)]
    found = jf.io.segy.read(segy(tmp_path / "line.sgy", traces), WAVELET)  # one record: nobody counted
    assert found.survey.source[:, 0, 1].tolist() == [20, 70]
    traces = [trace((x, 5), (r, 8), record=record) for x, r, record in [(20, 0, 1), (20, 10, 2), (70, 0, 3)]]
    path = segy(tmp_path / "split.sgy", traces)
    assert len(jf.io.segy.read(path, WAVELET).survey) == 3
    found = jf.io.segy.read(path, WAVELET, by="source")
    assert [len(t) for t in found.traces] == [2, 1]
    # two shots at one place stay two
    twice = [trace((20, 5), (r, 8), record, value=record) for record in (1, 2) for r in (0, 10)]
    found = jf.io.segy.read(segy(tmp_path / "twice.sgy", twice), WAVELET)
    np.testing.assert_array_equal(np.asarray(found.observed)[:, 0, :, 0], [[1, 1], [2, 2]])


def test_three_dimensions_and_elevations(tmp_path):
    traces = [
        # source 3 m below a surface at 812 m, receiver at 807.5 m, in decimetres; x and y in centimetres
        ({9: 1, 45: 8120, 49: 30, 41: 8075, 69: -10, 71: -100, 73: 50000000 + x, 77: 400, 81: 50010000, 85: y}, [x, y])
        for x, y in [(0, 400), (0, 900)]
    ]
    path = segy(tmp_path / "cube.sgy", traces)
    found = jf.io.segy.read(path, WAVELET, origin=(-820.0, 0.0, 499900.0))
    np.testing.assert_allclose(found.survey.source[0, 0], [11.0, 4.0, 100.0], rtol=1e-12)  # large ones subtracted
    np.testing.assert_allclose(found.survey.receiver[0], [[12.5, 4.0, 200.0], [12.5, 9.0, 200.0]], rtol=1e-12)
    with pytest.raises(ValueError, match=r"SourceY and GroupY go from 4 to 9 m.*ndim=3"):
        jf.io.segy.read(path, WAVELET, ndim=2, origin=(-820.0, 0.0))
    # One y is a line in 2D unless 3D is asked for.
    path = segy(tmp_path / "line.sgy", traces[:1])
    assert jf.io.segy.read(path, WAVELET, origin=(-820.0, 0.0)).survey.source.shape[-1] == 2
    assert jf.io.segy.read(path, WAVELET, origin=(-820.0, 0.0, 0.0), ndim=3).survey.source.shape[-1] == 3


def test_feet_are_metres(tmp_path):
    path = segy(tmp_path / "feet.sgy", [trace((1000, 10), (2000, 20))], fields={3255: 2})
    survey = jf.io.segy.read(path, WAVELET).survey
    np.testing.assert_allclose(survey.source[0, 0], [3.048, 304.8], rtol=1e-14)
    np.testing.assert_allclose(survey.receiver[0, 0], [6.096, 609.6], rtol=1e-14)


def test_depths_that_the_file_has_not(tmp_path):
    path = segy(tmp_path / "line.sgy", [trace((10, 0), (20 + r, -8)) for r in (0, 5)])
    with pytest.raises(
        ValueError, match=r"-ReceiverGroupElevation puts a receiver at z = -8 m.*z is -8 or less, or rec"
    ):
        jf.io.segy.read(path, WAVELET)
    survey = jf.io.segy.read(path, WAVELET, receiver_z=8.0, source_z=[6.0, 6.0]).survey
    assert survey.receiver[0, :, 0].tolist() == [8.0, 8.0]
    assert survey.source[0, 0, 0] == 6.0


@pytest.mark.parametrize(
    ("code", "values", "stored"),
    [
        # -118.625 and 0.15625 in IBM floats (GA22-6821), by hand: 0x76.A = 118.625, 0x0.28 = 0.15625
        (1, [-118.625, 0.15625], [0xC276A000, 0x40280000]),
        (2, [-70000, 5], [-70000, 5]),
        (3, [-300, 5], [-300, 5]),
        (5, [-118.625, 1e30], [-118.625, 1e30]),
    ],
)
@pytest.mark.parametrize("endian", ["big", "little"])
def test_sample_formats(tmp_path, code, values, stored, endian):
    header = trace((10, 5), (20, 8))[0]
    path = segy(tmp_path / "shot.sgy", [(header, np.array(stored))], endian, code)
    np.testing.assert_array_equal(jf.io.segy.read(path, WAVELET).observed[0, :, 0, 0], np.float32(values))


def test_delays_move_the_first_sample_to_the_shot(tmp_path):
    def read(milliseconds, **options):
        path = segy(tmp_path / "shot.sgy", [trace((1, 5), (r, 8), b109=milliseconds) for r in (2, 3)])
        return jf.io.segy.read(path, WAVELET, **options).observed[0, :, 0, 0].tolist()

    assert read(0) == [1002, 1003, 1004, 1005]
    assert read(4) == [0, 0, 1002, 1003, 1004, 1005]
    assert read(-4) == [1004, 1005]
    assert read(4, delay=0.0) == [1002, 1003, 1004, 1005]
    assert read(0, delay=0.002) == [0, 1002, 1003, 1004, 1005]
    for milliseconds, message in (
        (3, r"delay of 3 ms .* whole number of samples of 2 ms"),
        (-8, r"delay of -8 ms .* none of 4 samples"),
    ):
        with pytest.raises(ValueError, match=message):
            read(milliseconds)
    # Tenths of milliseconds by the scalar of bytes 215 to 216.
    path = segy(tmp_path / "tenths.sgy", [trace((1, 5), (2, 8), b109=40, b215=-10)])
    assert jf.io.segy.read(path, WAVELET).observed.shape[1] == 6


def test_intervals(tmp_path):
    path = segy(tmp_path / "shot.sgy", [trace((1, 5), (2, 8), b117=4000)], interval=0)
    assert jf.io.segy.read(path, WAVELET).dt == 0.004
    assert jf.io.segy.read(path, WAVELET, dt=1e-3).dt == 1e-3
    path = segy(tmp_path / "some.sgy", [trace((1, 5), (2, 8)), trace((1, 5), (3, 8), b117=4000)], interval=0)
    assert jf.io.segy.read(path, WAVELET).dt == 0.004
    path = segy(tmp_path / "long.sgy", [trace((1, 5), (2, 8))], interval=40000 - 2**16)  # as unsigned ones are written
    assert jf.io.segy.read(path, WAVELET).dt == 0.04


def test_dead_and_auxiliary_traces_are_left_out(tmp_path):
    codes = [1, 2, 6, 0, -1, 12]
    traces = [trace((1, 5), (10 * i, 8), value=i, b29=code) for i, code in enumerate(codes)]
    path = segy(tmp_path / "shot.sgy", traces)
    assert jf.io.segy.read(path, WAVELET).observed[0, 0, :, 0].tolist() == [0, 3, 4, 5]
    assert jf.io.segy.read(path, WAVELET, traces=[5, 1]).observed[0, 0, :, 0].tolist() == [1, 5]


def test_components_are_chosen_by_their_traces(tmp_path):
    traces = [trace((1, 5), (r, 8), value=10 * c + r, b29=c) for r in (2, 3) for c in (12, 14)]
    path = segy(tmp_path / "shot.sgy", traces)
    with pytest.raises(ValueError, match=r"traces 0 and 1 of FieldRecord 1 both have their receiver at \(8, 2\) m"):
        jf.io.segy.read(path, WAVELET)
    vertical = jf.io.segy.read(path, WAVELET, traces=np.arange(4) % 2 == 0)
    assert vertical.observed[0, 0, :, 0].tolist() == [122, 123]
    assert vertical.traces[0].tolist() == [0, 2]
    assert jf.io.segy.read(path, WAVELET, traces=[3, 1]).observed[0, 0, :, 0].tolist() == [142, 143]


def test_headers_from_elsewhere(tmp_path):
    path = segy(tmp_path / "line.sgy", [trace((0, 5), (0, 8), value=r, b181=100, b185=r) for r in (30, 20)])
    with pytest.raises(ValueError, match=r"SourceX, SourceY, GroupX and GroupY are 0 in all traces.*fields="):
        jf.io.segy.read(path, WAVELET)
    found = jf.io.segy.read(path, WAVELET, fields={"SourceX": 181, "GroupX": 185})
    assert found.survey.source[0, 0, 1] == 100
    assert found.survey.receiver[0, :, 1].tolist() == found.observed[0, 0, :, 0].tolist() == [20, 30]
    for fields, message in (({"Souce": 181}, "'Souce', which is none of"), ({"SourceX": 10}, "SourceX at byte 10,")):
        with pytest.raises(ValueError, match=message):
            jf.io.segy.read(path, WAVELET, fields=fields)


@pytest.mark.parametrize("endian", ["big", "little"])
@pytest.mark.parametrize("ndim", [2, 3])
def test_round_trip(tmp_path, endian, ndim):
    rng = np.random.default_rng(0)
    receivers = [np.round(np.sort(rng.uniform(0, 3000, (n, ndim)), axis=0), 3) for n in (5, 2, 7)]
    sources = np.round(rng.uniform(0, 3000, (3, ndim)), 3)
    survey = jf.Survey.from_lists(list(sources), receivers, WAVELET)
    data = survey.pad([rng.normal(size=(40, len(r), 1)).astype(np.float32) for r in receivers])
    origin = np.array([-800.0, 5e6, 4e5])[:: 1 if ndim == 3 else 2]
    for at in (0.0, origin):
        jf.io.segy.write(tmp_path / "line.sgy", survey, data, grid_of(1.25e-3), origin=at, endian=endian)
        found = jf.io.segy.read(tmp_path / "line.sgy", WAVELET, origin=at)
        np.testing.assert_array_equal(np.asarray(found.observed), data)
        np.testing.assert_array_equal(found.survey.receiver_mask, survey.receiver_mask)
        assert found.dt == 1.25e-3
        # millimetres are written as such, or near 5000 km, where 32 bits end, as centimetres: half of one is lost
        atol = 5.1e-3 if ndim == 3 and at is origin else 1e-6
        np.testing.assert_allclose(found.survey.source, survey.source, rtol=0, atol=atol)
        np.testing.assert_allclose(found.survey.receiver, survey.receiver, rtol=0, atol=atol)
    assert [path.name for path in tmp_path.iterdir()] == ["line.sgy"]


@pytest.mark.parametrize("endian", ["big", "little"])
def test_what_is_written_is_where_the_standard_has_it(tmp_path, endian):
    survey = jf.Survey.from_lists([[6.0, 100.0], [6.0, 200.0]], [[[8.0, 62.5]], [[8.0, 350.0], [9.0, 362.5]]], WAVELET)
    data = survey.pad([np.full((3, 1, 1), 1.5), np.full((3, 2, 1), [[2.5], [3.5]])])
    jf.io.segy.write(tmp_path / "line.sgy", survey, data, grid_of(4e-3), origin=(10.0, 1000.0), endian=endian)
    content, order = (tmp_path / "line.sgy").read_bytes(), ORDER[endian]
    assert len(content) == 3600 + 3 * (240 + 4 * 3)
    assert "jaxfwi" in content[:3200].decode("cp037")
    binary = {b: struct.unpack_from(order + "h", content, b - 1)[0] for b in (3217, 3221, 3225, 3255)}
    assert binary == {3217: 4000, 3221: 3, 3225: 5, 3255: 1}
    assert struct.unpack_from(order + "h", content, 3500)[0] == 0x100  # revision 1.0
    expected = {9: 2, 13: 2, 29: 1, 37: 162, 41: -19, 45: -10, 49: 6, 69: 1, 71: -10, 73: 12000, 81: 13625, 89: 1}
    expected |= {77: 0, 85: 0, 115: 3, 117: 4000}
    start = 3600 + 2 * 252
    for byte, value in expected.items():
        assert struct.unpack_from(order + ("i" if byte in WIDE else "h"), content, start + byte - 1)[0] == value, byte
    assert np.frombuffer(content, order + "f4", 3, start + 240).tolist() == [3.5, 3.5, 3.5]


def test_many_traces_and_the_longest_ones(tmp_path):
    receivers = np.stack(np.broadcast_arrays(5.0, np.arange(33000.0)), axis=-1)  # more than 16 bits count
    survey = jf.Survey.from_arrays([[5.0, 0.0]], receivers, WAVELET)
    data = np.arange(33000, dtype=np.float32)[None, None, :, None]
    jf.io.segy.write(tmp_path / "wide.sgy", survey, data, grid_of(0.05))
    found = jf.io.segy.read(tmp_path / "wide.sgy", WAVELET)
    np.testing.assert_array_equal(np.asarray(found.observed), data)
    assert found.dt == 0.05
    survey = jf.Survey.from_arrays([[5.0, 1.0]], [[5.0, 1.0]], WAVELET)
    data = np.arange(2**15, dtype=np.float32)[None, :, None, None]
    jf.io.segy.write(tmp_path / "long.sgy", survey, data[:, 1:], grid_of(1e-3))
    np.testing.assert_array_equal(np.asarray(jf.io.segy.read(tmp_path / "long.sgy", WAVELET).observed), data[:, 1:])
    with pytest.raises(ValueError, match="traces have 32768 samples, SEG-Y can hold 32767"):
        jf.io.segy.write(tmp_path / "long.sgy", survey, data, grid_of(1e-3))


def test_a_recording_is_inverted_as_it_lies(tmp_path):
    grid = jf.Grid((12, 14), 10.0, 1e-3, 200)
    simulator, vp = jf.Simulator(grid, absorber=jf.CPML(width=3)), jnp.full(grid.shape, 2000.0, jnp.float32)
    wavelet = jnp.asarray(jf.ricker(grid, 15.0), jnp.float32)
    places = [[20.0, 20.0], [20.0, 80.0]], [[[10.0, 0.0], [10.0, 40.0]], [[10.0, 45.0]]]
    survey = jf.Survey.from_lists(*places, wavelet)
    observed = jf.simulate(simulator, jf.Acoustic(vp=vp + 100.0), survey)
    jf.io.segy.write(tmp_path / "line.sgy", survey, observed, grid)
    found = jf.io.segy.read(tmp_path / "line.sgy", wavelet)
    kept = np.asarray(observed, np.float32)
    value, gradient = jf.Problem(simulator, survey, kept).misfit_and_gradient(jf.Acoustic(vp=vp))
    ours, theirs = jf.Problem(simulator, found.survey, found.observed).misfit_and_gradient(jf.Acoustic(vp=vp))
    assert value > 0
    np.testing.assert_array_equal(ours, value)
    np.testing.assert_array_equal(theirs.vp, gradient.vp)


def test_a_write_that_fails_leaves_what_was_there(tmp_path):
    survey = jf.Survey.from_arrays([[5.0, 1.0]] * 2, [[5.0, 1.0]], WAVELET)

    def failing():
        yield np.zeros((9, 1, 1))
        raise RuntimeError("no power")

    with pytest.raises(RuntimeError, match="no power"):
        jf.io.segy.write(tmp_path / "line.sgy", survey, failing(), grid_of())
    assert not list(tmp_path.iterdir())
    jf.io.segy.write(tmp_path / "line.sgy", survey, np.ones((2, 9, 1, 1)), grid_of())
    before = (tmp_path / "line.sgy").read_bytes()
    with pytest.raises(RuntimeError, match="no power"):
        jf.io.segy.write(tmp_path / "line.sgy", survey, failing(), grid_of())
    assert [path.name for path in tmp_path.iterdir()] == ["line.sgy"]
    assert (tmp_path / "line.sgy").read_bytes() == before


@pytest.mark.parametrize("endian", ["big", "little"])
def test_a_file_that_is_cut_off_is_reported(tmp_path, endian):
    path = segy(tmp_path / "line.sgy", line(), endian)
    content = path.read_bytes()
    each = 240 + 4 * 4
    whole = {3600 + n * each for n in range(1, 7)}  # fewer traces are a file too
    for length in [0, 100, 3300, 3599, 3600, 3601, 3700, 3840, 3600 + each - 1, len(content) - 1, len(content) - 100]:
        assert length not in whole
        path.write_bytes(content[:length])
        with pytest.raises(ValueError, match=r"line\.sgy .*cut off"):
            jf.io.segy.read(path, WAVELET)
        with pytest.raises(ValueError, match=r"line\.sgy .*cut off"):
            jf.io.segy.read_model(path)
    path.write_bytes(content)
    found = jf.io.segy.read(path, WAVELET)
    path.write_bytes(content[: 3600 + each])
    with pytest.raises(ValueError, match="has changed since it was opened"):
        np.asarray(found.observed)


NO_SURVEY = {
    "interval": ([trace((1, 5), (2, 8))], {"interval": 0}, {}, r"sampling interval is 0 in all headers: pass dt="),
    "intervals": (
        [trace((1, 5), (2, 8), b117=2000), trace((1, 5), (3, 8), b117=4000)],
        {},
        {},
        r"TRACE_SAMPLE_INTERVAL of trace 1 is 4000 microseconds, elsewhere in the file it is 2000: pass dt=",
    ),
    "length": (
        [trace((1, 5), (2, 8), b115=4), trace((1, 5), (3, 8), b115=3)],
        {},
        {},
        r"TRACE_SAMPLE_COUNT of trace 1 is 3 where the file has traces of 4 samples",
    ),
    "samples": ([trace((1, 5), (2, 8))], {"samples": 0}, {}, r"cannot be read as SEG-Y: .*Samples"),
    "format": (
        [trace((1, 5), (2, 8))],
        {"fields": {3225: 77}},
        {},
        r"sample format \(Format\) 77, or 19712 if it is l",
    ),
    "units": ([trace((1, 5), (2, 8), b89=2)], {}, {}, r"CoordinateUnits is 2, which means seconds of arc: project"),
    "no positions": ([trace((0, 5), (0, 8))] * 2, {}, {}, r"GroupX and GroupY are 0 in all traces"),
    "no sources": (
        [trace((0, 5), (r, 8), record=r) for r in (2, 3)],
        {},
        {},
        r"SourceX and SourceY are 0 in all traces of 2 field records",
    ),
    "no receivers": (
        [trace((1, 5), (0, 8))] * 2,
        {},
        {},
        r"traces 0 and 1 of FieldRecord 1 both have their receiver at \(8, 0\) m \(GroupX",
    ),
    "two sources": (
        [trace((x, 5), (9, 8), record) for x, record in [(1, 3), (2, 3), (4, 4)]],
        {},
        {},
        r'FieldRecord 3 has several sources, as at \(5, 1\) m in trace 0 and \(5, 2\) m in trace 1: pass by="source"',
    ),
    "origin": (
        [trace((100, 5), (r, 8)) for r in (120, 80)],
        {},
        {"origin": (0.0, 110.0)},
        r"SourceX puts a source at x = -10 m, before the model's first node: give an origin whose x is 80 or less\.",
    ),
    "delays": (
        [trace((1, 5), (r, 8), b109=r) for r in (2, 4)],
        {},
        {},
        r"DelayRecordingTime goes from 2 to 4 ms: shift",
    ),
    "dead": ([trace((1, 5), (2, 8), b29=2)], {}, {}, r"TraceIdentificationCode is 2 in the first trace and marks all"),
    "by": ([trace((1, 5), (2, 8))], {}, {"by": "cdp"}, r"by must be \"record\", \"source\" or None, got 'cdp'"),
    "ndim": ([trace((1, 5), (2, 8))], {}, {"ndim": 1}, r"ndim must be 2 or 3, got 1"),
    "axes of origin": ([trace((1, 5), (2, 8))], {}, {"origin": (1, 2, 3)}, r"origin must be one number or \(z, x\)"),
    "dt": ([trace((1, 5), (2, 8))], {}, {"dt": -1.0}, r"dt must be a positive number of seconds, got -1\.0"),
    "endian": ([trace((1, 5), (2, 8))], {}, {"endian": "middle"}, r"endian must be .*'middle'"),
    "wrong endian": ([trace((1, 5), (2, 8))], {}, {"endian": "little"}, r"cannot be read as SEG-Y"),
    "no such trace": ([trace((1, 5), (2, 8))], {}, {"traces": [0, 0]}, r"traces must be different numbers of traces"),
}


@pytest.mark.parametrize(("traces", "made", "options", "message"), NO_SURVEY.values(), ids=NO_SURVEY)
def test_headers_that_make_no_survey(tmp_path, traces, made, options, message):
    with pytest.raises(ValueError, match=message):
        jf.io.segy.read(segy(tmp_path / "line.sgy", traces, **made), WAVELET, **options)


def write(survey=None, data=None, dt=1e-3, **options):
    survey = jf.Survey.from_arrays([[5.0, 1.0]], [[5.0, 1.0]], WAVELET) if survey is None else survey
    data = np.zeros((1, 9, 1, 1)) if data is None else data
    jf.io.segy.write("/nowhere/line.sgy", survey, data, grid_of(dt), **options)


def write_model(model, spacing=5.0):
    jf.io.segy.write_model("/nowhere", model, grid_of(shape=(2, 2), spacing=spacing))


NOT_WRITTEN = {
    "dt": (lambda: write(dt=1e-3 / 3), r"dt must be a whole number of microseconds up to 65535 .*got 0\.000333"),
    "long dt": (lambda: write(dt=0.07), r"dt must be .* 65535"),
    "sources": (
        lambda: write(jf.Survey.from_arrays(np.zeros((1, 2, 2)), [[5.0, 1.0]], WAVELET)),
        r"shots of one source each.*\(1, 2, 2\)",
    ),
    "axes": (lambda: write(jf.Survey.from_arrays([[5.0]], [[5.0]], WAVELET)), r"two or three dimensions.*\(1, 1, 1\)"),
    "components": (lambda: write(data=np.zeros((1, 9, 1, 2))), r"\(9, 1, 2\): write one component at a time"),
    "receivers": (
        lambda: write(data=np.zeros((1, 9, 3, 1))),
        r"shot 0 must be \(time, 1, 1\), got shape \(9, 3, 1\)\.",
    ),
    "too few": (lambda: write(data=np.zeros((0, 9, 1, 1))), r"data have 0 shots, the survey 1"),
    "far": (lambda: write(origin=(0.0, 3e9)), r"a coordinate of 3e\+09 m is more than SEG-Y holds: give another"),
    "origin": (lambda: write(origin=(0.0, 0.0, 0.0)), r"origin must be one number or 2 in metres"),
    "endian": (lambda: write(endian="middle"), r"endian must be .*'middle'"),
    "no grid": (
        lambda: jf.io.segy.write("/nowhere", jf.Survey.from_arrays([[5.0, 1.0]], [[5.0, 1.0]], WAVELET), [], 1e-3),
        r"grid must be a jaxfwi\.Grid, .* got 0\.001: pass the grid of your simulator",
    ),
    "model axes": (lambda: write_model(np.zeros(3)), r"model must be \(nz, nx\).*\(3,\)"),
    "model shape": (lambda: write_model(np.zeros((2, 3))), r"model has shape \(2, 3\), the grid \(2, 2\)"),
    "model values": (lambda: write_model(np.full((2, 2), np.nan)), r"model is nan at cell"),
    "spacing": (lambda: write_model(np.zeros((2, 2)), 66.0), r"spacing in depth .* 65535 .*66\.0"),
    "spacing for a grid": (
        lambda: jf.io.segy.write_model("/nowhere", np.zeros((2, 2)), 5.0),
        r"grid must be a jaxfwi\.Grid, .* got 5\.0: pass the grid",
    ),
}


@pytest.mark.parametrize(("call", "message"), NOT_WRITTEN.values(), ids=NOT_WRITTEN)
def test_what_segy_cannot_hold(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_shots_that_do_not_fit_are_reported(tmp_path):
    survey = jf.Survey.from_arrays([[5.0, 1.0]] * 2, [[5.0, 1.0]], WAVELET)
    for data, message in (
        (np.zeros((3, 9, 1, 1)), "more shots than the 2 of the survey"),
        (np.zeros((1, 9, 1, 1)), "have 1 shots, the survey 2"),
        ([np.zeros((9, 1, 1)), np.zeros((8, 1, 1))], "shot 1 has 8 samples where the first has 9"),
    ):
        with pytest.raises(ValueError, match=message):
            jf.io.segy.write(tmp_path / "line.sgy", survey, data, grid_of())
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("endian", ["big", "little"])
@pytest.mark.parametrize("spacing", [10.0, (1.25, 12.5), (50.0, 7.3)])
def test_models_come_back(tmp_path, endian, spacing):
    vp = np.random.default_rng(0).uniform(1500, 4500, (40, 61)).astype(np.float32)
    jf.io.segy.write_model(tmp_path / "vp.sgy", vp, grid_of(spacing=spacing), endian=endian)
    found, there = jf.io.segy.read_model(tmp_path / "vp.sgy")
    np.testing.assert_array_equal(found, vp)
    assert found.dtype == np.float32
    np.testing.assert_allclose(there, np.broadcast_to(spacing, 2), rtol=1e-12)
    assert [path.name for path in tmp_path.iterdir()] == ["vp.sgy"]


def test_models_that_others_wrote(tmp_path):
    columns = np.arange(12.0).reshape(3, 4)
    for x, dx in (([0, 125, 250], 12.5), ([0, 0, 0], None), ([0, 10, 500], None), ([250, 125, 0], None)):
        traces = [({71: -10, 181: at}, column) for at, column in zip(x, columns, strict=True)]
        vp, spacing = jf.io.segy.read_model(segy(tmp_path / "vp.sgy", traces, interval=1250))
        np.testing.assert_array_equal(vp, columns.T)
        assert spacing == (1.25, dx)
    traces = [({71: 1, 81: at}, column) for at, column in zip([0, 12, 25], columns, strict=True)]  # rounded
    assert jf.io.segy.read_model(segy(tmp_path / "vp.sgy", traces, interval=0))[1] == (None, 12.5)
    with pytest.raises(ValueError, match=r"vp\.sgy is nan at cell \(2, 1\)"):
        jf.io.segy.read_model(segy(tmp_path / "vp.sgy", [({}, [1, 2, 3]), ({}, [1, 2, np.nan])]))


def test_a_missing_file_and_a_missing_segyio(tmp_path, monkeypatch):
    for read in (lambda path: jf.io.segy.read(path, WAVELET), jf.io.segy.read_model):
        with pytest.raises(FileNotFoundError, match=r"no such file.*missing\.sgy"):
            read(tmp_path / "missing.sgy")
    path = segy(tmp_path / "line.sgy", line())
    monkeypatch.setitem(sys.modules, "segyio", None)
    for call in (
        lambda: jf.io.segy.read(path, WAVELET),
        lambda: jf.io.segy.read_model(path),
        lambda: jf.io.segy.write_model(tmp_path / "vp.sgy", np.ones((2, 2)), grid_of(shape=(2, 2))),
        write,
    ):
        with pytest.raises(ImportError, match=r"^segyio is not installed: pip install jaxfwi\[segy\]\.$"):
            call()
