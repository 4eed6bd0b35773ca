"""Deepwave's side of the benchmark: all shots in one call, its compiled kernels and its default storage."""

import deepwave
import numpy as np
import torch


def added_memory(call):
    """Bytes of the GPU that a call adds at its peak."""
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    call()
    return torch.cuda.max_memory_allocated() - before


def prepare(job, arrays):
    torch.set_num_threads(job["threads"])
    device = torch.device("cuda" if job["device"] == "gpu" else "cpu")

    def tensor(array, dtype=torch.float32):
        return torch.as_tensor(np.ascontiguousarray(array), dtype=dtype, device=device)

    shots, ndim, spacing = len(arrays["sources"]), len(job["shape"]), job["spacing"]
    density = np.broadcast_to(arrays["wavelet"] / spacing**ndim, (shots, 1, job["nt"]))  # of a point source in a cell
    sources = tensor(arrays["sources"][:, None], torch.long)
    receivers = tensor(np.broadcast_to(arrays["receivers"], (shots, *arrays["receivers"].shape)), torch.long)
    names = ("vp",) if job["equation"] == "acoustic" else ("vp", "vs", "rho")
    parameters = [tensor(arrays[name]) for name in names]
    options = {"accuracy": job["order"], "pml_width": job["width"], "pml_freq": job["frequency"]}
    if job["equation"] == "acoustic":  # in elastic media it asks for its own bound, which it finds by itself
        options["max_vel"] = float(arrays["vp"].max())

    def model(*parameters):
        if job["equation"] == "acoustic":
            return deepwave.scalar(
                *parameters, spacing, job["dt"], source_amplitudes=tensor(-density), source_locations=sources,
                receiver_locations=receivers, **options,
            )[-1]  # fmt: skip
        vertical = "y" if ndim == 2 else "z"
        lame = deepwave.vpvsrho_to_lambmubuoyancy(*parameters)
        out = deepwave.elastic(
            *lame, spacing, job["dt"], **options,
            **{f"source_amplitudes_{vertical}": tensor(density), f"source_locations_{vertical}": sources,
               f"receiver_locations_{vertical}": receivers},
        )  # fmt: skip
        return out[-1 - "xyz".index(vertical)]

    def wait(result):
        if device.type == "cuda":
            torch.cuda.synchronize()
        return result

    def forward():
        with torch.no_grad():
            return wait(model(*parameters)).swapaxes(1, 2).cpu().numpy()

    def gradient():
        given = [p.detach().clone().requires_grad_() for p in parameters]
        (0.5 * (model(*given) ** 2).sum()).backward()
        return {name: wait(p.grad).cpu().numpy() for name, p in zip(names, given, strict=True)}

    return f"deepwave {deepwave.__version__}, torch {torch.__version__}", forward, gradient
