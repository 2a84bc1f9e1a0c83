#!/usr/bin/env python3
"""SQL here and in DuckDB, over the same rows, in the same run: time, bytes read, answers.

    python3 benches/sql_duckdb.py http://127.0.0.1:9090 DATA_DIR [--metric=m_total] [--rounds=3]

DATA_DIR is the server's data directory, whose rollups DuckDB reads where they lie. Raw samples are
exported once, through the server's own API, to DATA_DIR/raw.parquet. Every round asks the server,
then a new DuckDB process with two threads and without its cache of files; times are medians, each
of the statement alone. Our bytes are the server's `bytesRead`; DuckDB's are what the process read
around the statement (`rchar` of /proc/self/io). Both find the files in the system's page cache.
Needs `pip install duckdb pyarrow`, and Linux. The metric must have the labels `g` and `n`, as the
data of benches/rollups.rs has, and no stale markers, which SQL here leaves out.
"""

import argparse
import json
import math
import os
import pathlib
import statistics
import subprocess
import sys
import time
import urllib.parse
import urllib.request

# What is asked, and of which table. {last} is the value at the greatest time, {from} and {to} are
# an hour in the middle; half of all values are above {middle}, few above {high} and {highest}.
STATEMENTS = [
    ("raw", "SELECT count(*) FROM raw"),
    ("raw", "SELECT count(*), min(time), max(time) FROM raw WHERE time >= {from}"),
    ("raw", "SELECT g, count(*), min(value), max(value) FROM raw GROUP BY g"),
    ("raw", "SELECT count(*) FROM raw WHERE value > {high}"),
    ("raw", "SELECT count(*) FROM raw WHERE value > {middle}"),
    ("raw", "SELECT n, time, value FROM raw WHERE value > {highest}"),
    ("raw", "SELECT g, avg(value) FROM raw GROUP BY g"),
    ("raw", "SELECT {hour} AS t, avg(value) FROM raw GROUP BY t"),
    ("raw", "SELECT {day} AS t, g, max(value) FROM raw GROUP BY t, g"),
    ("raw", "SELECT g, stddev(value) FROM raw GROUP BY g"),
    ("raw", "SELECT n, {last} FROM raw GROUP BY n"),
    ("raw", "SELECT g, sum(value) FROM raw WHERE time >= {from} AND time < {to} GROUP BY g"),
    ("raw", "SELECT time, value FROM raw WHERE n = '00007' AND time >= {from} AND time < {to}"),
    ("raw", "SELECT time, n, value FROM raw ORDER BY time DESC, n LIMIT 10"),
    ("rollup_1m", "SELECT count(*) FROM rollup_1m"),
    ("rollup_1m", "SELECT g, max(max) FROM rollup_1m GROUP BY g"),
    ("rollup_1m", "SELECT {day_of_bucket} AS t, sum(count) FROM rollup_1m GROUP BY t"),
    ("rollup_5m", "SELECT g, sum(sum) / sum(count) FROM rollup_5m GROUP BY g"),
    ("rollup_1h", "SELECT g, max(max) FROM rollup_1h GROUP BY g"),
    ("rollup_1h", "SELECT last FROM rollup_1h WHERE n = '00007' AND bucket_end >= {from}"),
]

# Two numbers may differ by this, relative to the greater: sums are added in different orders.
TOLERANCE = 1e-9


def ours(url, statement):
    """Rows, and the seconds until all were here."""
    import pyarrow.ipc

    form = urllib.parse.urlencode({"query": statement, "format": "arrow"}).encode()
    started = time.perf_counter()
    with urllib.request.urlopen(f"{url}/api/v1/sql", form) as answer:
        body = answer.read()
    seconds = time.perf_counter() - started
    table = pyarrow.ipc.open_stream(body).read_all()
    return [tuple(row.values()) for row in table.to_pylist()], seconds


def bytes_of_ours(url, statement):
    """The bytes that a statement reads, told by another run of it."""
    form = urllib.parse.urlencode({"query": statement, "stats": "all"}).encode()
    with urllib.request.urlopen(f"{url}/api/v1/sql", form) as answer:
        return json.load(answer)["stats"]["bytesRead"]


CHILD = """
import json, sys, time, duckdb
views, statement = json.load(sys.stdin)
connection = duckdb.connect()
connection.execute("SET threads = 2; SET TimeZone = 'UTC'; SET enable_external_file_cache = false")
connection.execute("SET enable_progress_bar = false")
for view in views:
    connection.execute(view)
connection.execute("SELECT 1").fetchall()

def read():
    with open("/proc/self/io") as io:
        return int(next(line for line in io if line.startswith("rchar")).split()[1])

before, started = read(), time.perf_counter()
rows = connection.execute(statement).fetchall()
seconds, after = time.perf_counter() - started, read()
def text(cell):
    return f"{round(cell.timestamp() * 1000)} ms" if hasattr(cell, "timestamp") else cell

rows = [[text(cell) for cell in row] for row in rows]
json.dump([rows, seconds, after - before], sys.stdout)
"""


def duckdb(views, statement):
    """Rows, seconds and bytes of a statement in a DuckDB process of its own."""
    asked = json.dumps([views, statement])
    child = [sys.executable, "-c", CHILD]
    done = subprocess.run(child, input=asked, capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"{statement}\n{done.stderr}")
    return json.loads(done.stdout)


def plain(rows):
    """Rows as lists of numbers and texts, times among the texts, in order of all but the floats."""

    def text(cell):
        return f"{round(cell.timestamp() * 1000)} ms" if hasattr(cell, "timestamp") else cell

    cells = [[text(cell) for cell in row] for row in rows]
    return sorted(cells, key=lambda row: [str(cell) for cell in row])


def same(one, other):
    if isinstance(one, (int, float)) and isinstance(other, (int, float)):
        return one == other or math.isclose(one, other, rel_tol=TOLERANCE)
    return one == other


def agree(one, other):
    one, other = plain(one), plain(other)
    if len(one) != len(other):
        return False
    return all(len(a) == len(b) and all(map(same, a, b)) for a, b in zip(one, other))


def export(url, metric, path):
    query = urllib.parse.urlencode({"match[]": metric, "format": "parquet"})
    part = path.with_suffix(".part")
    with urllib.request.urlopen(f"{url}/api/v1/export?{query}") as answer, open(part, "wb") as file:
        while chunk := answer.read(1 << 20):
            file.write(chunk)
    part.rename(path)


def size(count):
    for unit in ["B", "kB", "MB", "GB"]:
        if count < 1000 or unit == "GB":
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000


def main():
    keep_lines = argparse.RawDescriptionHelpFormatter
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=keep_lines)
    arguments.add_argument("url")
    arguments.add_argument("data_dir", type=pathlib.Path)
    arguments.add_argument("--metric", default="m_total")
    arguments.add_argument("--rounds", type=int, default=3)
    given = arguments.parse_args()
    url, metric, directory = given.url.rstrip("/"), given.metric, given.data_dir.resolve()

    raw = directory / "raw.parquet"
    if not raw.exists():
        export(url, metric, raw)
    views = [f"CREATE VIEW raw AS SELECT * RENAME (timestamp AS time) FROM read_parquet('{raw}')"]
    for resolution in ["1m", "5m", "1h"]:
        files = f"{directory}/rollups/**/*.parquet"
        views.append(
            f"CREATE VIEW rollup_{resolution} AS SELECT * FROM read_parquet('{files}', "
            "hive_partitioning = true, union_by_name = true) "
            f"WHERE resolution = '{resolution}' AND metric = '{metric}'"
        )

    def number(statement):
        return ours(url, statement)[0][0][0]

    table = f'raw."{metric}"'
    start, end = ours(url, f"SELECT min(time), max(time) FROM {table}")[0][0]
    middle = start + (end - start) / 2
    later = middle + (end - start) / max(1, (end - start).total_seconds() / 3600)
    moment = lambda at: f"TIMESTAMP '{at.strftime('%Y-%m-%dT%H:%M:%S')}Z'"
    most = number(f"SELECT max(value) FROM {table}")
    holes = {
        "from": moment(middle),
        "to": moment(later),
        "high": most * 0.99,
        "highest": most * 0.9999,
        "hour": "time_bucket(INTERVAL '1 hour', time)",
        "day": "time_bucket(INTERVAL '1 day', time)",
        "day_of_bucket": "time_bucket(INTERVAL '1 day', bucket_end)",
        "middle": number(f"SELECT approx_median(value) FROM {table}"),
    }
    names = ["raw", "rollup_1m", "rollup_5m", "rollup_1h"]
    counts = {name: number(f'SELECT count(*) FROM {name}."{metric}"') for name in names}
    print(f"{os.uname().nodename}, {os.cpu_count()} cores; medians of {given.rounds} rounds\n")
    print("| statement | rows | AetherDB | DuckDB | ours to its | we read | it reads | agree |")
    print("|---|---|---|---|---|---|---|---|")
    disagree = 0
    for name, text in STATEMENTS:
        mine = text.replace(f"FROM {name}", f'FROM {name}."{metric}"')
        mine = mine.format(last="last(value, time)", **holes)
        its = text.format(last="max_by(value, time)", **holes)
        our_times, its_times = [], []
        for _ in range(given.rounds):
            our_rows, seconds = ours(url, mine)
            our_times.append(seconds)
            its_rows, seconds, its_bytes = duckdb(views, its)
            its_times.append(seconds)
        is_same = agree(our_rows, its_rows)
        disagree += not is_same
        one, other = statistics.median(our_times), statistics.median(its_times)
        cells = [
            f"`{text}`",
            f"{counts[name]:,}",
            f"{one * 1000:,.1f} ms",
            f"{other * 1000:,.1f} ms",
            f"{one / other:.2f}",
            size(bytes_of_ours(url, mine)),
            size(its_bytes),
            "yes" if is_same else "NO",
        ]
        print("| " + " | ".join(cells) + " |", flush=True)
    sys.exit(1 if disagree else 0)


main()
