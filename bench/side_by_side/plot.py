#!/usr/bin/python3
"""Draws bench/results/*.series.json: latency and memory over time while a server saves, one server beside the other.

    bench/side_by_side/plot.py bench/results/<run>.series.json [docs/images]

One PNG a series, named after its label. Above: the longest and the p99 reply of each 20 ms; below: anonymous memory
(of the server and its forks) beyond what it was before. The shaded span is the save.
"""

import json
import os
import re
import sys

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot  # noqa: E402  (after the choice of the backend)

COLOURS = {"redis": "tab:red", "cairn": "tab:blue"}
NAMES = {"redis": "redis-server 7.0.15", "cairn": "CairnKV"}


def draw(label, servers, head, path):
    figure, axes = pyplot.subplots(2, len(servers), figsize=(5.2 * len(servers), 6), sharex="col", sharey="row", squeeze=False)
    for column, (name, series) in enumerate(servers.items()):
        colour = COLOURS.get(name, "tab:green")
        latency, memory = axes[0][column], axes[1][column]
        seconds = [point[0] / 1000 for point in series["latency"]]
        latency.plot(seconds, [point[4] / 1000 for point in series["latency"]], color=colour, linewidth=0.8, label="longest of 20 ms")
        latency.plot(seconds, [point[3] / 1000 for point in series["latency"]], color="black", linewidth=0.6, label="p99 of 20 ms")
        latency.set_yscale("log")
        latency.set_title(NAMES.get(name, name))
        if not series["memory"]:  # not what this series is about
            memory.set_visible(False)
        memory.plot([point[0] / 1000 for point in series["memory"]], [point[1] / 2**20 for point in series["memory"]], color=colour)
        memory.set_xlabel("seconds")
        for axis in (latency, memory):
            axis.axvspan(series["job_ms"][0] / 1000, series["job_ms"][1] / 1000, color="0.9", zorder=0)
            axis.grid(True, linewidth=0.3)
        if column == 0:
            latency.set_ylabel("latency of a SET, ms")
            memory.set_ylabel("extra anonymous memory, MiB")
            latency.legend(fontsize="small")
    figure.suptitle(label)
    figure.text(0.01, 0.005, f"{head['machine']}; {head['commit']}, {head['date']}", fontsize=6)
    figure.tight_layout(rect=(0, 0.02, 1, 1))
    figure.savefig(path, dpi=90)
    pyplot.close(figure)


def main():
    if len(sys.argv) not in (2, 3):
        sys.exit(__doc__)
    with open(sys.argv[1], encoding="utf-8") as file:
        result = json.load(file)
    directory = sys.argv[2] if len(sys.argv) == 3 else "docs/images"
    os.makedirs(directory, exist_ok=True)
    for label, servers in result["series"].items():
        name = re.sub(r"[^a-z0-9]+", "-", label.lower()).strip("-")
        path = os.path.join(directory, name + ".png")
        draw(label, servers, result["runs"][0], path)
        print(path)


if __name__ == "__main__":
    main()
