"""Look the locked packages up among known vulnerabilities: `python infra/locks/audit.py`, with pip-audit.

Ends with 1 where one is known. Says how many packages the data answered for: where it cannot be reached, as behind a
mirror that has files only, nothing was looked up, and that is no clean bill.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

LOCKS = Path(__file__).resolve().parent
LIMIT_S = 60.0


def audit(lock: Path) -> list[dict[str, Any]]:
    """pip-audit's finding on each package: `name`, `version`, `vulns`, or `skip_reason`; empty without an answer."""
    command = [sys.executable, "-m", "pip_audit", "--requirement", str(lock), "--no-deps", "--disable-pip"]
    command += ["--format", "json", "--progress-spinner", "off", "--timeout", "5"]
    try:
        done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=LIMIT_S)
        findings: list[dict[str, Any]] = json.loads(done.stdout)["dependencies"]
    except (subprocess.TimeoutExpired, ValueError):
        return []
    return findings


def summarise(name: str, findings: list[dict[str, Any]]) -> tuple[str, bool]:
    """A line on what is known of a lock's packages, and whether it is bad."""
    answered = [one for one in findings if "skip_reason" not in one]
    if not answered:
        return f"audit of {name}: NOT DONE, the data on vulnerabilities could not be reached", False
    bad = [
        f"{one['name']} {one['version']}: {', '.join(found['id'] for found in one['vulns'])}"
        for one in answered
        if one["vulns"]
    ]
    said = "; ".join(bad) or "no known vulnerability"
    return f"audit of {name}: {said} ({len(answered)} of {len(findings)} packages looked up)", bool(bad)


def main() -> None:
    """Audit each lock that an environment of its own is made from."""
    results = [summarise(name, audit(LOCKS / name)) for name in ("cpu.txt", "torch.txt", "label-studio.txt")]
    for line, _ in results:
        print(line)
    sys.exit(any(bad for _, bad in results))


if __name__ == "__main__":
    main()
