"""`radserve infer`: files in, a folder of results out, through the server's own API."""

from __future__ import annotations

import asyncio
import itertools
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from radserve.clinical_context import ClinicalContext
from radserve.dicom_io.files import FoundFile, discover
from radserve.errors import ErrorCode, RadserveError
from radserve.pipelines.authoring import ReportOptions
from radserve.references import StudyRef
from radserve.results import Artifact, StudyFailure
from radserve.server.client import RadserveClient, TextPiece
from radserve.server.console import REFUSED
from radserve.server.result_json import failure_to_json, to_bytes
from radserve.v1 import common_pb2

IMPORT_BATCH = 100
STUDIES_AT_ONCE = 4

WAITS_S = (1, 2, 4, 8, 16, 30, 30)  # an embedded Triton that crashed is there again after some ten seconds
PASSING = frozenset({ErrorCode.MODEL_UNAVAILABLE, ErrorCode.SERVER_BUSY})

OURS = frozenset(
    {
        ErrorCode.INTERNAL,
        ErrorCode.MODEL_UNAVAILABLE,
        ErrorCode.MODEL_OUTPUT_INVALID,
        ErrorCode.PACK_HASH_MISMATCH,
        ErrorCode.PACK_INVALID,
        ErrorCode.SERVER_BUSY,
        ErrorCode.SERVER_UNREACHABLE,
        ErrorCode.STORAGE_FULL,
    }
)
"""Codes that are a fault on our side, not of the input: they make the exit code 1."""


@dataclass(frozen=True, slots=True)
class InferRequest:
    """What the user asked for on the command line."""

    paths: tuple[Path, ...]
    out: Path
    pack: str = ""
    context: ClinicalContext = field(default_factory=ClinicalContext)
    options: ReportOptions = field(default_factory=ReportOptions)
    prompt_set: str = ""
    outputs: tuple[str, ...] = ()


@dataclass(slots=True)
class InferOutcome:
    """What came of it: the folders written, and what was refused."""

    written: dict[str, list[Path]] = field(default_factory=dict)
    failures: list[StudyFailure] = field(default_factory=list)
    has_waited_in_vain: bool = False

    @property
    def exit_code(self) -> int:
        """0 when every study has a result, 1 on a fault of ours, 3 when some input was refused."""
        if any(failure.code in OURS for failure in self.failures):
            return 1
        return REFUSED if self.failures else 0


async def infer(request: InferRequest, client: RadserveClient, console: Console) -> InferOutcome:
    """Import every file, analyse every study, write every result; refusals are collected, the rest goes on."""
    outcome = InferOutcome()
    _make_folder(request.out)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        studies = await _import_all(request, client, outcome, progress)
        stream_text = len(studies) == 1
        task = progress.add_task("Analysing studies", total=len(studies), visible=not stream_text)
        slots = asyncio.Semaphore(STUDIES_AT_ONCE)

        async def one(uid: str, files: list[str]) -> None:
            async with slots:
                try:
                    await _patiently(
                        outcome,
                        lambda: _analyse(request, client, uid, outcome, console, stream_text=stream_text),
                    )
                except RadserveError as error:
                    outcome.failures.append(StudyFailure(error.code, error.client_message, files[0], uid))
                progress.advance(task)

        await asyncio.gather(*(one(uid, files) for uid, files in studies.items()))
    try:
        _write_failures(request.out / "failures.json", outcome.failures)
    except RadserveError as error:  # what was refused is still to be printed
        outcome.failures.append(StudyFailure(error.code, error.client_message, "failures.json"))
    return outcome


async def _patiently(outcome: InferOutcome, analyse: Callable[[], Awaitable[None]]) -> None:
    """Analyse, and again where the models are away that have answered before: a batch need not fail by one crash."""
    for wait_s in WAITS_S:
        try:
            return await analyse()
        except RadserveError as error:
            if error.code not in PASSING or not outcome.written or outcome.has_waited_in_vain:
                raise
        await asyncio.sleep(wait_s)
    try:
        await analyse()
    except RadserveError as error:
        outcome.has_waited_in_vain |= error.code in PASSING
        raise


async def _import_all(
    request: InferRequest, client: RadserveClient, outcome: InferOutcome, progress: Progress
) -> dict[str, list[str]]:
    """Import what is found; return the files of each study, in the order of their first file."""
    studies: dict[str, list[str]] = defaultdict(list)
    task = progress.add_task("Importing DICOM", total=None)
    for batch in _batches(discover(request.paths), IMPORT_BATCH):
        outcome.failures += [found for found in batch if isinstance(found, StudyFailure)]
        files = [found for found in batch if isinstance(found, FoundFile)]
        for imported in await client.import_files(files) if files else ():
            if imported.error:
                error = imported.error
                outcome.failures.append(StudyFailure(error.code, error.client_message, imported.reference))
            else:
                # The UID becomes a folder name: what a server says is checked before it does.
                study = StudyRef(imported.study_instance_uid)
                studies[study.study_instance_uid].append(imported.reference)
        progress.advance(task, len(batch))
    progress.remove_task(task)
    return studies


def _batches(found: Iterable[FoundFile | StudyFailure], size: int) -> Iterable[Sequence[FoundFile | StudyFailure]]:
    iterator = iter(found)
    while batch := list(itertools.islice(iterator, size)):
        yield batch


async def _analyse(
    request: InferRequest,
    client: RadserveClient,
    uid: str,
    outcome: InferOutcome,
    console: Console,
    *,
    stream_text: bool,
) -> None:
    artifacts: list[Artifact] = []
    result: common_pb2.StudyResult | None = None
    analysed = client.analyse(uid, request.pack, request.context, request.options, request.prompt_set, request.outputs)
    async for event in analysed:
        if isinstance(event, TextPiece):
            if stream_text:
                console.out(event.text, end="", highlight=False)
        elif isinstance(event, Artifact):
            artifacts.append(event)
        else:
            result = event
    if stream_text:
        console.out("\n")
    if result is None:
        raise RadserveError(ErrorCode.INTERNAL, "the server ended the analysis without a result")
    outcome.written[uid] = _write(request.out / uid, artifacts)
    if stream_text:
        console.print(findings_table(result))


def _write(folder: Path, artifacts: Sequence[Artifact]) -> list[Path]:
    """Write the artifacts; result.json comes last, so that a folder that has one is complete."""
    _make_folder(folder)
    try:
        for stale in (*folder.glob("overlay-*.png"), *folder.glob("*.dcm")):
            stale.unlink()
        paths = []
        for artifact in sorted(artifacts, key=lambda each: (each.name == "result.json", each.name)):
            path = folder / Path(artifact.name).name
            _write_whole(path, artifact.data)
            paths.append(path)
    except OSError as error:
        raise _unwritable(error) from None
    return paths


def _write_whole(path: Path, data: bytes) -> None:
    """Write a file that is whole or not there, however full the disk is and whenever the run is cut off."""
    aside = path.with_name(f".{path.name}.part")
    try:
        aside.write_bytes(data)
        aside.replace(path)
    except BaseException:
        aside.unlink(missing_ok=True)
        raise


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _unwritable(error) from None


def _unwritable(error: OSError) -> RadserveError:
    return RadserveError(ErrorCode.STORAGE_FULL, f"results cannot be written: {error.strerror or 'I/O error'}")


def _write_failures(path: Path, failures: Sequence[StudyFailure]) -> None:
    try:
        if failures:
            _write_whole(path, to_bytes([failure_to_json(each) for each in failures]))
        else:
            path.unlink(missing_ok=True)
    except OSError as error:
        raise _unwritable(error) from None


def findings_table(result: common_pb2.StudyResult) -> Table:
    """The findings of one study and its warnings, for people."""
    table = Table(title="Findings (draft, not verified by a person)", caption_justify="left")
    for column in ("finding", "code", "score", "probability", "threshold", ""):
        table.add_column(column)
    for each in result.findings:
        numbers = (f"{each.score:.4f}", f"{each.probability:.4f}", f"{each.threshold:.4f}")
        state = "positive" if each.positive else "negative"
        table.add_row(each.label, f"{each.code.scheme} {each.code.value}", *numbers, state)
    table.caption = "\n".join(f"Warning: {warning.message}" for warning in result.warnings)
    return table


def failure_lines(failures: Sequence[StudyFailure]) -> list[str]:
    """What was refused, a line each: for people, and for whoever searches a log for a file's name."""
    return [f"refused {each.code}: {each.reference or each.study_instance_uid}: {each.message}" for each in failures]
