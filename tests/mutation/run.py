#!/usr/bin/python3
"""./dev mutate: breaks each rule of the snapshot in a copy of the tree and expects a test to fail.

A rule that can be removed without any test noticing is not tested. The copy lives in build/mutation, is
built with the preset `dev` (ASan finds the use after free that most of these lead to), and the unchanged
copy has to pass first.

What breaks the table, the walk or the gate has to be noticed by the explorer's exhaustive search alone, so
that its pruning is known to be sharp; that needs one file compiled. The rest are for all tests of
unit_keyspace."""

import argparse
import json
import os
import re
import resource
import shlex
import shutil
import subprocess
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from snapshot_rules import GATE, MUTATIONS, STRUCTURE, TABLE, WALK  # noqa: E402

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
COPY = os.path.join(ROOT, "build/mutation")
BUILD = os.path.join(COPY, "build/dev")
TARGET = "unit_keyspace"
FILTER = "View*:ValueExplorer*:Keyspace*:BigString*:Members*"
EXPLORER = "tests/unit/keyspace/view_explorer_test.cc"
EXPLORED = (TABLE, STRUCTURE, WALK, GATE)
EXPLORER_FILTER = "ViewExplorerTest.EveryInterleaving*"
RUN_LIMIT_CPU_S = 240     # of processor time: a machine that is busy with something else proves nothing
BUILD_LIMIT_S = 3600


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("words", nargs="*", help="only mutations whose name contains one of these")
    parser.add_argument("--counts", help="file to write '<passed> <failed>' to")
    parser.add_argument("-j", "--jobs", default="2", help="compiler processes")
    return parser.parse_args()


def sync_copy():
    """Brings the copy up to the working tree; files that are the same keep their times, so nothing is rebuilt."""
    listed = subprocess.run(["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], cwd=ROOT,
                            capture_output=True, text=True, check=True).stdout.split("\0")
    wanted = {name for name in listed if name and os.path.isfile(os.path.join(ROOT, name))}
    for name in wanted:
        source, target = os.path.join(ROOT, name), os.path.join(COPY, name)
        with open(source, "rb") as file:
            content = file.read()
        if os.path.exists(target):
            with open(target, "rb") as file:
                if file.read() == content:
                    continue
        os.makedirs(os.path.dirname(target), exist_ok=True)
        with open(target, "wb") as file:
            file.write(content)
        shutil.copymode(source, target)
    for folder, _, files in os.walk(COPY):
        if folder.startswith(os.path.join(COPY, "build")):
            continue
        for name in files:
            path = os.path.join(folder, name)
            if os.path.relpath(path, COPY) not in wanted:
                os.remove(path)


def build(jobs):
    if not os.path.exists(os.path.join(BUILD, "build.ninja")):
        done = subprocess.run(["cmake", "--preset", "dev", "-DCAIRN_TORCH=OFF"], cwd=COPY, capture_output=True, text=True)
        if done.returncode != 0:
            print(done.stdout[-2000:], done.stderr[-2000:])
            return False
    done = subprocess.run(["ninja", "-C", BUILD, "-j", jobs, TARGET], capture_output=True, text=True, timeout=BUILD_LIMIT_S)
    if done.returncode != 0:
        print(done.stdout[-3000:])
    return done.returncode == 0


def build_explorer():
    """Compiles the explorer against the headers of the copy, and links it with the libraries of the unchanged tree."""
    with open(os.path.join(BUILD, "compile_commands.json")) as file:
        command = next(each for each in json.load(file) if each["file"].endswith(EXPLORER))
    words = shlex.split(command["command"])
    words[words.index("-o") + 1] = "explorer.o"
    listed = subprocess.run(["ninja", "-C", BUILD, "-t", "commands", TARGET], capture_output=True, text=True,
                            check=True).stdout.splitlines()
    link = re.match(r": && (\S.*?) && ", listed[-1]).group(1)
    objects = re.compile(r"\S+/%s\.dir/\S+\.o" % TARGET)
    link = objects.sub("", re.sub(r"-o \S+", "explorer.o -o bin/explorer", link, count=1))
    for each in (words, shlex.split(link)):
        done = subprocess.run(each, cwd=BUILD, capture_output=True, text=True, timeout=BUILD_LIMIT_S)
        if done.returncode != 0:
            print(done.stdout[-3000:], done.stderr[-3000:])
            return False
    return True


def tests_pass(binary=TARGET, chosen=FILTER):
    """Returns (passed, the line that tells why not)."""
    environment = dict(os.environ, ASAN_OPTIONS="abort_on_error=0:detect_leaks=1")
    command = [os.path.join(BUILD, "bin", binary), "--gtest_filter=" + chosen, "--gtest_fail_fast", "--gtest_brief=1"]
    limit = (RUN_LIMIT_CPU_S, RUN_LIMIT_CPU_S)
    done = subprocess.run(command, capture_output=True, text=True, env=environment, errors="replace",
                          preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_CPU, limit))
    lines = (done.stdout + done.stderr).splitlines()
    telling = [line.strip() for line in lines
               if "ERROR: " in line or "[  FAILED  ]" in line or "CHECK" in line or "Failure" in line]
    return done.returncode == 0, telling[0] if telling else f"exit status {done.returncode}"


def mutate(file, before, after):
    """Puts `after` for `before`; returns the old content, or None when it does not apply."""
    path = os.path.join(COPY, file)
    with open(path) as source:
        content = source.read()
    if content.count(before) != 1:
        print(f"  does not apply: found {content.count(before)} times in {file}")
        return None
    with open(path, "w") as target:
        target.write(content.replace(before, after))
    return content


def run_one(name, file, before, after, jobs):
    content = mutate(file, before, after)
    if content is None:
        return False
    explored = file in EXPLORED
    try:
        if not (build_explorer() if explored else build(jobs)):
            print("  the mutated tree does not build")
            return False
        passed, why = tests_pass("explorer", EXPLORER_FILTER) if explored else tests_pass()
        print("  SURVIVED: no test failed" if passed else f"  noticed: {why}")
        return not passed
    finally:
        with open(os.path.join(COPY, file), "w") as target:
            target.write(content)


def main():
    options = parse_arguments()
    os.makedirs(COPY, exist_ok=True)
    sync_copy()
    good = bad = 0
    chosen = [each for each in MUTATIONS if not options.words or any(word in each[0] for word in options.words)]
    print("the unchanged tree", flush=True)
    sound = build(options.jobs) and build_explorer() and tests_pass("explorer", EXPLORER_FILTER)[0]
    if any(file not in EXPLORED for _, file, _, _ in chosen):
        sound = sound and tests_pass()[0]
    if not sound:
        print("  its own tests fail: nothing can be told")
        bad = 1
    for mutation in chosen if sound else []:
        began = time.monotonic()
        print(mutation[0], flush=True)
        noticed = run_one(*mutation, options.jobs)
        print(f"  {time.monotonic() - began:.0f} s", flush=True)
        good, bad = good + noticed, bad + (not noticed)
    if options.counts:
        with open(options.counts, "w") as file:
            file.write(f"{good} {bad}")
    print(f"{good} noticed, {bad} not")
    sys.exit(0 if good and not bad else 1)


if __name__ == "__main__":
    main()
