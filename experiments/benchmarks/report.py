"""Tables and figures of the benchmark."""

import statistics
from typing import Any

import numpy as np
from matplotlib.figure import Figure

import common

OURS, PEERS = "jaxfwi", ("deepwave", "sweep")
NAMES = {OURS: "jaxfwi", "deepwave": "Deepwave", "sweep": "SWEEP"}


def exponent(x: Any, y: Any) -> float:
    """The power that fits best: 1 is linear."""
    return float(np.polyfit(np.log(np.asarray(x, float)), np.log(np.asarray(y, float)), 1)[0])


def bytes_of_step(memory: list[list[int]]) -> dict[int, float]:
    """By the side of a model, what a time step more adds."""
    bytes_of: dict[int, dict[int, int]] = {}
    for n, nt, size in memory:
        bytes_of.setdefault(n, {})[nt] = size
    return {n: (b[max(b)] - b[min(b)]) / (max(b) - min(b)) for n, b in bytes_of.items()}


def report(results: common.Results) -> None:
    """``table.md``, ``summary.json`` and the figures, and the tables on the terminal."""
    metrics = [m for m in results.metrics() if "error" not in m]
    failed = [m for m in results.metrics() if "error" in m]
    if not metrics:
        raise common.UserError(f"{results.path('metrics.jsonl')} has no results: run --stage measure first.")
    ours = {(m["case"], m["order"]): m for m in metrics if m["side"] == OURS}
    peers = [side for side in PEERS if any(m["side"] == side for m in metrics)]
    beside = {(m["case"], m["order"], m["side"]): m for m in metrics if m["side"] != OURS}
    head = ["case", "order", "forward s", "gradient s", "gradient MB"]
    for peer in peers:
        head += [f"{NAMES[peer]}: forward", "gradient", "memory"]
    rows = []
    for (case, order), m in ours.items():
        row = [case, str(order), f"{m['forward_seconds']:.3g}", f"{m['gradient_seconds']:.3g}",
               f"{m['gradient_memory_bytes'] / 1e6:.0f}"]  # fmt: skip
        for peer in peers:
            p = beside.get((case, order, peer))
            row += ["", "", ""] if p is None else [
                f"{p['forward_seconds'] / m['forward_seconds']:.2f} x",
                f"{p['gradient_seconds'] / m['gradient_seconds']:.2f} x",
                f"{p['gradient_memory_bytes'] / m['gradient_memory_bytes']:.1f} x",
            ]  # fmt: skip
        rows.append(row)
    detail = []
    for m in metrics:
        updates = m["updates"] / m["forward_seconds"]
        apart = [m[k] for k in m if k.startswith("gradient_difference")]
        detail.append([
            m["case"], str(m["order"]), NAMES[m["side"]], f"{m['forward_seconds']:.3g}", f"{m['gradient_seconds']:.3g}",
            f"{m['forward_first_seconds']:.3g}", f"{m['gradient_first_seconds']:.3g}", f"{updates / 1e6:.0f}",
            f"{100 * updates * m['bytes_of_update'] / m['bandwidth']:.0f} %",
            f"{m['gradient_memory_bytes'] / 1e6:.0f}",
            f"{m['data_difference']:.1e}" if apart else "", f"{max(apart):.1e}" if apart else "",
        ])  # fmt: skip
    environment = next(iter(ours.values()))["environment"]
    versions = sorted({m["version"] for m in metrics})
    bandwidth = statistics.median(m["bandwidth"] for m in metrics)
    text = [
        f"{environment['device']}, {environment['cores']} cores, {environment['system']}, "
        f"Python {environment['python']}; {'; '.join(versions)}; {metrics[-1]['date']}. The cores copy "
        f"{bandwidth / 1e9:.1f} GB/s.",
        "Of jaxfwi: median seconds, and the memory that a gradient adds. Of the others: their seconds and memory as "
        "multiples of ours, so that more than 1 is in our favour.",
        common.table(head, rows),
        "Each package. First calls hold compilation. Cells of the layer count; the share of the bandwidth is that of "
        "the least traffic a forward run can have. Differences are relative L2 norms from our data and gradients.",
        common.table(
            ["case", "order", "package", "forward s", "gradient s", "first forward s", "first gradient s",
             "forward Mcell/s", "of bandwidth", "gradient MB", "data apart", "gradient apart"], detail,
        ),
    ]  # fmt: skip
    if failed:
        rows = [[m["case"], str(m["order"]), NAMES[m["side"]], m["error"]] for m in failed]
        text += ["Not measured:", common.table(["case", "order", "package", "why"], rows)]
    if results.path("growth.json").exists():
        text += ["How a gradient of ours grows, fitted powers (1 is linear):", _growth_table(results)]
    results.write_text("table.md", "\n\n".join(text) + "\n")
    results.write_json("summary.json", {"environment": environment, "metrics": results.metrics()})
    draw_ratios(results, ours, beside, peers)
    print("\n\n".join(text))
    for path in sorted(results.path("figures").glob("*.png")):
        print(path)


def _growth_table(results: common.Results) -> str:
    found = results.read_json("growth.json")
    rows = [
        [f"seconds by {what}", f"{found[what][0][0]:.0f} to {found[what][-1][0]:.0f}",
         f"{exponent(*zip(*found[what], strict=True)):.2f}"] for what in found if what != "memory"
    ]  # fmt: skip
    steps = bytes_of_step(found["memory"])
    rows.append(
        ["bytes of a step by the surface's cells", f"{4 * min(steps)} to {4 * max(steps)}",
         f"{exponent(list(steps), list(steps.values())):.2f}"]
    )  # fmt: skip
    draw_growth(results, found, steps)
    return common.table(["what", "from, to", "power"], rows)


def draw_growth(results: common.Results, found: dict[str, Any], steps: dict[int, float]) -> None:
    """``growth.png``: each with the straight line through its last point."""
    figure = Figure(figsize=(15, 3.6), layout="constrained")
    axes = figure.subplots(1, 4)
    panels = [(f"{what}", found[what], "seconds of a gradient") for what in found if what != "memory"]
    panels.append(("cells of the model's surface", [(4 * n, b) for n, b in steps.items()], "bytes of a time step"))
    for ax, (x, points, y) in zip(axes, panels, strict=True):
        sizes, values = np.array(points, float).T
        ax.loglog(sizes, values, "o", label=f"power {exponent(sizes, values):.2f}")
        ax.loglog(sizes, values[-1] * sizes / sizes[-1], "k--", lw=0.8, label="linear")
        ax.set(xlabel=x, ylabel=y)
        ax.legend()
        ax.grid(alpha=0.3)
    results.write_figure("growth", figure)


def draw_ratios(results: common.Results, ours: dict, beside: dict, peers: list[str]) -> None:
    """``ratios.png``: how many times as fast, and as small, as each peer."""
    if not peers:
        return
    figure = Figure(figsize=(5 * len(peers) + 3, 0.42 * len(ours) + 1.6), layout="constrained")
    axes = figure.subplots(1, len(peers), sharey=True, squeeze=False)[0]
    names = [f"{case}, order {order}" for case, order in ours]
    for ax, peer in zip(axes, peers, strict=True):
        for i, what in enumerate(("forward_seconds", "gradient_seconds", "gradient_memory_bytes")):
            values = [
                beside[*key, peer][what] / m[what] if (*key, peer) in beside else np.nan for key, m in ours.items()
            ]
            ax.barh(
                np.arange(len(names)) + 0.27 * (i - 1), values, 0.25, label=what.split("_")[0] if i < 2 else "memory"
            )
        ax.axvline(1.0, color="k", lw=0.8)
        ax.set(xscale="log", xlabel=f"{NAMES[peer]} / jaxfwi (above 1: in our favour)", yticks=range(len(names)))
        ax.set_yticklabels(names)
        ax.grid(axis="x", alpha=0.3)
    axes[0].invert_yaxis()
    axes[-1].legend(loc="lower right")
    results.write_figure("ratios", figure)
