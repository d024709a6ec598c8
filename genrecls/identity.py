"""The id of a run: what the same command finds it by."""

import hashlib
import json
from typing import Any

from genrecls import config
from genrecls.config import SCHEMA, Config

ALWAYS_HASHED = {
    ("split", "policy"),
    *(("compute", field) for field in ("device", "kernels", "precision", "threads")),
}
"""Settings that are resolved on the spot, so that their default says nothing about their value."""


def run_id(settings: Config, fingerprint: str, cache_key: str) -> str:
    """12 hexadecimal digits that change with every setting that can change a bit.

    settings: resolved. A field at its default is left out, so that a field added later leaves old ids as
    they are.
    """
    described: dict[str, Any] = {"schema": SCHEMA, "fingerprint": fingerprint, "cache": cache_key}
    described["model.name"] = settings.model.name
    values = settings.values()
    for section in settings.sections():
        applying = values[section.section]
        for field, known in config.described(type(section)):
            if not known.changes_bits or field.name not in applying:
                continue
            value = applying[field.name]
            if value != field.default or (section.section, field.name) in ALWAYS_HASHED:
                described[f"{section.section}.{field.name}"] = value
    return hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()[:12]
