"""Befund und Beurteilung in German, one sentence for each finding."""

from __future__ import annotations

RADSERVE_PLUGIN_API = 1
NAMES = {"233604007": "Pneumonie", "254837009": "maligner Brusttumor"}  # SNOMED CT


class German:
    languages = ("de",)

    def write(self, findings, language):
        lines = [self._sentence(each) for each in findings]
        positive = [each.label for each in findings if each.positive]
        summary = " ".join(line for each, line in zip(findings, lines, strict=True) if each.positive)
        return {"Findings": " ".join(lines), "Impression": summary if positive else "Kein auffälliger Befund."}

    def phrases(self, label, code, language):
        name = NAMES.get(code.value, label)
        return (f"Hinweis auf {name}",), (f"Kein Hinweis auf {name}",)

    def nothing_found(self, language):
        return ("Kein auffälliger Befund",)

    def _sentence(self, finding):
        asserts, denies = self.phrases(finding.label, finding.code, "de")
        percent = f"{finding.probability:.0%}".replace("%", " %")
        return f"{(asserts if finding.positive else denies)[0]} (Wahrscheinlichkeit {percent})."
