"""SWEEP's side of the benchmark: its JAX back end, a shot per core on a CPU, gradients by its boundary saving, or
elastic 3D ones by full storage."""

from importlib.metadata import version

import jax
import numpy as np

from side_jaxfwi import added_memory, choose  # noqa: F401


def prepare(job, arrays):
    choose(job)
    import jax.numpy as jnp
    from sweep import equations
    from sweep.propagator.jax import PropJax
    from sweep.propagator.options import BoundarySaving, Full

    ndim, spacing, acoustic = len(job["shape"]), job["spacing"], job["equation"] == "acoustic"
    kind = getattr(equations, ("Acoustic" if acoustic else "Elastic") + ("3D" if ndim == 3 else ""))
    names = ("vp",) if acoustic else ("vp", "vs", "rho")
    fields = {} if acoustic else {"source_type": ["vz"], "receiver_type": ["vz"]}
    layer = {"max_vel": float(arrays["vp"].max()), "pml_freq": job["frequency"]}

    # the samples are added to the field as they are: they get the factor that the equation has at the source
    vp, rho = (arrays[name][tuple(arrays["sources"].T)] for name in ("vp", "rho"))
    factor = (vp * job["dt"]) ** 2 if acoustic else job["dt"] / rho
    wavelets = (factor[:, None] * arrays["wavelet"] / spacing**ndim).astype(np.float32)
    sources, receivers = arrays["sources"][:, ::-1], arrays["receivers"][:, ::-1]  # x comes first

    # a force's sample is added after its step, and recorded at the source before the medium has met it: without it all
    # receivers have the velocities of the same time
    early = np.zeros((len(sources), 1, len(receivers)), np.float32)
    if not acoustic:
        early[:, 0] = (sources[:, None] == receivers).all(axis=-1)

    def modelling(memory):
        equation = kind(spatial_order=job["order"], backend="jax")
        solver = PropJax(
            equation, shape=tuple(job["shape"]), abcn=job["width"], dh=spacing, dt=job["dt"], memory=memory, **fields
        )

        def data(parameters, shot):
            *shot, early = shot
            return solver(*shot, models=list(parameters), **layer)[..., 0] - early * shot[0][..., None]

        return data

    full = kind is equations.Elastic3D  # that has no boundary saving
    # where nothing is differentiated full storage stores nothing, while boundary saving would
    modelled = jax.jit(modelling(Full()))
    data = modelling(Full() if full else BoundarySaving())
    differentiated = jax.jit(jax.grad(lambda *given: 0.5 * jnp.sum(data(*given) ** 2)))

    # on a CPU batches of one shot: larger ones take up to twice the time a shot
    batch = 1 if job["device"] == "cpu" else len(sources)
    devices = jax.devices()[: len(sources)]
    parameters = [jax.device_put(tuple(arrays[name] for name in names), device) for device in devices]
    shots = [
        jax.device_put(
            (wavelets[i : i + batch], sources[i : i + batch], np.stack([receivers] * batch), early[i : i + batch]),
            devices[i % len(devices)],
        )
        for i in range(0, len(sources), batch)
    ]

    def of_all(call):
        """Calls return before they have computed: the devices work side by side."""
        return jax.device_get([call(parameters[i % len(devices)], shot) for i, shot in enumerate(shots)])

    def forward():
        return np.concatenate(of_all(modelled))

    def gradient():
        return {name: sum(of_shots) for name, *of_shots in zip(names, *of_all(differentiated), strict=True)}

    return f"sweep {version('sweep-solver')}, jax {jax.__version__}", forward, gradient
