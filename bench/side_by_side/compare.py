#!/usr/bin/python3
"""./dev compare: redis-server and CairnKV on one machine in one interleaved run.

Every row is measured on each server in turn, for --rounds rounds; a row's figure is the median of its rounds,
its ratio the median of the round by round ratios to redis-server. us/request is server CPU time per request (all
threads, from procfs), which repeats far better than throughput. Results go to bench/results/ with machine,
commit, command and date. A difference smaller than the spread is marked "?".

A full run takes a good half hour; groups (--list) can be run one by one and put together with --combine.
"""

import argparse
import datetime
import json
import os
import platform
import statistics
import subprocess
import sys

import blob_rows
import ckpt_rows
import ckpt_trainer_rows
import durability_rows
import machine_rows
import memory_rows
import removal_rows
import speed_rows
from rows import BIN, OURS, ROOT, THEIRS, Row, Run

GROUPS = [*machine_rows.GROUPS, *speed_rows.GROUPS, *memory_rows.GROUPS, *durability_rows.GROUPS, *removal_rows.GROUPS, *blob_rows.GROUPS,
          *ckpt_rows.GROUPS, *ckpt_trainer_rows.GROUPS]


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3, help="interleaved rounds (default 3)")
    parser.add_argument("--quick", action="store_true", help="one round, small data: shows that it runs, not how fast")
    parser.add_argument("--full", action="store_true", help="also the sizes that take long: 5 and 20 M keys saved, values of 5 M elements, memory up to 8 M keys")
    parser.add_argument("--rows", default="", help="only groups whose name contains one of these, comma separated")
    parser.add_argument("--list", action="store_true", help="the names of the groups")
    parser.add_argument("--peer", action="append", default=[], metavar="NAME=PATH", help="a further server binary")
    parser.add_argument("--combine", nargs="+", metavar="JSON", help="measure nothing: one table from these result files")
    parser.add_argument("--no-write", action="store_true", help="do not write bench/results")
    return parser.parse_args()


def measure(options):
    binaries = {THEIRS: "/usr/bin/redis-server", OURS: os.path.join(BIN, "cairn-server")}
    binaries.update(peer.split("=", 1) for peer in options.peer)
    run = Run(binaries, options)
    wanted = [word for word in options.rows.split(",") if word]
    for group in GROUPS:
        if not wanted or any(word in group.name for word in wanted):
            print(f"# {group.name}", file=sys.stderr, flush=True)
            group.run(run)
    return run.rows, run.figures, run.skipped, run.series


def spread(values):
    """Half the range over the median: 0.05 = within 5 %."""
    middle = statistics.median(values)
    return (max(values) - min(values)) / 2 / middle if middle else 0.0


def meets(row, limit, ratio, ours):
    subject = ratio if row.of_ratio else ours
    if subject is None:
        return None
    return subject >= limit if row.at_least else subject <= limit


def verdict_of(row, ratio, ours, noise):
    """What the table says of a row: whether it holds, whether the goal is reached, whether that is noise."""
    words = []
    if row.bound is not None:
        words.append({True: "holds", False: "MISSED", None: "not measured"}[meets(row, row.bound, ratio, ours)])
    if row.goal is not None:
        words.append({True: "goal reached", False: "short of the goal", None: ""}[meets(row, row.goal, ratio, ours)])
    if ratio is not None and abs(ratio - 1) < noise:
        words.append("?")
    return ", ".join(word for word in words if word)


def figure_text(value):
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def table(rows, figures, skipped):
    names = []
    for by_peer in figures.values():
        names += [name for name in by_peer if name not in names]
    lines = ["| row | unit | " + " | ".join(names) + f" | {OURS} / {THEIRS} or the other | must hold | goal | |",
             "|---|---|" + "---|" * len(names) + "---|---|---|---|"]
    for row_name, row in rows.items():
        by_peer = figures[row_name]
        cells = [f"{figure_text(statistics.median(by_peer[n]))} ±{spread(by_peer[n]) * 100:.0f}%" if n in by_peer else "-" for n in names]
        pairs = [a / b for a, b in zip(by_peer.get(OURS, []), by_peer.get(row.baseline, [])) if b]
        ratio = statistics.median(pairs) if pairs else None
        ours = statistics.median(by_peer[OURS]) if OURS in by_peer else None
        verdict = verdict_of(row, ratio, ours, max(map(spread, by_peer.values())))
        if row_name in skipped:
            verdict = f"not measured: {skipped[row_name]}"
        lines.append(f"| {row_name} | {row.unit} | " + " | ".join(cells) + f" | {'-' if ratio is None else format(ratio, '.2f')}"
                     f" | {row.limit_text(row.bound)} | {row.limit_text(row.goal)} | {verdict} |")
    lines += [f"| {row_name} | | " + "| " * len(names) + f"| | | | not measured: {reason} |" for row_name, reason in skipped.items()
              if row_name not in rows]
    return "\n".join(lines)


def head_of_run():
    commit = subprocess.run(["git", "-C", ROOT, "describe", "--always", "--dirty"], capture_output=True, text=True).stdout.strip()
    with open("/proc/cpuinfo") as file:
        model = next((line.split(":", 1)[1].strip() for line in file if line.startswith("model name")), platform.machine())
    return {"date": datetime.datetime.now().strftime("%Y-%m-%d %H:%M"), "commit": commit,
            "machine": f"{model}, {os.cpu_count()} cores, Linux {platform.release()}",
            "load before the run": " ".join(f"{load:.2f}" for load in os.getloadavg()),
            "command": "./dev compare " + " ".join(sys.argv[1:])}


def write_results(label, heads, rows, figures, skipped, series):
    name = f"{heads[0]['date'][:10]}-{heads[0]['commit']}-{label}"
    base = os.path.join(ROOT, "bench/results", name)
    os.makedirs(os.path.dirname(base), exist_ok=True)
    with open(base + ".json", "w") as file:
        json.dump({"runs": heads, "rows": [vars(row) for row in rows.values()], "figures": figures, "skipped": skipped}, file, indent=1)
    if series:  # apart, and not indented: thousands of points
        with open(base + ".series.json", "w") as file:
            json.dump({"runs": heads, "series": series}, file, separators=(",", ":"))
    with open(base + ".md", "w") as file:
        for head in heads:
            file.write("\n".join(f"- {key}: {value}" for key, value in head.items()) + "\n\n")
        file.write(table(rows, figures, skipped) + "\n")
    print(f"written to bench/results/{name}.md", file=sys.stderr)


def combine(paths):
    """The rows of several result files as one; a row that is in two keeps its later figures."""
    heads, rows, figures, skipped = [], {}, {}, {}
    for path in paths:
        with open(path) as file:
            result = json.load(file)
        heads += result["runs"]
        rows.update((row["name"], Row(**row)) for row in result["rows"])
        figures.update(result["figures"])
        skipped.update(result["skipped"])
    measured = {name for name, by_peer in figures.items() if OURS in by_peer and rows[name].baseline in by_peer}
    return heads, rows, figures, {name: why for name, why in skipped.items() if name not in measured}


def main():
    options = parse_arguments()
    if options.list:
        print("\n".join(group.name for group in GROUPS))
        return
    if options.combine:
        heads, rows, figures, skipped = combine(options.combine)
        print(table(rows, figures, skipped))
        if not options.no_write:
            write_results("combined", heads, rows, figures, skipped, {})
        return
    if options.quick:
        options.rounds = 1
    head = head_of_run()
    rows, figures, skipped, series = measure(options)
    print(table(rows, figures, skipped))
    if not options.no_write and not options.quick:
        write_results((options.rows or "all").replace(",", "+"), [head], rows, figures, skipped, series)


if __name__ == "__main__":
    main()
