"""Keeps rows of the regions that the clients' tests ran, as the corpus that later releases must read.

    python -m pytest -p keep_rows tests/clients/test_service*.py tests/clients/test_ec*.py

with PYTHONPATH=tests/clients, LONGSHORE_CORPUS naming the file to write, and TMPDIR a directory of its own, since
every `region.sqlite` below it is read. Of all rows seen, the fewest are written that show every member, every absent
member and every word of an enum (docs/runbooks/add-a-schema-step.md).
"""

import json
import os
import re
import sqlite3
import tempfile
from pathlib import Path

ROW_CHARS_MAX = 6000
seen = {}


def pytest_runtest_logreport(report):
    if report.when != "call":
        return
    for path in Path(tempfile.gettempdir()).rglob("region.sqlite"):
        try:
            with sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=2) as database:
                for row in database.execute("SELECT kind, account, id, value FROM rows"):
                    seen[row] = None
        except sqlite3.Error:
            continue  # A region that is being taken away; the others have the same kinds of rows.


def pytest_sessionfinish():
    rows = sorted(chosen(row for row in seen if len(row[3]) <= ROW_CHARS_MAX))
    with open(os.environ["LONGSHORE_CORPUS"], "w") as corpus:
        for kind, account, id_, value in rows:
            line = {"kind": kind, "account": account, "id": id_, "value": json.loads(value)}
            corpus.write(json.dumps(line, separators=(",", ":"), ensure_ascii=False) + "\n")


def chosen(rows):
    """The row that shows most of what none before it showed, again and again."""
    shown = {row: {(row[0], what) for what in features(json.loads(row[3]))} for row in rows}
    known = set()
    while shown:
        best = max(shown, key=lambda row: (len(shown[row] - known), -len(row[3])))
        if not shown[best] - known:
            return
        known |= shown.pop(best)
        yield best


def features(value, path=""):
    if isinstance(value, dict):
        for name, member in value.items():
            # Keys that are data (tags, names) are one feature together.
            yield from features(member, f"{path}.{name if re.fullmatch('[A-Za-z]+', name) else '*'}")
    elif isinstance(value, list) and value:
        for item in value:
            yield from features(item, f"{path}[]")
    elif isinstance(value, str) and not re.fullmatch("[A-Z][A-Za-z_]{2,24}", value):
        yield path
    elif isinstance(value, int) and not isinstance(value, bool):
        yield path
    else:
        yield f"{path}={value}"
