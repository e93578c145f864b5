#!/usr/bin/env python3
"""The query language beside DuckDB and ClickHouse (chDB), each on its own store, in one run: values of
`dynamic` columns, mv-expand, parse, extract, make-series, join.

    bench.py [--rows N] [--dir DIR] [--bin DIR] [--rounds N] [--reps N]

Needs `pip install duckdb chdb` and the release build of `logs_ingest` and `logs_query` in the folder of
`--bin`. The rows are made by a seed, as JSON lines, and each engine loads those lines; loads are timed
too. Each engine is one process (ours) or one thread pool of this one (peers), two threads each; the time
is seen from outside, the median of `--reps` hot runs, the better of two rounds. An answer of which the
count of rows or the total of all numbers differs from the others' is reported, and ends with status 1.
"""
import argparse
import json
import math
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

import chdb.session
import duckdb

# name, KQL, DuckDB, ClickHouse
QUERIES = [
    ("dynamic, group by a member",
     "Calls_CL | summarize n = count(), c = sum(toreal(P.cost)) by city = tostring(P.user.city)",
     "SELECT P->>'$.user.city' city, count(*), sum((P->>'$.cost')::DOUBLE) FROM calls GROUP BY 1",
     "SELECT P.user.city::String city, count(), sum(P.cost::Float64) FROM calls GROUP BY 1"),
    ("dynamic, filter by a member",
     "Calls_CL | where toint(P.code) == 503 | summarize n = count(), ms = sum(toreal(P.ms))",
     "SELECT count(*), sum((P->>'$.ms')::DOUBLE) FROM calls WHERE (P->>'$.code')::INT = 503",
     "SELECT count(), sum(P.ms::Float64) FROM calls WHERE P.code::Int64 = 503"),
    ("dynamic, an item of an array",
     "Calls_CL | summarize s = sum(tolong(P.values[1])), n = sum(array_length(P.values))",
     "SELECT sum((P->>'$.values[1]')::BIGINT), sum(json_array_length(P, '$.values')) FROM calls",
     "SELECT sum((P.values::Array(Int64))[2]), sum(length(P.values::Array(Int64))) FROM calls"),
    ("mv-expand of numbers",
     "Calls_CL | mv-expand v = P.values to typeof(long) | summarize n = count(), s = sum(v)",
     "SELECT count(*), sum(v) FROM (SELECT unnest((P->'$.values')::BIGINT[]) v FROM calls)",
     "SELECT count(), sum(v) FROM (SELECT arrayJoin(P.values::Array(Int64)) v FROM calls)"),
    ("mv-expand, group by the items",
     "Calls_CL | mv-expand t = P.tags to typeof(string) | summarize n = count() by t",
     "SELECT t, count(*) FROM (SELECT unnest((P->'$.tags')::VARCHAR[]) t FROM calls) GROUP BY 1",
     "SELECT t, count() FROM (SELECT arrayJoin(P.tags::Array(String)) t FROM calls) GROUP BY 1"),
    ("bag_unpack of a fifth",
     "Calls_CL | where Id < {fifth} | project P | evaluate bag_unpack(P) | summarize sum(cost), dcountif(code, code > 0), sum(ms)",
     "SELECT sum(p.cost), count(DISTINCT p.code), sum(p.ms) FROM (SELECT json_transform(P, "
     "'{{\"cost\":\"DOUBLE\",\"code\":\"BIGINT\",\"ms\":\"BIGINT\",\"tags\":[\"VARCHAR\"],\"values\":[\"BIGINT\"],"
     "\"user\":{{\"name\":\"VARCHAR\",\"city\":\"VARCHAR\"}}}}') p FROM calls WHERE Id < {fifth})",
     "SELECT sum(P.cost::Float64), uniqExact(P.code::Int64), sum(P.ms::Int64) FROM calls WHERE Id < {fifth}"),
    ("parse",
     "Calls_CL | parse Message with 'user=' u:string ' took ' ms:long 'ms code=' code:long ' ' * | summarize n = count(), s = sum(ms) by code",
     "SELECT g.code::BIGINT, count(*), sum(g.ms::BIGINT) FROM (SELECT regexp_extract(Message, "
     "'^user=(.*?) took ([0-9]+)ms code=([0-9]+) ', ['u', 'ms', 'code']) g FROM calls) GROUP BY 1",
     "SELECT g[3]::Int64 c, count(), sum(g[2]::Int64) FROM (SELECT extractGroups(Message, "
     "'^user=(.*?) took ([0-9]+)ms code=([0-9]+) ') g FROM calls) GROUP BY 1"),
    ("extract",
     "Calls_CL | summarize n = count() by p = extract(@'path=(/[a-z]+/[a-z]+)', 1, Message)",
     "SELECT regexp_extract(Message, 'path=(/[a-z]+/[a-z]+)', 1) p, count(*) FROM calls GROUP BY 1",
     "SELECT extract(Message, 'path=(/[a-z]+/[a-z]+)') p, count() FROM calls GROUP BY 1"),
    ("make-series",
     "Calls_CL | make-series n = count() default = 0 on TimeGenerated from datetime({day}) to datetime({day}) + 1d step 10m by Host",
     "SELECT Host, list(n ORDER BY b) FROM (SELECT h.Host, t.b, count(c.Id) n FROM (SELECT DISTINCT Host FROM calls) h "
     "CROSS JOIN range(0, 144) t(b) LEFT JOIN (SELECT Host, Id, (epoch_us(TimeGenerated) - epoch_us(TIMESTAMP '{day}')) // 600000000 b FROM calls) c "
     "ON c.Host = h.Host AND c.b = t.b GROUP BY 1, 2) GROUP BY 1",
     "SELECT Host, sumMap([intDiv(toUInt32(TimeGenerated - toDateTime('{day}')), 600)], [1]).2 FROM calls GROUP BY 1"),
    ("join of a fifth with all",
     "Calls_CL | join kind=inner (Calls_CL | where Id < {fifth} | project Next, L = Id) on $left.Id == $right.Next | summarize n = count(), s = sum(L)",
     "SELECT count(*), sum(b.Id) FROM calls a JOIN (SELECT Next, Id FROM calls WHERE Id < {fifth}) b ON a.Id = b.Next",
     "SELECT count(), sum(b.Id) FROM calls a JOIN (SELECT Next, Id FROM calls WHERE Id < {fifth}) b ON a.Id = b.Next"),
]
DAY = "2026-11-30"
MAKE = """
COPY (
  SELECT strftime(TIMESTAMP '{day}' + to_microseconds((i * 86400000000 // {rows})::BIGINT), '%Y-%m-%dT%H:%M:%S.%fZ') AS "TimeGenerated",
    i AS "Id", (i * 7919 + 13) % {rows} AS "Next", 'host' || (i * 31 % 200) AS "Host",
    'user=u' || (i * 17 % 5000) || ' took ' || (i * 7 % 1000) || 'ms code=' || [200, 200, 204, 404, 503][1 + i % 5]
      || ' path=/' || ['api', 'web', 'img'][1 + i % 3] || '/' || ['cart', 'item', 'user', 'pay'][1 + (i // 3) % 4] || '?id=' || i AS "Message",
    {{'code': [200, 200, 204, 404, 503][1 + i % 5], 'ms': i * 7 % 1000, 'cost': (i % 1000) / 8,
      'user': {{'name': 'u' || (i * 17 % 5000), 'city': ['Oslo', 'Rome', 'Lima', 'Pune', 'Kyiv', 'Bonn'][1 + i % 6]}},
      'tags': list_slice(['new', 'eu', 'paid', 'beta'], 1 + i % 2, 2 + i % 3),
      'values': [i % 10, i % 100, i % 1000]}} AS "P"
  FROM range({rows}) t(i)
) TO '{path}' (FORMAT JSON)
"""


def total(cell):
    if isinstance(cell, bool) or cell is None or isinstance(cell, str):
        return 0.0
    if isinstance(cell, (list, tuple)):
        return sum(map(total, cell))
    return float(cell) if isinstance(cell, (int, float)) else 0.0


class Ours:
    name = "ours"

    def __init__(self, lines, folder, programs):
        begin = time.perf_counter()
        subprocess.run([os.path.join(programs, "logs_ingest"), lines, "Calls_CL", folder], check=True, stdout=subprocess.DEVNULL)
        self.load = time.perf_counter() - begin
        self.process = subprocess.Popen([os.path.join(programs, "logs_query"), folder], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def run(self, kql, duck, click):
        self.process.stdin.write(json.dumps({"id": "q", "kql": kql}) + "\n")
        self.process.stdin.flush()
        answer = json.loads(self.process.stdout.readline())
        if "error" in answer:
            raise RuntimeError(answer["error"])
        return answer["rows"], answer["sum"]

    def close(self):
        self.process.stdin.close()
        self.process.wait()


class Duck:
    name = f"DuckDB {duckdb.__version__}"

    def __init__(self, lines, folder, programs):
        begin = time.perf_counter()
        self.base = duckdb.connect(os.path.join(folder, "duck.db"), config={"threads": 2})
        self.base.execute(f"""CREATE TABLE calls AS SELECT * FROM read_json('{lines}', format='newline_delimited', columns=
            {{TimeGenerated: 'TIMESTAMP', Id: 'BIGINT', Next: 'BIGINT', Host: 'VARCHAR', Message: 'VARCHAR', P: 'JSON'}})""")
        self.base.execute("CHECKPOINT")
        self.load = time.perf_counter() - begin

    def run(self, kql, duck, click):
        rows = self.base.execute(duck).fetchall()
        return len(rows), total(rows)

    def close(self):
        self.base.close()


class Click:
    name = "ClickHouse (chDB)"

    def __init__(self, lines, folder, programs):
        begin = time.perf_counter()
        self.session = chdb.session.Session(folder)
        self.session.query("SET max_threads = 2")
        self.session.query("CREATE DATABASE IF NOT EXISTS bench")
        self.session.query("CREATE TABLE bench.calls (TimeGenerated DateTime64(6, 'UTC'), Id Int64, Next Int64, Host LowCardinality(String), Message String, P JSON) ENGINE = MergeTree ORDER BY TimeGenerated")
        self.session.query(f"INSERT INTO bench.calls SELECT * FROM file('{lines}', JSONEachRow, 'TimeGenerated DateTime64(6, \\'UTC\\'), Id Int64, Next Int64, Host String, Message String, P JSON') SETTINGS date_time_input_format = 'best_effort'")
        self.load = time.perf_counter() - begin

    def run(self, kql, duck, click):
        text = click.replace("FROM calls", "FROM bench.calls")
        answer = str(self.session.query(text + " SETTINGS max_threads = 2, use_query_condition_cache = 0, output_format_json_quote_64bit_integers = 0", "JSONCompactEachRow"))
        rows = [json.loads(line) for line in answer.splitlines()]
        return len(rows), total(rows)

    def close(self):
        self.session.close()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=5_000_000)
    parser.add_argument("--dir", help="where the data are made (default: a temporary folder)")
    parser.add_argument("--bin", default="target/release", help="where logs_ingest and logs_query are")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--reps", type=int, default=5)
    options = parser.parse_args()
    folder = tempfile.mkdtemp(dir=options.dir)
    lines = os.path.join(folder, "calls.ndjson")
    duckdb.execute(MAKE.format(day=DAY, rows=options.rows, path=lines))
    engines = []
    for kind in (Ours, Duck, Click):
        own = os.path.join(folder, kind.__name__)
        os.mkdir(own)
        engines.append(kind(lines, own, options.bin))
    print(f"{options.rows} rows, {os.path.getsize(lines) / 1e6:.0f} MB of JSON lines, two threads; load:",
          ", ".join(f"{engine.name} {engine.load:.1f} s" for engine in engines))
    best, answers, wrong = {}, {}, False
    for _ in range(options.rounds):
        for engine in engines:
            for name, *texts in QUERIES:
                texts = [text.format(fifth=options.rows // 5, day=DAY) for text in texts]
                times = []
                for _ in range(options.reps + 1):
                    begin = time.perf_counter()
                    try:
                        answers[engine.name, name] = engine.run(*texts)
                    except Exception as error:
                        wrong = True
                        print(f"FAILED: {engine.name}, {name}: {error}", file=sys.stderr)
                        break
                    times.append((time.perf_counter() - begin) * 1e3)
                if len(times) > 1:
                    hot = statistics.median(times[1:])
                    best[engine.name, name] = min(hot, best.get((engine.name, name), hot))
    print(f"\n{'ms, hot':32}" + "".join(f"{engine.name:>20}" for engine in engines) + f"{'ratio':>8}")
    ratios = []
    for name, *_ in QUERIES:
        found = [answers.get((engine.name, name)) for engine in engines]
        if any(a != found[0] and not (a and found[0] and a[0] == found[0][0] and math.isclose(a[1], found[0][1], rel_tol=1e-9)) for a in found):
            wrong = True
            print(f"FAILED: {name}: answers differ: {found}", file=sys.stderr)
        figures = [best.get((engine.name, name)) for engine in engines]
        peers = [figure for figure in figures[1:] if figure]
        ratio = figures[0] / min(peers) if figures[0] and peers else None
        ratios += [ratio] if ratio else []
        print(f"{name:32}" + "".join(f"{figure:20.1f}" if figure else f"{'-':>20}" for figure in figures) + (f"{ratio:8.2f}" if ratio else ""))
    if ratios:
        print(f"{'geometric mean of the ratios':32}{'':60}{math.exp(sum(map(math.log, ratios)) / len(ratios)):8.2f}")
    for engine in engines:
        engine.close()
    shutil.rmtree(folder)
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
