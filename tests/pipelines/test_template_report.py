"""Report templates of other packages: their text is checked, held where it has a fault, and named in the result."""

from __future__ import annotations

import importlib
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from radserve.errors import ErrorCode, RadserveError
from radserve.pipelines import template_report
from radserve.pipelines.authoring import ReportOptions
from radserve.pipelines.claims import built_in_claims
from radserve.pipelines.study import AnalysisRequest, StudyAnalyser
from radserve.pipelines.template_report import TemplateAuthor
from radserve.results import StudyResult, WarningCode
from radserve.server.templates import site_templates
from tests.support.analysing import analyse, study_of
from tests.support.pipeline import images_of, make_analyser
from tests.support.plugin_site import install

ACME = Path(__file__).parents[1] / "third_party" / "acme" / "src"
HEAD = """
class Template:
    languages = ("de", "en")
    def phrases(self, label, code, language):
        return (["Hinweis auf Pneumonie"], ["Kein Hinweis auf Pneumonie"]) if language == "de" else ([], [])
    def nothing_found(self, language):
        return ["Kein auffälliger Befund"]
    def write(self, findings, language):
"""


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.syspath_prepend(tmp_path / "site")
    return tmp_path / "site"


async def study(
    folder: Path, name: str, *, threshold: float = 0.0, language: str = "de"
) -> tuple[StudyAnalyser, AnalysisRequest]:
    """An analyser with the site's template; the threshold decides whether the finding is positive."""
    images = list(images_of(laterality="L"))
    analyser, _, _ = await make_analyser(folder, images)
    pack = replace(analyser.pack, labels=tuple(replace(each, threshold=threshold) for each in analyser.pack.labels))
    authors = {
        each: TemplateAuthor(pack, template, each, built_in_claims())
        for each, template in site_templates([name]).items()
    }
    request = replace(study_of(images), options=ReportOptions(language))
    return replace(analyser, pack=pack, templates=authors), request


def sections(result: StudyResult) -> dict[str, str]:
    assert result.report is not None
    return {each.name: each.text for each in result.report.sections}


def writing(site: Path, body: str) -> None:
    lines = "".join(f"        {line}\n" for line in body.splitlines())
    install(site, "forms", HEAD + lines, report_templates="forms = forms_plugin:Template")


@pytest.mark.parametrize("threshold", [0.0, 1.0])
async def test_a_german_template_words_the_draft_and_every_sentence_rests_on_a_finding(
    site: Path, tmp_path: Path, threshold: float
) -> None:
    code = (ACME / "acme_radserve" / "templates.py").read_text()
    install(site, "acme", code, report_templates="acme-de = acme_plugin:German")
    result, streamed = await analyse(*await study(tmp_path, "acme-de", threshold=threshold))
    found = sections(result)
    (finding,) = result.findings
    says = "Hinweis auf Pneumonie" if finding.positive else "Kein Hinweis auf Pneumonie"
    assert found["Findings"].startswith(f"{says} (Wahrscheinlichkeit ")
    assert found["Impression"].startswith(says if finding.positive else "Kein auffälliger Befund.")
    assert found["Findings"] in streamed
    assert "worded by the report template acme-de of acme 1.0" in found["Notice"]
    assert "Not verified by a person" in found["Notice"]
    assert result.report is not None
    written = [each for each in result.report.sentences if each.section in ("Findings", "Impression")]
    assert written and all(each.evidence[0].reference == finding.tracking_uid for each in written)
    assert result.generation is not None
    assert (result.generation.backend, result.generation.model) == ("template", "acme-de of acme 1.0")
    assert (result.generation.texts, result.generation.withheld, result.generation.language) == (1, 0, "de")
    assert result.provenance is not None
    assert [str(each) for each in result.provenance.plugins] == ["plug-in 'acme-de' of acme 1.0"]


@pytest.mark.parametrize(
    ("threshold", "text", "fault"),
    [
        (0.0, "Kein Hinweis auf Pneumonie.", "contradicted"),
        (0.0, "Hinweis auf Pneumonie. Kein auffälliger Befund.", "contradicted"),
        (1.0, "Hinweis auf Pneumonie.", "contradicted"),
        (0.0, "Hinweis auf Pneumonie. Herz und Mediastinum unauffällig.", "without_evidence"),
        (0.0, "Lungen frei.", "omitted"),
        (0.0, "Hinweis auf Pneumonie von 12 mm.", "unsupported"),
        (0.0, "Hinweis auf Pneumonie. No pneumothorax.", "unsupported"),
    ],
)
async def test_a_text_with_a_fault_is_held_and_the_findings_take_its_place(
    site: Path, tmp_path: Path, threshold: float, text: str, fault: str
) -> None:
    writing(site, f"return {{'Findings': {text!r}, 'Impression': {text!r}}}")
    result, _ = await analyse(*await study(tmp_path, "forms", threshold=threshold))
    assert text not in sections(result)["Findings"]
    assert sections(result)["Findings"].startswith("Text withheld: it contradicted the model's own findings")
    assert "Pneumonia" in sections(result)["Findings"]
    assert result.generation is not None
    assert fault in dict(result.generation.faults)
    assert result.generation.withheld == 1
    said = {WarningCode.REPORT_CONTRADICTS_FINDING, WarningCode.REPORT_UNSUPPORTED, WarningCode.REPORT_WITHOUT_EVIDENCE}
    assert said & {warning.code for warning in result.warnings}


async def test_in_a_language_of_the_decoder_the_template_writes_and_the_checker_knows_the_words(
    site: Path, tmp_path: Path
) -> None:
    writing(site, "return {'Findings': 'There is pneumonia.', 'Impression': 'Pneumonia.'}")
    result, _ = await analyse(*await study(tmp_path, "forms", language="en"))
    assert sections(result)["Findings"] == "There is pneumonia."
    result, _ = await analyse(*await study(tmp_path / "absent", "forms", language="en", threshold=1.0))
    assert "There is pneumonia." not in sections(result)["Findings"]


@pytest.mark.parametrize(
    ("body", "cause"),
    [
        ("raise KeyError('Jane Doe')", "failed: KeyError"),
        ("return 'Hinweis auf Pneumonie'", "failed: AttributeError"),
        ("return {'Findings': ' '}", "wrote nothing"),
        ("raise SystemExit", "failed: SystemExit"),
    ],
)
@pytest.mark.parametrize("language", ["de", "en"])
async def test_a_template_that_fails_is_named_and_the_draft_does_without(
    site: Path, tmp_path: Path, body: str, cause: str, language: str
) -> None:
    writing(site, body)
    result, _ = await analyse(*await study(tmp_path, "forms", language=language, threshold=1.0))
    (warning,) = (each for each in result.warnings if each.code is WarningCode.REPORT_TEMPLATE_FAILED)
    assert f"plug-in 'forms' of forms 1.0 {cause}" in warning.message
    assert "Jane" not in warning.message
    wanted = "The lungs are clear." if language == "en" else "Not found: Pneumonia."  # the decoder, or the findings
    assert wanted in sections(result)["Findings"]
    assert result.provenance is not None and result.provenance.plugins == ()
    assert (result.generation.backend if result.generation else "none") == ("decoder" if language == "en" else "none")


async def test_a_template_that_does_not_end_holds_up_nothing(
    site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(template_report, "TEMPLATE_SECONDS", 0.05)
    writing(site, "import time\ntime.sleep(1)\nreturn {'Findings': 'Hinweis auf Pneumonie'}")
    result, _ = await analyse(*await study(tmp_path, "forms"))
    (warning,) = (each for each in result.warnings if each.code is WarningCode.REPORT_TEMPLATE_FAILED)
    assert "failed: TimeoutError" in warning.message


async def test_a_language_without_a_template_is_refused_as_before(site: Path, tmp_path: Path) -> None:
    writing(site, "return {}")
    with pytest.raises(RadserveError) as refusal:
        await analyse(*await study(tmp_path, "forms", language="fr"))
    assert refusal.value.code is ErrorCode.LANGUAGE_NOT_AVAILABLE


def test_only_what_the_settings_name_is_imported(site: Path) -> None:
    writing(site, "return {}")
    install(site, "unnamed", "raise SystemExit", report_templates="unnamed = unnamed_plugin:Template")
    assert dict(site_templates([])) == {}
    assert set(site_templates(["forms"])) == {"de", "en"}
    assert "unnamed_plugin" not in sys.modules


def test_a_setting_that_names_what_cannot_be_used_is_refused(site: Path) -> None:
    writing(site, "return {}")
    install(site, "copy", HEAD + "        return {}\n", report_templates="twice = copy_plugin:Template")
    install(site, "other", HEAD + "        return {}\n", report_templates="twice = other_plugin:Template")
    install(site, "broken", "import nothing_of_this_name\n", report_templates="broken = broken_plugin:Template")
    odd = HEAD.replace('("de", "en")', '("deutsch",)') + "        return {}\n"
    install(site, "odd", odd, report_templates="odd = odd_plugin:Template")
    importlib.invalidate_caches()
    for name, cause in (
        ("absent", "'absent' is not installed"),
        ("twice", "'twice' is in more than one package: copy, other"),
        ("broken", "plug-in 'broken' of broken 1.0 cannot be used: ModuleNotFoundError"),
        ("odd", r"plug-in 'odd' of odd 1.0 has the languages \('deutsch',\)"),
    ):
        with pytest.raises(RadserveError, match=cause) as refusal:
            site_templates(["forms", name])
        assert refusal.value.code is ErrorCode.PLUGIN_FAILED
