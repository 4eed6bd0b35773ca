"""The arrays of a survey: made full, checked and described."""

from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxfwi._checks import concrete_values, is_concrete

__all__ = ["check_arrays", "described", "full_arrays"]


def full_arrays(source: Any, receiver: Any, wavelet: Any) -> tuple[Array, Array, Array]:
    """The arguments of `Survey.from_arrays` as arrays of a survey, with a copy of shared ones for each shot."""
    source, receiver = _finite_array("source", source), _finite_array("receiver", receiver)
    wavelet = _finite_array("wavelet", wavelet)
    source = source[:, None] if source.ndim == 2 else source
    if source.ndim != 3:
        raise ValueError(f"source must be (shots, ndim) or (shots, sources, ndim), got shape {source.shape}.")
    shots, sources, ndim = source.shape
    receiver = jnp.broadcast_to(receiver, (shots, *receiver.shape)) if receiver.ndim == 2 else receiver
    if receiver.ndim != 3 or receiver.shape[0] != shots or receiver.shape[2] != ndim:
        raise ValueError(
            f"receiver must be (receivers, {ndim}) or ({shots}, receivers, {ndim}) to fit source "
            f"{source.shape}, got shape {receiver.shape}."
        )
    if 0 in source.shape or 0 in receiver.shape:
        raise ValueError(
            f"a survey needs a shot, a source and a receiver, got source {source.shape} and receiver {receiver.shape}."
        )
    if wavelet.ndim == 1 or (wavelet.ndim == 2 and len(wavelet) == shots):
        wavelet = jnp.broadcast_to(wavelet[..., None], (shots, wavelet.shape[-1], sources))
    if wavelet.ndim not in (3, 4) or wavelet.shape[:3:2] != (shots, sources):
        raise ValueError(
            f"wavelet must be (time,), ({shots}, time), ({shots}, time, {sources}) or ({shots}, time, {sources}, "
            f"components) to fit source {source.shape}, got shape {wavelet.shape}."
        )
    return source, receiver, wavelet


def check_arrays(source: Any, receiver: Any, wavelet: Any, mask: Any) -> None:
    """Raise a ValueError if the arrays of a survey do not fit together, or have values that are not finite."""
    arrays = {"source": source, "receiver": receiver, "wavelet": wavelet}
    for name, x in arrays.items():
        if not hasattr(x, "shape") or not jnp.issubdtype(x.dtype, jnp.floating):
            raise ValueError(f"survey {name} must be a floating-point array: build surveys by Survey.from_arrays.")
        if is_concrete(x) and not np.isfinite(np.asarray(x)).all():
            raise ValueError(f"survey {name} has values that are not finite.")
    s, r, w = (x.shape for x in arrays.values())
    shots = s[:-2]
    if mask is not None:
        if getattr(mask, "dtype", None) != np.dtype(bool) or mask.shape != r[:-1]:
            raise ValueError(
                f"survey receiver_mask must be None or bool of shape {r[:-1]}, got "
                f"{getattr(mask, 'dtype', type(mask).__name__)} of shape {np.shape(mask)}."
            )
        if is_concrete(mask) and not np.asarray(mask).any(axis=-1).all():
            raise ValueError("survey receiver_mask leaves a shot without a receiver: leave the shot out.")
    fits = len(s) == len(r) >= 2 and shots == r[:-2] and s[-1] == r[-1] and len(w) - len(s) in (0, 1)
    if not (fits and w[: len(shots)] == shots and w[len(shots) + 1] == s[-2]):
        raise ValueError(
            "survey source (shots, sources, ndim), receiver (shots, receivers, ndim) and wavelet (shots, time, "
            f"sources) do not fit together: {s}, {r} and {w}."
        )


def described(source: Any, receiver: Any, wavelet: Any, mask: Any) -> str:
    """The arrays of a survey in one line: "Survey(2 shots: 1 source and 3 receivers each, 100 time samples)"."""
    ndim = getattr(source, "ndim", 0)
    fits = getattr(receiver, "ndim", 0) == ndim and getattr(wavelet, "ndim", 0) in (ndim, ndim + 1)
    if ndim not in (2, 3) or not fits:  # a tree with other leaves than the arrays of a survey
        return f"Survey({source!r}, {receiver!r}, {wavelet!r})"
    receivers = _counted(receiver.shape[-2], "receiver")
    if mask is not None:
        receivers = f"up to {receivers}"
        values = concrete_values(mask)
        if values is not None and values.size:
            count = values.sum(axis=-1)
            least = "" if count.min() == count.max() else f"{count.min()} to "
            receivers = least + _counted(count.max(), "receiver")
    each = f"{_counted(source.shape[-2], 'source')} and {receivers}"
    time = f"{wavelet.shape[ndim - 2]} time samples"
    if ndim == 2:
        return f"Survey(one shot: {each}, {time})"
    return f"Survey({_counted(len(source), 'shot')}: {each} each, {time})"


def _counted(n: int, word: str) -> str:
    return f"{n} {word}{'' if n == 1 else 's'}"


def _finite_array(name: str, x: Any) -> Array:
    if is_concrete(x) and not np.isfinite(np.asarray(x, dtype=float)).all():
        raise ValueError(f"{name} has values that are not finite.")
    return jnp.asarray(x, dtype=jnp.result_type(float))
