"""POST of instances: STOW-RS (PS3.18 section 10.5)."""

from __future__ import annotations

from collections.abc import AsyncIterator

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from radserve.dicom_io.dicomweb.header_filling import HeaderAhead
from radserve.dicom_io.dicomweb.intake import StowIntake
from radserve.dicom_io.dicomweb.media import DICOM, DICOM_JSON, MULTIPART, MediaType, choose, media_type
from radserve.dicom_io.dicomweb.multipart import MultipartReader, boundary_of
from radserve.dicom_io.dicomweb.query import check_instance_uid
from radserve.errors import ErrorCode, RequestError
from radserve.references import StudyRef
from radserve.server.web.errors import UnsupportedMediaError
from radserve.server.web.service import WebService


def router(service: WebService) -> APIRouter:
    """The resource of a store."""
    routes = APIRouter()

    @routes.post("/studies")
    async def store(request: Request) -> Response:
        return await _store(service, request, None)

    @routes.post("/studies/{study}")
    async def store_of_study(request: Request, study: str) -> Response:
        return await _store(service, request, StudyRef(check_instance_uid("study", study)))

    return routes


async def _store(service: WebService, request: Request, study: StudyRef | None) -> Response:
    answer_type = choose(service.accept(request), (DICOM_JSON, "application/json"))
    body_type = _body_type(request)
    boundary = boundary_of(body_type)
    _check_length(request, service.limits.request_bytes)
    service.reserve.check()
    # RFC 2387 requires the type of the parts; of a client that leaves it out, each part has to say its own.
    part_type = body_type.parameters.get("type", "")
    ahead = HeaderAhead(service.holdings)
    intake = StowIntake(service.holdings.store, service.reserve, study, part_type, ahead.add)
    chunks = _bounded(request, service.limits.request_bytes)
    outcome = await intake.take(MultipartReader(boundary, service.limits.multipart), chunks)
    ahead.read()
    if outcome.other_type:
        raise UnsupportedMediaError(outcome.other_type.client_message)
    return JSONResponse(outcome.document(service.base_url(request)), outcome.status(), media_type=answer_type)


def _body_type(request: Request) -> MediaType:
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise UnsupportedMediaError("a content encoding of the body is not read: send it as it is")
    found = media_type(request.headers.get("content-type", "application/x-none"))
    if found.name != MULTIPART or found.parameters.get("type", DICOM).lower() != DICOM:
        raise UnsupportedMediaError(f'expected a body of {MULTIPART}; type="{DICOM}"')
    return found


def _check_length(request: Request, most: int) -> None:
    length = request.headers.get("content-length", "0")
    if length.isdecimal() and int(length) > most:
        raise _too_large(most)


async def _bounded(request: Request, most: int) -> AsyncIterator[bytes]:
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > most:
            raise _too_large(most)
        yield chunk


def _too_large(most: int) -> RequestError:
    return RequestError(ErrorCode.REQUEST_TOO_LARGE, f"the body has more than {most} bytes")
