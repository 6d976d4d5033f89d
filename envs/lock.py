"""Write the lock of the tests' environment: every package with its version and hash.

    pip install --ignore-installed --dry-run --quiet --report report.json ".[test]"
    python envs/lock.py report.json > envs/test-lock.txt

The hashes are those of the files that pip chose: it holds for one Python and one kind of machine.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path


def main() -> None:
    """Print the lock of a report of pip's."""
    report = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    where = report["environment"]
    python, system = where["python_version"], f"{where['sys_platform']} {where['platform_machine']}"
    sys.stdout.write(f"# Python {python}, {system}; written by envs/lock.py\n")
    lines = []
    for one in report["install"]:
        archive = one["download_info"].get("archive_info")
        if archive is not None:  # this package itself has none
            meta = one["metadata"]
            digest = archive["hashes"]["sha256"]
            lines.append(f"{meta['name'].lower()}=={meta['version']} --hash=sha256:{digest}\n")
    sys.stdout.writelines(sorted(lines))


if __name__ == "__main__":
    main()
