"""The seal of a finished run: digests of all files that decide or document a figure, held by one of `run.json` itself.

It shows what was changed, cut short or mixed up since training and evaluation wrote it. It is no signature: whoever
means to forge a run can compute it anew, and only training it again (`genrecls reproduce`) shows that.
"""

from collections.abc import Mapping
from typing import Any

from genrecls.digests import json_sha256, without
from genrecls.reading import Damaged, checked, field

TRAINED = {
    "config.toml": "every setting; the run's id is recomputed from it, too",
    "corpus.csv": "what the clips are and how they are labelled",
    "spans.csv": "who trains, validates and tests",
    "environment.json": "what the figures were made with, and where the corpus lay",
    "initial.safetensors": "what runs are compared by",
    "normalisation.safetensors": "what the model sees",
    "best.safetensors": "what the model says",
    "metrics.jsonl": "the curves that are shown",
    "draws.jsonl": "what runs are compared by",
    "timing.jsonl": "the times and speeds that are shown",
}
"""What training seals, those that there are, and what each of them is good for."""
UNSEALED = {
    "run.json": "it holds the seal, which is of all the rest of it",
    ".lock": "empty; who holds it is known to the system alone",
    "tags.txt": "what its user calls the run, shown beside figures and never one of them",
    "pruned.json": "of unfinished runs, which have no figures",
    "checkpoints": "of unfinished runs; each state has a digest of its own, and training starts anew without one",
    "model.onnx": "made from sealed files by `genrecls export`, and read by no command",
    "report.html": "made from sealed files by `genrecls report`, and read by no command",
}
"""Files of a run that decide nothing, and why."""
SEALED_BY_EVALUATE = "evaluation/"
"""What the names begin with that `genrecls evaluate` seals: metrics and predictions of each subset."""


def sealed(record: Mapping[str, Any], files: Mapping[str, str]) -> dict[str, Any]:
    """A record of `run.json` with these digests, by the file's name below the run's folder, and its seal."""
    made = {**without(record, "seal"), "files": dict(sorted(files.items()))}
    return {**made, "seal": json_sha256(made)}


def files_of(record: Mapping[str, Any]) -> dict[str, str] | None:
    """The digests that a sealed record holds; None where it has no seal, as in an earlier version's and before the end.

    Raises Damaged where the record is not what was sealed.
    """
    if "seal" not in record and "files" not in record:
        return None
    if field(record, "seal", str) != json_sha256(without(record, "seal")):
        raise Damaged("it is not what was sealed")
    return {name: checked(each, name, str) for name, each in field(record, "files", dict).items()}
