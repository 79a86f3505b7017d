"""DuckDB writes a Parquet file to the endpoint and reads parts of it back by ranges."""

import pathlib
import sys

import duckdb
import duckdb_extension_httpfs

ADDRESS, BUCKET, KEY, SECRET, ROWS = *sys.argv[1:5], int(sys.argv[5])
EXTENSIONS = pathlib.Path(duckdb_extension_httpfs.__file__).parent / "extensions" / f"v{duckdb.__version__}"
db = duckdb.connect()
db.execute(f"LOAD '{EXTENSIONS / 'httpfs.duckdb_extension'}'")
db.execute(
    f"CREATE SECRET s (TYPE s3, KEY_ID '{KEY}', SECRET '{SECRET}', REGION 'us-east-1', "
    f"ENDPOINT '{ADDRESS}', URL_STYLE 'path', USE_SSL false)"
)
whole = f"(SELECT range AS id, range % 1000 AS part, hash(range) AS noise FROM range({ROWS}))"
db.execute(f"COPY {whole} TO 's3://{BUCKET}/t/whole.parquet' (FORMAT parquet)")
found = db.execute(f"SELECT count(*), sum(id), sum(part) FROM read_parquet('s3://{BUCKET}/t/whole.parquet')").fetchone()
wanted = db.execute(f"SELECT count(*), sum(id), sum(part) FROM {whole}").fetchone()
assert found == wanted, (found, wanted)
one = db.execute(f"SELECT noise = hash(id) FROM read_parquet('s3://{BUCKET}/t/*.parquet') WHERE id = {ROWS // 2}").fetchall()
assert one == [(True,)], one
print("read", found[0], "rows")
