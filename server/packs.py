"""The packs of a site by its settings: where they lie and what is asked of them."""

from __future__ import annotations

from radserve.errors import ErrorCode, PackError
from radserve.models.catalogue import PackCatalogue, built_in_folder, split_reference
from radserve.models.pack_policy import PackPolicy
from radserve.pipelines.rules_file import read_rules
from radserve.server.operation.versions import Versions
from radserve.server.settings import Settings

ON_REQUEST = frozenset(("ct-chest-mini",))
"""Packs that come with radserve and are loaded where they are named, so that nobody else pays for them."""


def site_policy(settings: Settings) -> PackPolicy:
    """What the site asks of every pack."""
    return PackPolicy(
        settings.site_use, settings.commercial_licences, settings.pack_signing_key, settings.preprocessors
    )


def site_catalogue(settings: Settings) -> PackCatalogue:
    """The packs of the site's folders and those that `radserve models add` fetched."""
    fetched = (settings.pack_store,) if settings.pack_store.is_dir() else ()
    return PackCatalogue((*settings.pack_dirs, *fetched), policy=site_policy(settings))


def site_versions(settings: Settings, catalogue: PackCatalogue) -> Versions:
    """The versions of the packs, and which of them are served. Raises UNKNOWN_PACK for a setting that names no pack."""
    for reference in settings.packs:
        catalogue.get(reference)
    default_name, _ = split_reference(settings.default_pack)
    _check_known(catalogue, default_name)  # a version of it need not be there, where another was promoted
    beside = tuple(split_reference(each)[0] for each in settings.packs)
    named = {default_name, *beside}
    if settings.workflow and settings.rules_file:
        named |= {rule.pack for rule in read_rules(settings.rules_file).rules}
    return Versions(catalogue, settings.default_pack, beside, frozenset(_built_in_only(catalogue)) - named)


def _check_known(catalogue: PackCatalogue, name: str) -> None:
    """Raise UNKNOWN_PACK for a name that no folder holds; one that is there and broken does not end the start."""
    try:
        catalogue.get(name)
    except PackError as error:
        if error.code is ErrorCode.UNKNOWN_PACK:
            raise


def _built_in_only(catalogue: PackCatalogue) -> list[str]:
    """Those of ON_REQUEST of which the site has no version of its own."""
    return [
        name
        for name in sorted(ON_REQUEST)
        if all(pack.folder.parent == built_in_folder() for pack in catalogue.versions(name))
    ]
