"""The HTTP application: its resources, and around them errors, the token and cross-origin requests."""

from __future__ import annotations

from collections.abc import Sequence

from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp

from radserve.errors import ErrorCode, RadserveError
from radserve.server.web import retrieve_resource, search_resource, store_resource, study_resource
from radserve.server.web.errors import error_response
from radserve.server.web.guard import Guard, TokenCheck
from radserve.server.web.head import HeadAsGet
from radserve.server.web.service import ROOT, WebService

CORS_METHODS = ("GET", "HEAD", "POST", "OPTIONS")
CORS_HEADERS = ("Accept", "Authorization", "Content-Type")


def web_application(service: WebService, *, token: str = "", cors_origins: Sequence[str] = ()) -> ASGIApp:
    """Everything the HTTP port answers; with a token to those who have it."""
    app = HeadAsGet(resources(service))
    wrapped: ASGIApp = TokenCheck(app, token) if token else app
    if cors_origins:
        wrapped = CORSMiddleware(
            wrapped, allow_origins=cors_origins, allow_methods=CORS_METHODS, allow_headers=CORS_HEADERS
        )
    return Guard(wrapped, service.limits)


def resources(service: WebService) -> FastAPI:
    """The resources alone."""
    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None, redirect_slashes=False)
    for resource in (store_resource, search_resource, retrieve_resource):
        app.include_router(resource.router(service), prefix=ROOT)
    app.include_router(study_resource.completion_router(service), prefix=ROOT)
    app.include_router(study_resource.health_router(service))
    app.add_exception_handler(RadserveError, _refused)
    app.add_exception_handler(HTTPException, _no_resource)
    return app


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, RadserveError)  # noqa: S101  # it is registered for these
    return error_response(error)


async def _no_resource(request: Request, error: Exception) -> Response:
    """404 and 405 of the router; the text tells nothing of the address."""
    assert isinstance(error, HTTPException)  # noqa: S101
    content = {"code": ErrorCode.INVALID_ARGUMENT.value, "message": "there is no such resource, or not by this method"}
    return JSONResponse(content, error.status_code, error.headers)
