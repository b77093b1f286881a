"""The packs of a site by its settings: where they lie and what is asked of them."""

from __future__ import annotations

from radserve.models.catalogue import PackCatalogue
from radserve.models.pack_policy import PackPolicy
from radserve.server.settings import Settings


def site_policy(settings: Settings) -> PackPolicy:
    """What the site asks of every pack."""
    return PackPolicy(settings.site_use, settings.commercial_licences, settings.pack_signing_key)


def site_catalogue(settings: Settings) -> PackCatalogue:
    """The packs of the site's folders and those that `radserve models add` fetched."""
    fetched = (settings.pack_store,) if settings.pack_store.is_dir() else ()
    return PackCatalogue((*settings.pack_dirs, *fetched), policy=site_policy(settings))
