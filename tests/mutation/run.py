#!/usr/bin/python3
"""./dev mutate: breaks each rule of the snapshot in a copy of the tree and expects a test to fail.

A rule that can be removed without any test noticing is not tested. The copy lives in build/mutation, is
built with the preset `dev` (ASan finds the use after free that most of these lead to), and the unchanged
copy has to pass first."""

import argparse
import os
import shutil
import subprocess
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from snapshot_rules import MUTATIONS  # noqa: E402

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
COPY = os.path.join(ROOT, "build/mutation")
BUILD = os.path.join(COPY, "build/dev")
TARGET = "unit_keyspace"
FILTER = "View*:Keyspace*:BigString*"
RUN_LIMIT_S = 240
BUILD_LIMIT_S = 600


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


def tests_pass():
    """Returns (passed, the line that tells why not)."""
    environment = dict(os.environ, ASAN_OPTIONS="abort_on_error=0:detect_leaks=1")
    command = [os.path.join(BUILD, "bin", TARGET), "--gtest_filter=" + FILTER, "--gtest_fail_fast", "--gtest_brief=1"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=RUN_LIMIT_S, env=environment, errors="replace")
    except subprocess.TimeoutExpired:
        return False, f"still running after {RUN_LIMIT_S} s"
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
    try:
        if not build(jobs):
            print("  the mutated tree does not build")
            return False
        passed, why = tests_pass()
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
    print("the unchanged tree", flush=True)
    sound = build(options.jobs) and tests_pass()[0]
    if not sound:
        print("  its own tests fail: nothing can be told")
        bad = 1
    for mutation in MUTATIONS if sound else []:
        if options.words and not any(word in mutation[0] for word in options.words):
            continue
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
