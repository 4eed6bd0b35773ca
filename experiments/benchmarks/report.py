"""Tables and figures of the benchmark."""

import statistics
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

import kit

OURS, PEERS = "jaxfwi", ("deepwave", "sweep")
NAMES = {OURS: "jaxfwi", "deepwave": "Deepwave", "sweep": "SWEEP"}


def exponent(x: Any, y: Any) -> float:
    """The power that fits best: 1 is linear."""
    return float(np.polyfit(np.log(np.asarray(x, float)), np.log(np.asarray(y, float)), 1)[0])


def straight(x: Any, y: Any) -> tuple[float, float, float]:
    """The line ``a + b x`` of least relative errors, and the largest of these: a, b, error."""
    x, y = np.asarray(x, float), np.asarray(y, float)
    (a, b), *_ = np.linalg.lstsq(np.stack([1 / y, x / y], axis=1), np.ones(len(x)))
    return float(a), float(b), float(np.abs((a + b * x) / y - 1).max())


def bytes_of_step(memory: list[list[int]]) -> dict[int, float]:
    """By the side of a model, what a time step more adds."""
    bytes_of: dict[int, dict[int, int]] = {}
    for n, nt, size in memory:
        bytes_of.setdefault(n, {})[nt] = size
    return {n: (b[max(b)] - b[min(b)]) / (max(b) - min(b)) for n, b in bytes_of.items()}


def report(results: kit.Results) -> None:
    """``table.md``, ``summary.json`` and the figures, and the tables on the terminal."""
    newest = {(m["case"], m["order"], m["side"]): m for m in results.metrics()}  # a case measured again replaces itself
    if len({str(m["settings"]) for m in newest.values()}) > 1:
        raise kit.UserError(
            f"{results.path('metrics.jsonl')} holds runs on several devices, numbers of threads or models, which "
            "cannot stand in one table: give each an --out of its own."
        )
    metrics = [m for m in newest.values() if "error" not in m]
    failed = [m for m in newest.values() if "error" in m]
    if not any(m["side"] == OURS for m in metrics):
        raise kit.UserError(f"{results.path('metrics.jsonl')} has no results of ours: run --stage measure first.")
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
                f"{p['gradient_memory_bytes'] / max(m['gradient_memory_bytes'], 1):.1f} x",
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
            f"{m['data_difference']:.1e}" if "data_difference" in m else "", f"{max(apart):.1e}" if apart else "",
        ])  # fmt: skip
    environment = next(iter(ours.values()))["environment"]
    versions = sorted({m["version"] for m in metrics})
    bandwidth = statistics.median(m["bandwidth"] for m in metrics)
    text = [
        f"{environment['device']}, {environment['cores']} cores, {environment['system']}, "
        f"Python {environment['python']}; {'; '.join(versions)}; {metrics[-1]['date']}. Memory moves "
        f"{bandwidth / 1e9:.1f} GB/s.",
        "Of jaxfwi: median seconds, and the memory that a gradient adds. Of the others: their seconds and memory as "
        "multiples of ours, so that more than 1 is in our favour.",
        kit.table(head, rows),
        "Each package. First calls hold compilation. Cells of the layer count; the share of the bandwidth is that of "
        "the least traffic a forward run can have. Differences are relative L2 norms from our data and gradients.",
        kit.table(
            ["case", "order", "package", "forward s", "gradient s", "first forward s", "first gradient s",
             "forward Mcell/s", "of bandwidth", "gradient MB", "data apart", "gradient apart"], detail,
        ),
    ]  # fmt: skip
    if failed:
        rows = [[m["case"], str(m["order"]), NAMES[m["side"]], m["error"]] for m in failed]
        text += ["Not measured:", kit.table(["case", "order", "package", "why"], rows)]
    if results.path("growth.json").exists():
        text += [
            "How a gradient of ours grows: the fitted power (1 is linear), and how far measurements lie off the best "
            "straight line, whose a is what every call costs:",
            _growth_table(results),
        ]
    results.write_text("table.md", "\n\n".join(text) + "\n")
    results.write_json("summary.json", {"environment": environment, "metrics": results.metrics()})
    draw_ratios(results, ours, beside, peers)
    print("\n\n".join(text))
    for path in sorted(results.path("figures").glob("*.png")):
        print(path)


def _growth_table(results: kit.Results) -> str:
    found = results.read_json("growth.json")
    steps = bytes_of_step(found["memory"])
    rows: dict[str, Any] = {
        f"seconds by {what}": list(zip(*found[what], strict=True)) for what in found if what != "memory"
    }
    rows["bytes of a step by the surface's cells"] = [[4 * n for n in steps], list(steps.values())]
    draw_growth(results, rows)
    return kit.table(
        ["what", "from", "to", "power", "off a + b x"],
        [
            [what, f"{x[0]:.0f}", f"{x[-1]:.0f}", f"{exponent(x, y):.2f}", f"{100 * straight(x, y)[2]:.0f} %"]
            for what, (x, y) in rows.items()
        ],
    )


def draw_growth(results: kit.Results, rows: dict[str, Any]) -> None:
    """``growth.png``: each with its straight line."""
    figure = Figure(figsize=(4 * len(rows), 3.6), layout="constrained")
    for ax, (what, (x, y)) in zip(figure.subplots(1, len(rows)), rows.items(), strict=True):
        a, b, _ = straight(x, y)
        line = np.geomspace(x[0], x[-1], 50)
        ax.loglog(x, y, "o", label=f"measured, power {exponent(x, y):.2f}")
        ax.loglog(line, a + b * line, "k--", lw=0.8, label=f"{a:.2g} + {b:.2g} x")
        value, by = what.split(" by ")
        ax.set(xlabel=by, ylabel=f"{value} of a gradient" if value == "seconds" else value)
        ax.set_xticks(x, [f"{size:.0f}" for size in x])
        ax.minorticks_off()
        ax.legend()
        ax.grid(alpha=0.3)
    results.write_figure("growth", figure)


def draw_ratios(results: kit.Results, ours: dict, beside: dict, peers: list[str]) -> None:
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
            label = what.split("_")[0] if i < 2 else "memory"
            ax.barh(np.arange(len(names)) + 0.27 * (i - 1), np.asarray(values) - 1.0, 0.25, left=1.0, label=label)
        ax.axvline(1.0, color="k", lw=0.8)
        ax.set(xscale="log", xlabel=f"{NAMES[peer]} / jaxfwi (above 1: in our favour)", yticks=range(len(names)))
        ax.set_yticklabels(names)
        ax.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        ax.xaxis.set_major_formatter("{x:g}")
        ax.xaxis.set_minor_formatter(NullFormatter())
        ax.grid(axis="x", alpha=0.3)
    axes[0].invert_yaxis()
    figure.legend(*axes[-1].get_legend_handles_labels(), loc="outside upper center", ncols=3)
    results.write_figure("ratios", figure)
