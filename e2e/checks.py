"""What must hold, and what is known before anything runs."""

import hashlib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DIGITS = ROOT / "workloads" / "digits"
RIGHT_OUTPUT = (DIGITS / "predictions.csv.sha256").read_text().split()[0]
MS_PER_HOUR = 3_600_000
# A price at which a second costs about 1,000 uten and the last digit of every sum depends on every millisecond.
PRICE, RATE = "floor=3.599999ten", 3_599_999
EXIT_WORKLOAD, EXIT_VERIFICATION, EXIT_NOT_FOUND, EXIT_DETACHED = 5, 7, 8, 130  # client/README.md


class Failure(Exception):
    pass


class Skipped(Exception):
    pass


def check(what, got, want):
    if got != want:
        raise Failure(f"{what}: {got!r}, must be {want!r}")


def check_that(what, holds, seen=""):
    if not holds:
        raise Failure(f"not so: {what}" + (f" (seen: {seen})" if seen != "" else ""))


def digest(path):
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()
