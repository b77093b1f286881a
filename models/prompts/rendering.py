"""From a prompt set to the texts that go through the text encoder: synonyms filled in, knowledge added."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from radserve._checks import invalid
from radserve.models.ontology import Ontology
from radserve.models.pack import ModelPack
from radserve.models.pack_types import PackLabel, PromptScoring
from radserve.models.prompts.prompt_set import LabelTemplates, PromptSetFile

SLOT = "{finding}"
_KNOWN_POSITIVE = "{finding} ."
_KNOWN_NEGATIVE = "no {finding} ."


@dataclass(frozen=True, slots=True)
class RenderedLabel:
    """The texts of one label: those of the set, and what the ontology added. `dropped` were not added, for the text
    encoder does not know a word of theirs.
    """

    label: str
    positive: tuple[str, ...]
    negative: tuple[str, ...]
    added_positive: tuple[str, ...] = ()
    added_negative: tuple[str, ...] = ()
    dropped: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class RenderedPrompts:
    """Everything of a set that is encoded. `tasks` holds (task, ((option, texts), ...))."""

    source: PromptSetFile
    labels: tuple[RenderedLabel, ...]
    tasks: tuple[tuple[str, tuple[tuple[str, tuple[str, ...]], ...]], ...] = ()


def render(
    prompts: PromptSetFile, pack: ModelPack, ontology: Ontology, knows: Callable[[str], bool] = lambda _: True
) -> RenderedPrompts:
    """Render a set for its pack; the same set gives the same texts in the same order.

    `knows` says whether the text encoder knows every word of a text. Raises INVALID_ARGUMENT for another pack, labels
    that the pack does not score by prompts or that are missing, sides that do not fit the mode, and labels that the
    ontology lacks where the set expands.
    """
    if prompts.pack != pack.name:
        raise invalid(f"prompt set {prompts.id}: pack", prompts.pack, pack.name)
    scored = {each.name: each for each in pack.labels if isinstance(each.scoring, PromptScoring)}
    if prompts.labels.keys() != scored.keys():
        raise invalid(
            f"prompt set {prompts.id}: labels", sorted(prompts.labels), f"{sorted(scored)}, those of the pack"
        )
    labels = []
    for name, templates in prompts.labels.items():
        if bool(templates.negative) != (prompts.mode == "contrastive"):
            expected = "wordings in mode contrastive, none in mode single"
            raise invalid(f"prompt set {prompts.id}: labels.{name}.negative", list(templates.negative), expected)
        labels.append(_label(prompts, scored[name], templates, ontology, knows))
    tasks = tuple((task, tuple(entry.options.items())) for task, entry in prompts.tasks.items())
    return RenderedPrompts(prompts, tuple(labels), tasks)


def _label(
    prompts: PromptSetFile,
    label: PackLabel,
    templates: LabelTemplates,
    ontology: Ontology,
    knows: Callable[[str], bool],
) -> RenderedLabel:
    node = ontology.of_label(label.name, (label.code.scheme, label.code.value))
    known = node.names.get(prompts.language, ()) if node else ()
    given = tuple(dict.fromkeys(((known[0] if known else label.name.lower()), *templates.synonyms)))
    positive, negative = _filled(templates.positive, given), _filled(templates.negative, given)
    if not prompts.expand:
        return RenderedLabel(label.name, positive, negative)
    if node is None:
        raise invalid(f"prompt set {prompts.id}: expand", label.name, "a finding of the ontology")
    names = tuple(name for name in known if name not in given)
    kinds = tuple(
        f"{given[0]} , a kind of {ontology.nodes[parent].names[prompts.language][0]} ." for parent in node.parents
    )
    more_positive = (*_filled(_slotted(templates.positive) or (_KNOWN_POSITIVE,), names), *kinds)
    more_negative = _filled(_slotted(templates.negative) or (_KNOWN_NEGATIVE,), names) if templates.negative else ()
    new = [tuple(t for t in side if t not in (*positive, *negative)) for side in (more_positive, more_negative)]
    kept = [tuple(text for text in side if knows(text)) for side in new]
    dropped = tuple(text for side in new for text in side if not knows(text))
    return RenderedLabel(label.name, positive, negative, kept[0], kept[1], dropped)


def _filled(templates: Sequence[str], names: Sequence[str]) -> tuple[str, ...]:
    """Each template with each name; one without a slot once."""
    texts = [each.replace(SLOT, name) for each in templates for name in (names if SLOT in each else ("",))]
    return tuple(dict.fromkeys(texts))


def _slotted(templates: Sequence[str]) -> tuple[str, ...]:
    return tuple(each for each in templates if SLOT in each)
