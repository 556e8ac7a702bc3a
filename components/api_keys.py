"""How API keys are written down: which are accepted, and whose users each speaks for."""

from __future__ import annotations

import re

from components.stage import StageError

KEYS = "ATELIER_API_KEYS"
KEYS_FILE = "ATELIER_API_KEYS_FILE"  # read before the variable, and again whenever it changes
TENANT = re.compile(r"[a-z0-9_-]{1,32}")
DEFAULT = "default"  # the tenant of a single key without a name


def accepted_keys(text: str) -> dict[str, str]:
    """Each key and its tenant, from `tenant:key` with commas between; a single key needs no tenant.

    Keys of one tenant share their users, so that one may replace another. Raises `StageError`, which names no key.
    """
    entries = [entry.strip() for entry in text.split(",") if entry.strip()]
    if not entries:
        raise StageError(f"{KEYS} is empty: set it to one or more API keys, separated by commas")
    tenants: dict[str, str] = {}
    for number, entry in enumerate(entries, 1):
        tenant, _, key = entry.partition(":")
        if len(entries) == 1 and ":" not in entry:
            tenant, key = DEFAULT, entry
        if not key or not TENANT.fullmatch(tenant) or tenants.setdefault(key, tenant) != tenant:
            same = f"{DEFAULT}:KEY1,{DEFAULT}:KEY2 where both speak for the users that a single key has had"
            needs = f"of several keys each needs one tenant, named by {TENANT.pattern}"
            raise StageError(f"{KEYS}: key {number}: {needs}: {same}, {DEFAULT}:KEY1,acme:KEY2 where they do not")
    return tenants
