"""GET of instances, metadata, frames, pictures and bulk data: WADO-RS (PS3.18 section 10.4)."""

from __future__ import annotations

import re
from collections.abc import Sequence

from fastapi import APIRouter
from pydicom.uid import UID
from starlette.requests import Request
from starlette.responses import Response

from radserve._checks import invalid
from radserve.dicom_io.dicomweb.frames import bulk_pieces
from radserve.dicom_io.dicomweb.held import Held
from radserve.dicom_io.dicomweb.media import (
    DICOM,
    DICOM_JSON,
    MULTIPART,
    OCTETS,
    NotAcceptableError,
    choose,
    covers,
    frame_form,
    instance_form,
)
from radserve.dicom_io.dicomweb.multipart import MultipartWriter
from radserve.dicom_io.dicomweb.query import check_instance_uid
from radserve.dicom_io.dicomweb.rendered import OFFERED, PARAMETERS, render, rendering
from radserve.dicom_io.pixel_layout import PIXEL_DATA
from radserve.server.web.bodies import alone, frames, instances, metadata, pieces, places
from radserve.server.web.service import Streamed, WebService, begun
from radserve.server.web.stored_bodies import StoredBody, stored_file, stored_parts

BULK_PLACE = re.compile(r"[0-9A-Fa-f]{8}(?:/[1-9]\d{0,5}/[0-9A-Fa-f]{8}){0,16}")
FRAME_LIST = re.compile(r"[1-9]\d{0,8}(?:,[1-9]\d{0,8})*")
INSTANCE = "/studies/{study}/series/{series}/instances/{instance}"


def router(service: WebService) -> APIRouter:
    """The resources of retrieval."""
    routes = APIRouter()

    async def of_study(study: str, series: str | None = None) -> list[Held]:
        study = check_instance_uid("study", study)
        return await service.holdings.instances(study, check_instance_uid("series", series) if series else "")

    async def of_instance(study: str, series: str, instance: str) -> Held:
        uids = {"study": study, "series": series, "instance": instance}
        return await service.holdings.instance(*(check_instance_uid(name, uid) for name, uid in uids.items()))

    @routes.get("/studies/{study}")
    async def study_instances(request: Request, study: str) -> Response:
        return await _instances(service, request, await of_study(study), single=False)

    @routes.get("/studies/{study}/series/{series}")
    async def series_instances(request: Request, study: str, series: str) -> Response:
        return await _instances(service, request, await of_study(study, series), single=False)

    @routes.get(INSTANCE)
    async def one_instance(request: Request, study: str, series: str, instance: str) -> Response:
        return await _instances(service, request, [await of_instance(study, series, instance)], single=True)

    @routes.get("/studies/{study}/metadata")
    async def study_metadata(request: Request, study: str) -> Response:
        return await _metadata(service, request, await of_study(study))

    @routes.get("/studies/{study}/series/{series}/metadata")
    async def series_metadata(request: Request, study: str, series: str) -> Response:
        return await _metadata(service, request, await of_study(study, series))

    @routes.get(INSTANCE + "/metadata")
    async def instance_metadata(request: Request, study: str, series: str, instance: str) -> Response:
        return await _metadata(service, request, [await of_instance(study, series, instance)])

    @routes.get(INSTANCE + "/rendered")
    async def rendered_instance(request: Request, study: str, series: str, instance: str) -> Response:
        return await _rendered(service, request, await of_instance(study, series, instance), 1)

    @routes.get(INSTANCE + "/frames/{frames}")
    async def frames_of_instance(request: Request, study: str, series: str, instance: str, frames: str) -> Response:
        numbers = _numbers(frames, service.limits.frames)
        return await _frames(service, request, await of_instance(study, series, instance), numbers)

    @routes.get(INSTANCE + "/frames/{frames}/rendered")
    async def rendered_frame(request: Request, study: str, series: str, instance: str, frames: str) -> Response:
        (number,) = _numbers(frames, 1)
        return await _rendered(service, request, await of_instance(study, series, instance), number)

    @routes.get(INSTANCE + "/bulkdata/{place:path}")
    async def bulk_data(request: Request, study: str, series: str, instance: str, place: str) -> Response:
        return await _bulk(service, request, await of_instance(study, series, instance), _place(place))

    return routes


async def _instances(service: WebService, request: Request, held: Sequence[Held], *, single: bool) -> Response:
    form = instance_form(service.accept(request), single=single)
    syntaxes = [form.choose(each.transfer_syntax_uid) for each in held]
    given = [(each, syntax) for each, syntax in zip(held, syntaxes, strict=True) if syntax]
    if len(given) < len(held):
        raise NotAcceptableError(["transfer-syntax=*", "transfer-syntax=1.2.840.10008.1.2.1"])
    as_stored = all(syntax == each.transfer_syntax_uid for each, syntax in given)
    if not form.multipart:
        ((one, syntax),) = given
        content_type = f"{DICOM}; transfer-syntax={syntax}"
        if as_stored:
            return await _stored(await stored_file(one), content_type)
        return Streamed(await begun(alone(service, one, syntax)), content_type)
    writer = MultipartWriter(DICOM)
    if as_stored:
        body = await stored_parts(held, writer, service.base_url(request))
        return await _stored(body, writer.content_type)
    chunks = instances(service, given, writer, service.base_url(request))
    return Streamed(await begun(chunks), writer.content_type)


async def _stored(body: StoredBody, content_type: str) -> Response:
    return Streamed(await begun(body.chunks()), content_type, size=body.size)


async def _metadata(service: WebService, request: Request, held: Sequence[Held]) -> Response:
    answer_type = choose(service.accept(request), (DICOM_JSON, "application/json"))
    return Streamed(await begun(metadata(service, held, service.base_url(request))), answer_type)


async def _frames(service: WebService, request: Request, held: Held, numbers: Sequence[int]) -> Response:
    form = frame_form(service.accept(request), held.transfer_syntax_uid, single=len(numbers) == 1)
    content_type = f"{form.media_type}; transfer-syntax={form.transfer_syntax}"
    found = frames(service, held, numbers, decoded=form.decoded)
    if not form.multipart:
        return Streamed(await begun(pieces(found)), content_type)
    writer = MultipartWriter(form.media_type)
    return Streamed(await begun(pieces(found, writer, content_type)), writer.content_type)


async def _bulk(service: WebService, request: Request, held: Held, place: Sequence[int]) -> Response:
    is_several = place == [PIXEL_DATA] and UID(held.transfer_syntax_uid).is_encapsulated
    for wanted in service.accept(request):
        if wanted.covers(MULTIPART) and covers(wanted.parameters.get("type", OCTETS).lower(), OCTETS):
            writer = MultipartWriter(OCTETS)
            body = pieces(places(service, held, bulk_pieces, place), writer, OCTETS)
            return Streamed(await begun(body), writer.content_type)
        if wanted.covers(OCTETS) and not is_several:
            return Streamed(await begun(pieces(places(service, held, bulk_pieces, place))), OCTETS)
    raise NotAcceptableError([f'{MULTIPART}; type="{OCTETS}"', OCTETS])


async def _rendered(service: WebService, request: Request, held: Held, number: int) -> Response:
    media_type = choose(service.accept(request), OFFERED)
    given: dict[str, str] = {}
    for key, value in service.parameters(request):
        if key not in PARAMETERS or key in given:
            raise invalid("query key", key[:32], f"each of {', '.join(PARAMETERS)} once at most")
        given[key] = value
    picture = await service.holdings.workers.run(render, held.path, number, rendering(media_type, given))
    return Response(picture, media_type=media_type)


def _numbers(text: str, most: int) -> list[int]:
    numbers = [int(part) for part in text.split(",")] if FRAME_LIST.fullmatch(text) else []
    if not 1 <= len(numbers) <= most:
        raise invalid("frames", text[:32], f"1 to {most} frame numbers from 1, with commas")
    return numbers


def _place(text: str) -> list[int]:
    if not BULK_PLACE.fullmatch(text):
        raise invalid("bulk data", f"{len(text)} characters", "TAG, or TAG/ITEM/TAG ...")
    parts = text.split("/")
    return [int(part, 10 if index % 2 else 16) for index, part in enumerate(parts)]
