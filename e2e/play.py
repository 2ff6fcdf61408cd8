"""Plays scenarios, three at a time, and says how they went."""

import concurrent.futures
import os
import re
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

from .checks import Failure, Skipped
from .faults import behind, comeback, crash, default, halt, lost, outage
from .lease import Scene
from .market import abandoned, cheapest, close, crowd, detach, earnings, exhaustion, failing, main, proofs, standing, standstill
from .processes import end_all, tenure_bin

LANES = 3

# The longest first, so that the lanes end together.
SCENARIOS = [
    earnings, standing, halt, abandoned, default, exhaustion, crowd, comeback, outage, standstill, crash, proofs, main, behind, lost, detach, close,
    cheapest, failing,
]  # fmt: skip


def play(scenario, programs, keep):
    home = Path(tempfile.mkdtemp(prefix=f"tenure-e2e-{scenario.__name__}."))
    began, problem, note = time.monotonic(), None, None
    scene = Scene(scenario.__name__, home, programs)
    try:
        note = scenario(scene)
        scene.sheet()
    except Skipped as e:
        note = f"SKIPPED: {e}"
    except Failure as e:
        problem = str(e)
    except Exception as e:  # of this script, or an answer of another shape than it expects
        where = e.__traceback__.tb_next
        where = f"{Path(where.tb_frame.f_code.co_filename).name}, line {where.tb_lineno}" if where else "play.py"
        problem = f"{type(e).__name__}: {e} ({where})"
    finally:
        scene.close()
    for process in scene.started:
        if "panicked at" in process.text():
            problem = problem or f"{process.log.stem} panicked"
    if problem is None and not keep:
        shutil.rmtree(home, ignore_errors=True)
    return scenario, time.monotonic() - began, problem, note, home


def show_logs(home):
    for log in sorted(home.glob("*.log")):
        lines = log.read_text(errors="replace").splitlines()[-12:]
        print(f"    --- end of {log}")
        for line in lines:
            print("    " + re.sub(r"\x1b\[[0-9;]*m", "", line)[:300])


def interrupted(number, _):
    end_all()
    print("interrupted", file=sys.stderr)
    os._exit(128 + number)


def run(arguments):
    """The command scripts/e2e with these arguments. Returns its exit code."""
    names = {scenario.__name__: scenario for scenario in SCENARIOS}
    asked = [a for a in arguments if not a.startswith("--")]
    options = {a for a in arguments if a.startswith("--")}
    if "--list" in options:
        for scenario in SCENARIOS:
            print(f"{scenario.__name__:<11} {scenario.__doc__}")
        return 0
    if options - {"--keep"} or set(asked) - set(names):
        print(f"usage: scripts/e2e [--list] [--keep] [{'|'.join(names)}]...", file=sys.stderr)
        return 2
    programs = tenure_bin()
    if missing := [p for p in ("tenured", "tenure", "tenure-agent") if not (programs / p).exists()]:
        print(f"{', '.join(missing)} not in {programs}: run scripts/build first", file=sys.stderr)
        return 1
    signal.signal(signal.SIGINT, interrupted)
    signal.signal(signal.SIGTERM, interrupted)
    began, failed = time.monotonic(), []
    with concurrent.futures.ThreadPoolExecutor(LANES) as lanes:
        chosen = [names[n] for n in asked] or SCENARIOS
        for done in concurrent.futures.as_completed([lanes.submit(play, s, programs, "--keep" in options) for s in chosen]):
            scenario, seconds, problem, note, home = done.result()
            word = "FAILED" if problem is not None else "ok    " if not str(note).startswith("SKIPPED") else "SKIPPED"
            print(f"{word} {scenario.__name__:<11} {seconds:5.1f} s  {note or scenario.__doc__}", flush=True)
            if problem is not None:
                failed.append(scenario.__name__)
                print(f"    {problem}")
                show_logs(home)
    print(f"{len(chosen) - len(failed)} passed, {len(failed)} failed in {time.monotonic() - began:.0f} s" + (f": {', '.join(failed)}" if failed else ""))
    return 1 if failed else 0
