"""StudyService: DICOM in by chunks, and what is stored."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

from radserve.dicom_io.store import Incoming, StudyStore
from radserve.errors import ErrorCode, RadserveError, RequestError
from radserve.references import StudyRef
from radserve.server.rpc.convert import study_to_message
from radserve.server.rpc.errors import Context, answered
from radserve.v1 import study_pb2, study_pb2_grpc

DEFAULT_PAGE, GREATEST_PAGE = 100, 1000


class StudyService(study_pb2_grpc.StudyServiceServicer):
    """Serves radserve.v1.StudyService over one store."""

    def __init__(self, store: StudyStore) -> None:
        self._store = store

    async def ImportInstances(
        self, request_iterator: AsyncIterator[study_pb2.ImportInstancesRequest], context: Context
    ) -> study_pb2.ImportInstancesResponse:
        return await answered("ImportInstances", context, self._import(request_iterator))

    async def GetStudy(self, request: study_pb2.GetStudyRequest, context: Context) -> study_pb2.GetStudyResponse:
        return await answered("GetStudy", context, self._get(request))

    async def ListStudies(
        self, request: study_pb2.ListStudiesRequest, context: Context
    ) -> study_pb2.ListStudiesResponse:
        return await answered("ListStudies", context, self._list(request))

    async def _import(
        self, requests: AsyncIterator[study_pb2.ImportInstancesRequest]
    ) -> study_pb2.ImportInstancesResponse:
        async with _Intake(self._store) as intake:
            async for request in requests:
                match request.WhichOneof("payload"):
                    case "start":
                        await intake.finish()
                        await intake.start(request.start.reference)
                    case "chunk":
                        await intake.write(request.chunk)
                    case _:
                        raise RequestError(ErrorCode.INVALID_ARGUMENT, "a message with neither start nor chunk")
            await intake.finish()
        return study_pb2.ImportInstancesResponse(outcomes=intake.outcomes)

    async def _get(self, request: study_pb2.GetStudyRequest) -> study_pb2.GetStudyResponse:
        study = StudyRef(request.study_instance_uid)
        instances = await self._store.list_instances(study)
        return study_pb2.GetStudyResponse(study=study_to_message(study.study_instance_uid, instances))

    async def _list(self, request: study_pb2.ListStudiesRequest) -> study_pb2.ListStudiesResponse:
        if not 0 <= request.page_size <= GREATEST_PAGE:
            message = f"page_size: got {request.page_size}, expected 0 to {GREATEST_PAGE}"
            raise RequestError(ErrorCode.INVALID_ARGUMENT, message)
        uids = [study.study_instance_uid for study in await self._store.list_studies()]
        # The token is the last UID of the page before: pages stay right while studies arrive.
        start = bisect_right(uids, request.page_token) if request.page_token else 0
        page = uids[start : start + (request.page_size or DEFAULT_PAGE)]
        more = start + len(page) < len(uids)
        return study_pb2.ListStudiesResponse(study_instance_uids=page, next_page_token=page[-1] if more else "")


class _Intake:
    """Takes one instance after the other; what is refused is noted in its outcome and the rest goes on."""

    def __init__(self, store: StudyStore) -> None:
        self.outcomes: list[study_pb2.InstanceOutcome] = []
        self._store = store
        self._stack = AsyncExitStack()
        self._incoming: Incoming | None = None
        self._reference: str | None = None

    async def __aenter__(self) -> _Intake:
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self._stack.aclose()  # an instance whose stream broke off leaves nothing behind

    async def start(self, reference: str) -> None:
        self._reference = reference
        try:
            self._incoming = await self._stack.enter_async_context(self._store.receive())
        except RadserveError as error:
            await self._refuse(error)

    async def write(self, chunk: bytes) -> None:
        if self._reference is None:
            raise RequestError(ErrorCode.INVALID_ARGUMENT, "a chunk came before the start of its instance")
        if self._incoming is None:
            return  # the instance was refused already
        try:
            self._incoming.write(chunk)
        except RadserveError as error:
            await self._refuse(error)

    async def finish(self) -> None:
        """Put the current instance on disk and note its outcome."""
        if self._incoming is not None:
            try:
                stored = await self._incoming.commit()
            except RadserveError as error:
                await self._refuse(error)
            else:
                instance = stored.header.instance
                self.outcomes.append(
                    study_pb2.InstanceOutcome(
                        reference=self._reference or "",
                        study_instance_uid=instance.study_instance_uid,
                        series_instance_uid=instance.series_instance_uid,
                        sop_instance_uid=instance.sop_instance_uid,
                        duplicate=stored.duplicate,
                    )
                )
                await self._close()
        self._reference = None

    async def _refuse(self, error: RadserveError) -> None:
        message = study_pb2.InstanceError(code=error.code.value, message=error.client_message)
        self.outcomes.append(study_pb2.InstanceOutcome(reference=self._reference or "", error=message))
        await self._close()

    async def _close(self) -> None:
        self._incoming = None
        await self._stack.aclose()
        self._stack = AsyncExitStack()
