"""The ports between the stages: what one stage may ask of another. Wired in server/app.py and nowhere else."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Mapping, Sequence
from enum import StrEnum
from typing import Protocol

from radserve.decoding import GeneratedText
from radserve.errors import RadserveError
from radserve.image import Image, Volume
from radserve.references import AcquisitionContext, InstanceRef, StudyRef
from radserve.results import Artifact, StudyResult
from radserve.tensors import InferenceRequest, InferenceResponse, ModelRef, PreparedInput
from radserve.work import (
    Delivery,
    DeliveryKey,
    OpenStudy,
    QuarantineEntry,
    ResultObject,
    ResultRecord,
    Revision,
    Signal,
    StudyState,
)


class InstanceSource(Protocol):
    """Gives what is known of stored studies and decodes their instances, each in a sandbox."""

    async def list_studies(self) -> Sequence[StudyRef]:
        """All stored studies, in the order of their UIDs."""
        ...

    async def list_instances(self, study: StudyRef) -> Sequence[tuple[InstanceRef, AcquisitionContext]]:
        """The instances of a study with their acquisition context, in series and instance order.

        Raises RequestError STUDY_NOT_FOUND.
        """
        ...

    async def same_patient(self, one: StudyRef, other: StudyRef) -> bool:
        """Whether two stored studies are surely of one patient. Raises RequestError STUDY_NOT_FOUND, DicomError."""
        ...

    async def read_image(self, instance: InstanceRef) -> Image:
        """Decode one instance. Raises DicomError or WorkerError with the cause."""
        ...

    async def read_volume(self, instances: Sequence[InstanceRef]) -> Volume:
        """Decode instances of one series and stack them. Raises DicomError, GeometryError, WorkerError."""
        ...


class Preprocessor(Protocol):
    """Turns an image into the tensors of a pack's input."""

    async def prepare(self, image: Image, input_name: str, frames: Sequence[int]) -> Sequence[PreparedInput]:
        """Prepare the frames (counted from 0) for the named input; same image, same bytes, always."""
        ...

    async def prepare_volume(self, volume: Volume, input_name: str) -> PreparedInput:
        """Prepare a volume, all slices together, for the named input; same volume, same bytes, always."""
        ...


class ModelRunner(Protocol):
    """Runs the graphs of a pack: Triton, or ONNX Runtime in this process."""

    async def infer(self, request: InferenceRequest) -> InferenceResponse:
        """Run one model. Raises ModelError (MODEL_UNAVAILABLE, DEADLINE_EXCEEDED, MODEL_OUTPUT_INVALID)."""
        ...

    async def is_ready(self, model: ModelRef) -> bool:
        """Whether the model answers now."""
        ...


class ModelStreamer(Protocol):
    """Runs models that answer one request with many responses."""

    def stream(self, request: InferenceRequest) -> AsyncGenerator[InferenceResponse, None]:
        """The responses as they come. Closing it cancels the request. Raises ModelError as ModelRunner.infer."""
        ...


class TextGenerator(Protocol):
    """A language model outside that writes text of text."""

    @property
    def model(self) -> str:
        """What the model is called, as it stands in results."""
        ...

    async def generate(self, instruction: str, material: str, timeout_s: float | None = None) -> GeneratedText:
        """Write of `material` as `instruction` says. Cancelling it ends the request.

        Raises ModelError (MODEL_UNAVAILABLE, DEADLINE_EXCEEDED, MODEL_OUTPUT_INVALID).
        """
        ...


class ReportWriter(Protocol):
    """Writes a result as the files that a PACS, a viewer and a person read."""

    async def write(
        self, result: StudyResult, images: Sequence[Image], outputs: Sequence[str] = ()
    ) -> Sequence[Artifact]:
        """Return the artifacts of a result; the same result gives the same UIDs and the same findings.

        `outputs` names DICOM objects beyond the usual ones. Raises RadserveError INVALID_ARGUMENT for an unknown one.
        """
        ...


class WorkLedger(Protocol):
    """Remembers how far every study has come: what the workflow knows after a power cut. All changes are durable.

    All raise StorageError.
    """

    async def open_studies(self) -> Sequence[OpenStudy]:
        """The studies that are being received."""
        ...

    async def signal(self, study: StudyRef, signal: Signal, expected_instances: int | None = None) -> None:
        """Note what was said about a study that is being received; nothing for one that is not."""
        ...

    async def close(self, study: StudyRef, *, incomplete: bool, now: float) -> Revision | None:
        """Make a revision of what a study holds now; None where nothing came since the last one."""
        ...

    async def revisions(self, state: StudyState) -> Sequence[Revision]:
        """The revisions in a state, oldest first."""
        ...

    async def revision(self, work_id: str) -> Revision | None:
        """The revision that a work id names, None for one that was erased or tried again under a new id."""
        ...

    async def instances(self, revision: Revision) -> Sequence[InstanceRef]:
        """What a revision is made of, by SOP Instance UID."""
        ...

    async def calling_aes(self, study: StudyRef) -> Mapping[str, str]:
        """From which AE title each series of a study came (its first instance), by Series Instance UID."""
        ...

    async def begin_attempt(self, revision: Revision) -> int:
        """Count an attempt before it starts, so that one that kills the process counts too; return its number."""
        ...

    async def give_back_attempt(self, revision: Revision) -> None:
        """Take an attempt back that was cut off by an orderly end."""
        ...

    async def finish(self, revision: Revision, state: StudyState) -> None:
        """Note how a complete revision ended; an analysed one with all its deliveries made is delivered.

        Nothing for one that was called off meanwhile.
        """
        ...

    async def result(self, result_uid: str) -> ResultRecord | None:
        """A result that was recorded."""
        ...

    async def predecessor(self, revision: Revision, pack: str) -> ResultRecord | None:
        """The result of the same pack for the latest earlier revision."""
        ...

    async def add_result(self, result: ResultRecord, deliveries: Sequence[Delivery], now: float) -> None:
        """Record a result that is on disk together with what is to be delivered of it.

        Nothing where it is known, and where its revision is no longer to be analysed.
        """
        ...

    async def call_off(self, studies: Sequence[StudyRef], now: float) -> bool:
        """Let nothing more be made or delivered of these studies; what is under way ends at its next step.

        All of them or none: False where a result has left, or has nowhere to go and is there for good.
        """
        ...

    async def take_up(self, study: StudyRef, now: float) -> None:
        """Go on with a study that was called off; nothing for another."""
        ...

    async def put_in_quarantine(self, entry: QuarantineEntry) -> None:
        """Set a study, a delivery or bytes aside, and note it in the state of the study."""
        ...


class OutboxLedger(Protocol):
    """Remembers what was delivered. All changes are durable; all raise StorageError."""

    async def due(self, now: float, limit: int, busy: Collection[str] = ()) -> Sequence[Delivery]:
        """Deliveries to be made now, the longest due first, without those to `busy` destinations."""
        ...

    async def begin(self, key: DeliveryKey) -> int:
        """Count an attempt before it starts; return its number, 0 for one that is gone or another's."""
        ...

    async def delivered(self, key: DeliveryKey, now: float) -> None:
        """Note that the destination has the object; the last one makes the study delivered."""
        ...

    async def postpone(self, key: DeliveryKey, due_at: float) -> None:
        """Try again later."""
        ...

    async def put_in_quarantine(self, entry: QuarantineEntry) -> None:
        """Give a delivery up until a person decides."""
        ...


class ResultStore(Protocol):
    """Keeps the files of results: each result is wholly there or not at all, even after a power cut."""

    async def holds(self, result_uid: str) -> bool:
        """Whether a result is there."""
        ...

    async def keep(self, record: ResultRecord, objects: Sequence[ResultObject]) -> None:
        """Make a result durable; one that is there already stays as it is. Raises StorageError."""
        ...

    async def objects(self, result_uid: str) -> Sequence[tuple[str, str, str]]:
        """The file name, the output and the SOP Instance UID ("" for none) of each file. Raises StorageError."""
        ...

    async def read(self, result_uid: str, name: str) -> Artifact:
        """A file of a result. Raises StorageError."""
        ...


Begin = Callable[[int], Awaitable[bool]]
Outcome = tuple[int, RadserveError | None]


class ArtifactSender(Protocol):
    """Brings objects to a destination: C-STORE, STOW-RS, a folder."""

    def send(self, destination: str, artifacts: Sequence[Artifact], begin: Begin) -> AsyncGenerator[Outcome, None]:
        """Send in this order, over one connection where that can be.

        Yields the index of an artifact when the destination has said that it has it, or with the error for which it
        has not. `begin(index)` is awaited before an artifact leaves; where it is False the artifact is left out. What
        has no outcome at the end was not sent. Raises RadserveError where nothing can be sent.
        """
        ...


class ArrivalProbe(Protocol):
    """Asks a destination what it has; for deliveries whose end was not seen."""

    async def has(self, destination: str, artifact: Artifact) -> bool:
        """Whether the object is there for good; False where that cannot be told. Raises RadserveError."""
        ...


Step = Callable[[str], Awaitable[None]]


class WorkStatus(StrEnum):
    """How a piece of durable work stands."""

    WAITING = "waiting"
    RUNNING = "running"
    FAILED = "failed"


class DurableWork(Protocol):
    """Runs named chains of steps, each chain once for an id, going on after a restart where it stopped.

    A step is given the id alone and must be idempotent: one that was cut off runs again.
    """

    def register(self, kind: str, steps: Sequence[tuple[str, Step]]) -> None:
        """Say what the steps of a kind of work are, in their order; before `open`."""
        ...

    async def open(self) -> None:
        """Start, and go on with what was under way when the last process ended."""
        ...

    async def close(self) -> None:
        """Stop taking work and cut off what runs; it goes on after the next start."""
        ...

    async def start(self, kind: str, work_id: str) -> None:
        """Put work in the queue, durably; nothing where the id was started before."""
        ...

    async def list(self) -> Mapping[str, WorkStatus]:
        """The work that has not succeeded, by id."""
        ...

    async def retry(self, work_id: str) -> None:
        """Start failed work again at the step that failed."""
        ...
