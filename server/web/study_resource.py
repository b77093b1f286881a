"""What is no part of DICOMweb: that a study is complete, and whether the server is well."""

from __future__ import annotations

import json

import sqlalchemy as sa
from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from radserve._checks import invalid
from radserve.dicom_io import index_schema as schema
from radserve.dicom_io.dicomweb.query import check_instance_uid
from radserve.errors import ErrorCode, RadserveError, RequestError
from radserve.references import StudyRef
from radserve.server.web.service import WebService
from radserve.work import Signal, StudyState

MOST_INSTANCES = 1_000_000


def completion_router(service: WebService) -> APIRouter:
    """The resource of the completion signal."""
    routes = APIRouter()

    @routes.post("/studies/{study}/complete")
    async def complete(request: Request, study: str) -> Response:
        """The sender has sent all of a study: the workflow need not wait for quiet time."""
        reference = StudyRef(check_instance_uid("study", study))
        expected = _expected(await _small_body(request, service.limits.json_bytes))
        stored = len(service.holdings.store.headers(reference))
        await service.ledger.signal(reference, Signal.COMPLETE, expected)
        state = await _state(service, reference)
        answer = {
            "study_instance_uid": reference.study_instance_uid,
            "state": state,
            "stored_instances": stored,
            "expected_instances": expected,
        }
        return JSONResponse(answer, 202 if state == StudyState.RECEIVING else 200)

    return routes


def health_router(service: WebService) -> APIRouter:
    """The resource of health."""
    routes = APIRouter()

    @routes.get("/health")
    async def health() -> Response:
        """Whether instances can be taken."""
        try:
            service.reserve.check()
        except RadserveError as error:
            return JSONResponse({"status": "failing", "code": error.code.value}, 503)
        return JSONResponse({"status": "ok"})

    return routes


async def _small_body(request: Request, most: int) -> bytes:
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > most:
            raise RequestError(ErrorCode.REQUEST_TOO_LARGE, f"the body has more than {most} bytes")
    return body


def _expected(body: bytes) -> int | None:
    if not body.strip():
        return None
    try:
        given = json.loads(body)
    except (ValueError, RecursionError):
        raise RequestError(ErrorCode.INVALID_ARGUMENT, "the body is not JSON") from None
    if not isinstance(given, dict) or given.keys() - {"expected_instances"}:
        raise RequestError(
            ErrorCode.INVALID_ARGUMENT, "expected a JSON object with expected_instances and nothing else"
        )
    expected = given.get("expected_instances")
    if expected is None:
        return None
    if isinstance(expected, bool) or not isinstance(expected, int) or not 1 <= expected <= MOST_INSTANCES:
        raise invalid("expected_instances", type(expected).__name__, f"a number from 1 to {MOST_INSTANCES}")
    return expected


async def _state(service: WebService, study: StudyRef) -> str:
    columns = schema.studies.c
    rows = await service.holdings.index.query(
        lambda: sa.select(columns.state).where(columns.study_instance_uid == study.study_instance_uid)
    )
    return str(rows[0]["state"]) if rows else StudyState.RECEIVING.value
