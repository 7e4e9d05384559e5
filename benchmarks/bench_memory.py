"""Peak memory of a whole job for 2,000, 30,000 and 90,000 rows: it should be the same."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import tempfile
from pathlib import Path

from harness import Job, config, emulator, hub, peak_mb, table, write_rows

COUNTS = (2_000, 30_000, 90_000)


def measured(url: str, count: int, result_format: str) -> float:
    """Peak of a process that does the whole job and nothing else; MB."""
    with tempfile.TemporaryDirectory() as scratch:
        rows = write_rows(Path(scratch, "rows.jsonl"), count)
        command = [sys.executable, __file__, url, str(rows), scratch, result_format, str(count)]
        return float(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)


async def job(url: str, rows: str, scratch: str, result_format: str, count: str) -> None:
    """Run in a process of its own: plan, cut, submit, land, finish."""
    accounts = hub("openai", url)
    manifest = await Job(accounts, Path(scratch, "storage"), config(Path(rows), result_format)).run()
    await accounts.aclose()
    assert manifest.counts["succeeded"] == int(count), manifest.counts
    print(peak_mb())


def main() -> None:
    """Compare."""
    print(
        "Peak resident memory of a process that plans, cuts, submits, lands and finishes (OpenAI's SDK, batches of up\n"
        "to 50,000 rows of 600 bytes); the emulator runs in another process. The ratios say how memory grows.\n"
    )
    lines = []
    with emulator() as url:
        for result_format in ("jsonl", "parquet"):
            few, some, many = (measured(url, count, result_format) for count in COUNTS)
            peaks = [f"{peak:.0f} MB" for peak in (few, some, many)]
            lines.append((result_format, *peaks, f"{many / few:.2f} x", f"{many / some:.2f} x"))
    table(("results", *(f"{count:,} rows" for count in COUNTS), "45 x the rows", "3 x the rows"), lines)
    print("\nParquet gathers row groups of 10,000 rows, which 2,000 rows do not fill.")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        asyncio.run(job(*sys.argv[1:]))
    else:
        main()
