"""The report templates that the settings name."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from types import MappingProxyType

from radserve.errors import ErrorCode, RadserveError
from radserve.pipelines.template_report import REPORT_TEMPLATES, SiteTemplate
from radserve.plugins import PluginRef, installed, load_one

LANGUAGE = re.compile("[a-z]{2}")  # ISO 639-1


def site_templates(names: Sequence[str]) -> Mapping[str, SiteTemplate]:
    """The template of each language: of several that write it the first named. What is not named is not imported.

    Raises PLUGIN_FAILED for one that is not installed, is in two packages, or cannot be used: a draft in the words of
    another one would not be what the site asked for.
    """
    found: dict[str, SiteTemplate] = {}
    for name in names:
        template = _template(name)
        for language in _languages(template):
            found.setdefault(language, template)
    return MappingProxyType(found)


def _template(name: str) -> SiteTemplate:
    refs = installed(REPORT_TEMPLATES.group).get(name, ())
    if len(refs) != 1:
        cause = f"in more than one package: {', '.join(each.package for each in refs)}" if refs else "not installed"
        raise RadserveError(ErrorCode.PLUGIN_FAILED, f"report_templates: {name!r} is {cause}")
    return SiteTemplate(load_one(REPORT_TEMPLATES, refs[0]).usable(), refs[0])


def _languages(template: SiteTemplate) -> Sequence[str]:
    ref: PluginRef = template.ref
    try:
        languages = tuple(template.template.languages)
    except Exception as error:
        raise ref.failed(f"failed: {type(error).__name__}") from error
    if not languages or not all(isinstance(each, str) and LANGUAGE.fullmatch(each) for each in languages):
        raise ref.failed(f"has the languages {languages!r}, expected codes of ISO 639-1")
    return languages
