#!/usr/bin/python3
"""./dev compare: redis-server and CairnKV on one machine in one interleaved run.

Every row is measured on each server in turn, for --rounds rounds; a row's figure is the median of its rounds,
its ratio the median of the round by round ratios to redis-server. `us` is server CPU time per request (all
threads, from procfs), which repeats far better than throughput. Results go to bench/results/ with machine,
commit, command and date. A spread larger than the difference is marked "?".
"""

import argparse
import datetime
import json
import os
import platform
import statistics
import subprocess
import sys

import rows
from peers import Peer

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3, help="interleaved rounds (default 3)")
    parser.add_argument("--quick", action="store_true", help="one round, small data: shows that it runs, not how fast")
    parser.add_argument("--rows", default="", help="only groups whose name contains one of these, comma separated")
    parser.add_argument("--peer", action="append", default=[], metavar="NAME=PATH", help="a further server binary")
    parser.add_argument("--no-write", action="store_true", help="do not write bench/results")
    return parser.parse_args()


def measure(peers, options):
    """Returns {row: {peer: [figure per round]}} in the order of measurement, and the rows' units and goals."""
    figures, facts = {}, {}
    wanted = [word for word in options.rows.split(",") if word]
    for group in rows.GROUPS:
        if wanted and not any(word in group.name for word in wanted):
            continue
        for round_number in range(options.rounds):
            for name, binary in peers:
                print(f"# {group.name}: round {round_number + 1}, {name}", file=sys.stderr, flush=True)
                for row, value in group.run(lambda *a, **k: Peer(name, binary, *a, **k), name, options.quick):
                    figures.setdefault(row.name, {}).setdefault(name, []).append(value)
                    facts[row.name] = row
    return figures, facts


def median_ratio(ours, theirs):
    pairs = [a / b for a, b in zip(ours, theirs) if b]
    return statistics.median(pairs) if pairs else None


def spread(values):
    """Half the range over the median: 0.05 = within 5 %."""
    middle = statistics.median(values)
    return (max(values) - min(values)) / 2 / middle if middle else 0.0


def table(figures, facts, peers):
    names = [name for name, _ in peers]
    lines = ["| row | unit | " + " | ".join(names) + " | ratio | must hold | |",
             "|---|---|" + "---|" * len(names) + "---|---|---|"]
    for row_name, by_peer in figures.items():
        row = facts[row_name]
        cells = [f"{statistics.median(by_peer[n]):.3g} ±{spread(by_peer[n]) * 100:.0f}%" if n in by_peer else "-"
                 for n in names]
        ratio = median_ratio(by_peer.get("cairn", []), by_peer.get("redis", []))
        verdict = ""
        if row.bound is not None:
            subject = ratio if row.bound_is_ratio else statistics.median(by_peer["cairn"])
            holds = subject is not None and (subject >= row.bound if row.at_least else subject <= row.bound)
            verdict = "holds" if holds else "MISSED"
        noise = max((spread(values) for values in by_peer.values()), default=0)
        if ratio is not None and abs(ratio - 1) < noise:
            verdict += " ?"
        lines.append(f"| {row_name} | {row.unit} | " + " | ".join(cells) +
                     f" | {'-' if ratio is None else format(ratio, '.2f')} | {row.bound_text()} | {verdict} |")
    return "\n".join(lines)


def main():
    options = parse_arguments()
    if options.quick:
        options.rounds = 1
    binary = os.path.join(os.environ.get("CAIRN_BIN_DIR", os.path.join(ROOT, "build/release/bin")), "cairn-server")
    peers = [("redis", "/usr/bin/redis-server"), ("cairn", binary)]
    peers += [tuple(peer.split("=", 1)) for peer in options.peer]
    figures, facts = measure(peers, options)
    text = table(figures, facts, peers)
    print(text)
    if options.no_write or options.quick:
        return
    commit = subprocess.run(["git", "-C", ROOT, "rev-parse", "--short", "HEAD"], capture_output=True, text=True).stdout.strip()
    stamp = datetime.datetime.now().strftime("%Y-%m-%d")
    head = {"date": stamp, "commit": commit, "machine": f"{platform.machine()}, {os.cpu_count()} cores, {platform.release()}",
            "command": "./dev compare " + " ".join(sys.argv[1:])}
    base = os.path.join(ROOT, "bench/results", f"{stamp}-{commit}")
    with open(base + ".json", "w") as file:
        json.dump({**head, "figures": figures}, file, indent=1)
    with open(base + ".md", "w") as file:
        file.write("\n".join(f"- {key}: {value}" for key, value in head.items()) + "\n\n" + text + "\n")
    print(f"written to bench/results/{stamp}-{commit}.md", file=sys.stderr)


if __name__ == "__main__":
    main()
