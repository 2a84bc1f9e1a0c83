"""Reads a rollup directory with DuckDB, Polars, pyarrow and pandas, and compares with argv[2]."""
import json
import sys

import duckdb
import pandas
import polars
import pyarrow.dataset
import pyarrow.types

root, expected = sys.argv[1], json.loads(sys.argv[2])
glob = f"{root}/**/*.parquet"


def check(tool, rows):
    found = {}
    for resolution, metric, host, count, samples, changes, low, high in rows:
        found[f"{resolution} {metric} {host}"] = {
            "rows": int(count),
            "count": int(samples),
            "changes": int(changes),
            "min": float(low),
            "max": float(high),
        }
    assert found == expected, f"{tool}: {found} instead of {expected}"
    print(f"{tool}: {len(found)} groups agree")


check(
    f"duckdb {duckdb.__version__}",
    duckdb.sql(
        f"""SELECT resolution, metric, label_host, count(*), sum("count"), sum(changes), min("min"), max("max")
        FROM read_parquet('{glob}', hive_partitioning=true) GROUP BY ALL"""
    ).fetchall(),
)
types = dict(
    duckdb.sql(
        f"SELECT column_name, column_type FROM (DESCRIBE SELECT * FROM read_parquet('{glob}', hive_partitioning=true))"
    ).fetchall()
)
# "Host" came first and has its name; DuckDB would take "host" for the same.
for column in ["metric", "Host", "label_host", "label_day", "label_sum"]:
    assert types[column] == "VARCHAR", (column, types)
assert types["bucket_end"] == "TIMESTAMP WITH TIME ZONE" and types["day"] == "DATE", types

keys = ["resolution", "metric", "label_host"]
frame = polars.read_parquet(glob, hive_partitioning=True)
text = [polars.col(name).cast(polars.String) for name in keys]
grouped = frame.with_columns(text).group_by(keys).agg(
    polars.len(),
    polars.col("count").sum(),
    polars.col("changes").sum(),
    polars.col("min").min(),
    polars.col("max").max(),
)
check(f"polars {polars.__version__}", grouped.rows())

table = pyarrow.dataset.dataset(root, partitioning="hive").to_table()
frame = table.to_pandas()
for column in ["metric", "label_host"]:
    assert set(map(type, frame[column].dropna())) == {str}, column
grouped = frame.groupby([frame[name].astype(str) for name in keys]).agg(
    rows=("count", "size"),
    count=("count", "sum"),
    changes=("changes", "sum"),
    low=("min", "min"),
    high=("max", "max"),
)
check(f"pyarrow {pyarrow.__version__}, pandas {pandas.__version__}", grouped.reset_index().values.tolist())
