"""GET of studies, series and instances by what they are: QIDO-RS (PS3.18 section 10.6)."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from radserve.dicom_io.dicomweb.media import DICOM_JSON, choose
from radserve.dicom_io.dicomweb.query import check_instance_uid, read_query
from radserve.dicom_io.dicomweb.search import search
from radserve.dicom_io.dicomweb.search_attributes import Level
from radserve.server.web.service import WebService


def router(service: WebService) -> APIRouter:
    """The resources of searches."""
    routes = APIRouter()

    async def answer(request: Request, level: Level, **fixed: str) -> Response:
        answer_type = choose(service.accept(request), (DICOM_JSON, "application/json"))
        uids = {keyword: check_instance_uid(keyword, uid) for keyword, uid in fixed.items()}
        query = read_query(level, service.parameters(request), uids)
        await service.holdings.refresh()
        found = await search(service.holdings, query, service.base_url(request))
        response = JSONResponse(found.results, media_type=answer_type)
        for warning in found.warnings:
            response.headers.append("Warning", f'299 {request.url.netloc or "radserve"} "{warning}"')
        return response

    @routes.get("/studies")
    async def studies(request: Request) -> Response:
        return await answer(request, Level.STUDY)

    @routes.get("/series")
    async def series(request: Request) -> Response:
        return await answer(request, Level.SERIES)

    @routes.get("/instances")
    async def instances(request: Request) -> Response:
        return await answer(request, Level.INSTANCE)

    @routes.get("/studies/{study}/series")
    async def series_of_study(request: Request, study: str) -> Response:
        return await answer(request, Level.SERIES, StudyInstanceUID=study)

    @routes.get("/studies/{study}/instances")
    async def instances_of_study(request: Request, study: str) -> Response:
        return await answer(request, Level.INSTANCE, StudyInstanceUID=study)

    @routes.get("/studies/{study}/series/{series}/instances")
    async def instances_of_series(request: Request, study: str, series: str) -> Response:
        return await answer(request, Level.INSTANCE, StudyInstanceUID=study, SeriesInstanceUID=series)

    return routes
