"""What models take of a whole corpus, memory-mapped: `res/cache/<dataset>-<key>/`.

The key hashes everything the array depends on, so that a cache is found or it is not: it is never stale.
The array is flat and time-major: `mel.npy`, `mfcc.npy` or `spectrogram.npy`, float16 (total frames, bins), or
`wave.npy`, int16 (total samples,). `index.csv` says which frames or samples are whose, and why a clip has none;
`cache.json`, written last, makes the cache complete.

While it is built, the array grows in `parts/`, by blocks of clips: a killed build goes on with the blocks that are
missing and ends with the same bytes. A file that is not the one of the manifest any more when it has been decoded stops
the build, so that no array is of other audio than its key says.
"""

import io
import shutil
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from genrecls import assembly, atomic, audio, cachefiles, reading, stamp
from genrecls.assembly import Assembly
from genrecls.augment import Variant
from genrecls.cachefiles import SCHEMA, STORED, Row
from genrecls.datasets.index import Corpus
from genrecls.datasets.loader import Progress
from genrecls.digests import text_sha256
from genrecls.errors import GenreclsError
from genrecls.features import Extractor
from genrecls.kernels import in_force
from genrecls.lock import exclusive
from genrecls.manifest import Manifest, file_sha256
from genrecls.reading import Damaged, field
from genrecls.workers import by_blocks

SHORT, LONG, BLOCKS = 8, 16, 32
"""Clips of a block: few, so that a kill costs little and processes end together; more where there are this many blocks,
since each waits for the disk."""
_HEADER = 128
"""Bytes of the header of an array, which NumPy pads."""


@dataclass(frozen=True)
class Cache:
    """A complete cache. rows: of every clip, sorted by clip id. details: `cache.json`."""

    path: Path
    rows: tuple[Row, ...]
    details: dict[str, Any]

    @property
    def key(self) -> str:
        """The hash in the folder's name."""
        key: str = self.details["key"]
        return key

    @property
    def array(self) -> NDArray[Any]:
        """The memory-mapped array."""
        (name,) = self.details["arrays"]
        try:
            shape, dtype, offset = reading.npy_header(self.path / name)
        except Damaged as error:  # It was whole when the cache was opened.
            raise GenreclsError(
                f"{self.path / name} is damaged ({error}): remove the folder {self.path} and run the same command "
                "again."
            ) from error
        return np.memmap(self.path / name, dtype, "r", offset, shape)

    @property
    def failed(self) -> list[Row]:
        """The clips that enter no training."""
        return [row for row in self.rows if row.status != "ok"]

    def verify(self, again: bool = True) -> None:
        """Hash the arrays. Raises GenreclsError where one is not what was written. again: where that was done, too."""
        for name, known in self.details["arrays"].items():
            if not stamp.holds(self.path / name, known["sha256"], again):
                raise GenreclsError(
                    f"{self.path / name} is not what preprocess wrote: remove the folder {self.path} and run the same "
                    "command again."
                )


def parameters(extractor: Extractor, kernels: str, variant: Variant | None = None) -> dict[str, Any]:
    """What the array depends on besides the audio. kernels: "portable" or "native", whose sums differ in bits."""
    made = extractor.parameters
    return {
        "schema": SCHEMA,
        "extractor": {**made["extractor"], "kernels": kernels},
        "decode": audio.PARAMETERS,
        "features": made["features"],
        **({"variant": variant.parameters} if variant else {}),
    }


def key(extractor: Extractor, manifest: Manifest, kernels: str, variant: Variant | None = None) -> str:
    """16 hexadecimal digits that name the cache of what this extractor makes of these files, or of their variants.

    kernels: as for `parameters`.
    """
    return cachefiles.key(parameters(extractor, kernels, variant), manifest.digest)


def ensure(
    corpus: Corpus,
    manifest: Manifest,
    extractor: Extractor,
    res: Path,
    *,
    variant: Variant | None = None,
    progress: Progress,
    say: Callable[[str], None],
    jobs: int = 0,
) -> Cache:
    """The cache of this process's kernels, built or finished where it is not there.

    variant: what is done to the samples of each clip before. jobs: worker processes, 0 for one each core.

    Raises GenreclsError where no clip of the corpus can be used, a file is not the one of the manifest any more, or
    somebody removes the cache's lock meanwhile; OSError where the disk does not take it.
    """
    place = res / "cache" / f"{corpus.name}-{key(extractor, manifest, in_force(), variant)}"
    if not (place / "cache.json").exists():
        waiting = f"Another process builds {place.name}: waiting for it."
        with exclusive(place / ".lock", waiting=lambda: say(waiting)) as held:
            if not (place / "cache.json").exists():
                for remark in extractor.remarks:
                    say(remark)
                try:
                    _build(corpus, manifest, extractor, variant, place, progress, jobs, held)
                except (OSError, GenreclsError) as error:
                    if held():
                        raise
                    raise GenreclsError(
                        f"{place / '.lock'} was removed while this process built the cache: leave the folder alone and "
                        "run the same command again."
                    ) from error
    if (place / "parts").is_dir():  # A builder was killed at its very last step.
        with suppress(OSError), exclusive(place / ".lock", waiting=lambda: None):
            shutil.rmtree(place / "parts")
    return load(place)


def load(place: Path) -> Cache:
    """Open a complete cache. Raises GenreclsError where its files do not fit each other, or are not what was written.

    The array is hashed where that was not done before (`stamp`).
    """
    details, rows = cachefiles.read(place)
    found = Cache(place, rows, details)
    found.verify(again=False)
    return found


def _build(
    corpus: Corpus,
    manifest: Manifest,
    extractor: Extractor,
    variant: Variant | None,
    place: Path,
    progress: Progress,
    jobs: int,
    held: Callable[[], bool],
) -> None:
    blank = []
    for clip in corpus.clips:
        status, reason = clip.known_fault or ("", "")
        row = Row(
            clip=clip.id,
            genre=clip.genre,
            group=clip.group or "",
            official_split=clip.official_split or "",
            path=clip.path.relative_to(corpus.root).as_posix(),
            sha256=manifest.sha256[clip.id],
            first_frame=0,
            frames=0,
            first_sample=0,
            samples=0,
            status=status,
            reason=reason,
        )
        blank.append(row)
    size = min(max(SHORT, len(blank) // BLOCKS), LONG)
    blocks = [
        _Block(
            blank[first : first + size], [clip.path for clip in corpus.clips[first : first + size]], extractor, variant
        )
        for first in range(0, len(blank), size)
    ]
    work = f"rendering variant {variant.number + 1}" if variant else "preprocessing"
    atomic.remove_leftovers(place)
    with assembly.resumed(place / "parts", _HEADER) as array:
        rows: list[Row] = []
        there = 0
        for block, note, size in zip(blocks, array.notes, array.sizes, strict=False):
            if (found := block.noted(note, size)) is None:
                break
            rows += found
            there += 1
        array.keep(there)
        missing = blocks[there:]
        progress(work, len(rows), len(blank))
        left = len(blank) - len(rows)
        extracted = by_blocks(_extract, missing, left, jobs, ["genrecls.features"], "preprocess")
        with closing(extracted) as made:  # On any exception the workers end before the lock is freed.
            for done, content in made:
                _check(held)
                array.append(content, [asdict(row) for row in done])
                rows += done
                progress(work, len(rows), len(blank))
        _check(held)
        _finish(corpus, manifest, extractor, variant, place, rows, array)
    shutil.rmtree(place / "parts")


def _check(held: Callable[[], bool]) -> None:
    if not held():
        raise GenreclsError("another process may be building the same cache")


def _finish(
    corpus: Corpus,
    manifest: Manifest,
    extractor: Extractor,
    variant: Variant | None,
    place: Path,
    rows: list[Row],
    array: Assembly,
) -> None:
    usable = [row for row in rows if row.status == "ok"]
    if not usable:
        shutil.rmtree(place / "parts")
        raise GenreclsError(
            f"None of the {len(rows)} clips below {corpus.root} can be used (the first, {rows[0].clip}: "
            f"{rows[0].reason}): check the files."
        )
    first_frame = first_sample = 0
    for i, row in enumerate(rows):
        rows[i] = replace(row, first_frame=first_frame, first_sample=first_sample)
        first_frame += row.frames
        first_sample += row.samples
    name = f"{extractor.name}.npy"
    shape = (first_sample,) if extractor.width is None else (first_frame, extractor.width)
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        header, {"descr": STORED[extractor.dtype], "fortran_order": False, "shape": shape}
    )
    index = cachefiles.index_text(rows)
    atomic.write_text(place / "index.csv", index)
    size, digest = array.publish(place / name, header.getvalue())
    stamp.put(place / name, digest)
    details = {
        "key": key(extractor, manifest, in_force(), variant),
        "corpus": corpus.name,
        "manifest": manifest.digest,
        **parameters(extractor, in_force(), variant),
        "clips": len(rows),
        "audio_seconds": first_sample / extractor.rate,
        "index_sha256": text_sha256(index),
        "arrays": {name: {"shape": list(shape), "dtype": extractor.dtype, "bytes": size, "sha256": digest}},
    }
    atomic.write_text(place / "cache.json", cachefiles.details_text(details))


@dataclass(frozen=True)
class _Block:
    """Some clips in a row. rows: as they are before extraction; one that has a status already keeps it, undecoded."""

    rows: list[Row]
    paths: list[Path]
    extractor: Extractor
    variant: Variant | None

    def noted(self, note: Any, size: int) -> list[Row] | None:
        """The rows as they are after extraction, of what was noted of them. size: of their arrays, in bytes.

        None where it is of others (another version may have made other blocks) or damaged.
        """
        width = self.extractor.width or 1
        try:
            if not isinstance(note, list) or len(note) != len(self.rows):
                return None
            rows = []
            for row, was in zip(self.rows, (reading.checked(each, "a note", dict) for each in note), strict=True):
                if (field(was, "clip", str), field(was, "sha256", str)) != (row.clip, row.sha256):
                    return None
                # What else is in the note may have been of other labels.
                frames, samples = (field(was, name, int, low=0) for name in ("frames", "samples"))
                status, reason = (field(was, name, str) for name in ("status", "reason"))
                rows.append(replace(row, frames=frames, samples=samples, status=status, reason=reason))
            values = sum((row.samples if self.extractor.width is None else row.frames) * width for row in rows)
            whole = all((row.status == "ok") == (row.samples > 0) for row in rows)
        except Damaged:
            return None
        return rows if whole and values * np.dtype(STORED[self.extractor.dtype]).itemsize == size else None

    def extract(self) -> tuple[list[Row], bytes]:
        """The rows with what became of their clips, and the content of the array, clip after clip."""
        rows, arrays = [], []
        for row, path in zip(self.rows, self.paths, strict=True):
            if row.status:
                rows.append(row)
                continue
            try:
                samples = audio.load(path, self.extractor.rate)
                fault = audio.fault(samples, self.extractor.rate)
            except audio.AudioError as error:
                fault = ("unreadable", str(error))
            if file_sha256(path) != row.sha256:
                raise GenreclsError(
                    f"{path} is not the file that was read before (it was changed or removed meanwhile, or replaced by "
                    "one of the same size and date): leave the corpus alone and run `genrecls preprocess` on it with "
                    "--verify, which reads every file again."
                )
            if fault is not None:
                rows.append(replace(row, status=fault[0], reason=fault[1]))
                continue
            if self.variant is not None:
                samples = self.variant(samples, row.clip)
            array = self.extractor(samples)
            arrays.append(array.astype(STORED[self.extractor.dtype], copy=False).tobytes())
            frames = 0 if self.extractor.width is None else len(array)
            rows.append(replace(row, status="ok", frames=frames, samples=len(samples)))
        return rows, b"".join(arrays)


def _extract(block: _Block) -> tuple[list[Row], bytes]:
    return block.extract()
