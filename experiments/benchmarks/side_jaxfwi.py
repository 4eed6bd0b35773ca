"""This package's side of the benchmark: a shot per core on a CPU, all at once on a GPU; gradients: boundary saving."""

import gc
from importlib import metadata

import jax


def build(job, arrays):
    """The model, and the problem of it: data are compared with zeros, so that the misfit is half the sum of squares."""
    import jax.numpy as jnp

    import jaxfwi as jf

    grid = jf.Grid(tuple(job["shape"]), job["spacing"], job["dt"], job["nt"])
    node = jnp.zeros(grid.ndim)
    if job["equation"] == "acoustic":
        model = jf.Acoustic(vp=jnp.asarray(arrays["vp"]))
    else:  # forces along z, and vz recorded
        model = jf.Elastic(**{name: jnp.asarray(arrays[name]) for name in ("vp", "vs", "rho")})
        node = node.at[0].set(0.5)  # the peers count a vertical velocity's own nodes, half a cell below the others
    receivers = (arrays["receivers"] + node) * grid.spacing[0]
    survey = jf.Survey.from_arrays(
        (arrays["sources"][:, None] + node) * grid.spacing[0],
        jnp.broadcast_to(receivers, (len(arrays["sources"]), *receivers.shape)),
        jnp.asarray(arrays["wavelet"]),
    )
    nothing = jnp.zeros((len(survey), grid.nt, len(receivers), 1), jnp.float32)
    return model, jf.Problem(jf.Simulator(grid, job["order"], jf.CPML(job["width"])), survey, nothing)


def choose(job):
    """Set jax to the device, which must be there: without it jax would take the processor."""
    jax.config.update("jax_platforms", {"cpu": "cpu", "gpu": "cuda,cpu"}[job["device"]])
    if job["device"] == "cpu":
        jax.config.update("jax_num_cpu_devices", job["threads"])


def added_memory(call):
    """Bytes of the GPU that a call adds at its peak, of the process's so far: the first call is a call too."""
    gc.collect()
    device = jax.devices()[0]
    before = device.memory_stats()["bytes_in_use"]
    call()
    return device.memory_stats()["peak_bytes_in_use"] - before


def prepare(job, arrays):
    choose(job)
    import jaxfwi as jf

    model, problem = build(job, arrays)

    def forward():
        return jax.device_get(jf.simulate(problem.simulator, model, problem.survey))[..., 0]

    def gradient():
        _, g = jax.device_get(problem.misfit_and_gradient(model))
        return {name: getattr(g, name) for name in arrays if hasattr(g, name)}

    return f"jaxfwi {metadata.version('jaxfwi')}, jax {jax.__version__}", forward, gradient


def temporary_bytes(job, arrays):
    """What the compiled gradient of the first shot needs beside its arguments and results."""
    import jaxfwi as jf

    model, problem = build(job, arrays)
    gradient = jax.jit(lambda m: problem.misfit_and_gradient(m))
    analysis = gradient.lower(model).compile(jf.compiler_options()).memory_analysis()
    assert analysis is not None  # as on backends that do not say
    return analysis.temp_size_in_bytes
