"""The written part of a draft by a report template of another package, in any language.

What it writes is checked as a decoder's text is, by phrases that the template states: a sentence that rests on nothing
(the usual "heart of normal size", written before any image was seen) withholds the text.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol, TypeVar, cast, runtime_checkable

from radserve.errors import RadserveError
from radserve.findings import CodedConcept, Finding
from radserve.models.pack import ModelPack
from radserve.models.pack_types import Assertions
from radserve.pipelines.authoring import FoundSeries, ReportOptions, ReportText, ReviewedText, generation_record, review
from radserve.pipelines.check import DraftChecker
from radserve.pipelines.claims import NeverAllowed
from radserve.pipelines.deadline import Deadline
from radserve.pipelines.wording import ENGLISH, WORDINGS
from radserve.plugins import PluginRef, Point
from radserve.reports import GenerationRecord

BACKEND = "template"
TEMPLATE_SECONDS = 10.0
T = TypeVar("T")


@runtime_checkable
class ReportTemplate(Protocol):
    """Words what the model found of one series. It is told the findings, and nothing of the patient."""

    @property
    def languages(self) -> Sequence[str]:
        """The languages that it writes, ISO 639-1."""
        ...

    def write(self, findings: Sequence[Finding], language: str) -> Mapping[str, str]:
        """The text of each section by its head, in order, such as Findings and Impression."""
        ...

    def phrases(self, label: str, code: CodedConcept, language: str) -> tuple[Sequence[str], Sequence[str]]:
        """The phrases that assert and that deny the finding of a label; the checker reads the text by them.

        They are added to the pack's own and to the names that the checker knows (English and Chinese).
        """
        ...

    def nothing_found(self, language: str) -> Sequence[str]:
        """The phrases that say that no finding is there."""
        ...


REPORT_TEMPLATES = Point[ReportTemplate]("radserve.report_templates", ReportTemplate)


@dataclass(frozen=True, slots=True)
class SiteTemplate:
    """A template that the site uses, and the package it is of."""

    template: ReportTemplate
    ref: PluginRef

    @property
    def name(self) -> str:
        return f"{self.ref.name} of {self.ref.package} {self.ref.version}"


@dataclass(frozen=True, slots=True)
class TemplateAuthor:
    """Has the texts of a study worded by a template, and keeps `claims` out of the draft."""

    pack: ModelPack
    site: SiteTemplate
    language: str
    claims: NeverAllowed

    @property
    def checker(self) -> DraftChecker:
        """The checker of the pack's labels by the template's phrases. Raises PLUGIN_FAILED."""
        template = self.site.template
        try:
            labels = []
            for label in self.pack.labels:
                positive, negative = map(tuple, template.phrases(label.name, label.code, self.language))
                known = label.assertions
                if known:
                    positive, negative = (*known.positive, *positive), (*known.negative, *negative)
                if positive and negative:
                    label = replace(label, assertions=Assertions(positive, negative))  # noqa: PLW2901
                labels.append(label)
            nothing = tuple(template.nothing_found(self.language))
            return DraftChecker(labels, self.claims, nothing_found=nothing)
        except (Exception, SystemExit) as error:
            raise self._failed(error) from error

    async def write(
        self, series: Sequence[FoundSeries], options: ReportOptions, deadline: Deadline
    ) -> AsyncGenerator[ReportText | ReviewedText, None]:
        """The text of each series and what the checker made of it, once all of them are there.

        Raises PLUGIN_FAILED for a template that raises, gives no text or takes longer than TEMPLATE_SECONDS,
        RequestError DEADLINE_EXCEEDED.
        """
        checker = self.checker
        wording = WORDINGS.get(self.language, ENGLISH)
        written = [await self._written(each, deadline) for each in series]
        for each, sections in zip(series, written, strict=True):
            text = "\n".join(text for _, text in sections)
            yield ReportText(each.series_instance_uid, "\n".join(f"{head}: {text}" for head, text in sections))
            reviewed = review(checker, each, text, sections, wording, cut=False, writer=self.site.name)
            yield replace(reviewed, by_template=True)

    def record(self, options: ReportOptions, texts: Sequence[ReviewedText]) -> GenerationRecord:
        """How texts were written and what was found in them."""
        return generation_record(
            self.claims, options.language, texts, "greedy", (), backend=BACKEND, model=self.site.name
        )

    async def _written(self, series: FoundSeries, deadline: Deadline) -> tuple[tuple[str, str], ...]:
        """In a thread of its own: a template that never ends holds up its draft alone, not the end of the server."""
        left_s = min(TEMPLATE_SECONDS, deadline.remaining_s() or TEMPLATE_SECONDS)
        try:
            return await asyncio.wait_for(_in_thread(lambda: self._sections(series.findings)), left_s)
        except TimeoutError as error:
            deadline.remaining_s()  # it was the request's time that ran out: nothing else can be tried
            raise self._failed(error) from error

    def _sections(self, findings: Sequence[Finding]) -> tuple[tuple[str, str], ...]:
        try:
            written = self.site.template.write(findings, self.language)
            sections = tuple((str(head), _plain(text)) for head, text in written.items())
        except (Exception, SystemExit) as error:
            raise self._failed(error) from error
        if not any(text for _, text in sections):
            raise self.site.ref.failed("wrote nothing")
        return sections

    def _failed(self, error: BaseException) -> RadserveError:
        """What it raised is named by its type alone: its text may be anything."""
        if isinstance(error, RadserveError):
            return error
        return self.site.ref.failed(f"failed: {type(error).__name__}")


async def _in_thread(function: Callable[[], T]) -> T:
    """As asyncio.to_thread, in a daemon thread: those of the shared pool are few, and waited for at the end."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()

    def settle(value: T | None, error: BaseException | None) -> None:
        if not future.done():  # nobody waits any more
            if error is None:
                future.set_result(cast(T, value))
            else:
                future.set_exception(error)

    def run() -> None:
        value, error = None, None
        try:
            value = function()
        except BaseException as raised:
            error = raised
        with contextlib.suppress(RuntimeError):  # the loop is closed
            loop.call_soon_threadsafe(settle, value, error)

    threading.Thread(target=run, name="report template", daemon=True).start()
    return await future


def _plain(text: str) -> str:
    """Text without characters that cannot be printed."""
    return "".join(each for each in text if each == "\n" or each.isprintable()).strip()
