"""What a site asks of a pack before it is used: a licence that allows what the site does, a signature it trusts."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from radserve.errors import ErrorCode, PackError
from radserve.models.pack import ModelPack
from radserve.models.pack_signature import check_signature
from radserve.plugins import PluginRef
from radserve.preprocessors import resolve

SiteUse = Literal["research", "commercial"]

# SPDX identifiers (lower case) of licences that allow commercial use of weights.
COMMERCIAL = frozenset(
    (
        *("0bsd", "apache-2.0", "bsd-2-clause", "bsd-3-clause", "bsl-1.0", "isc", "mit", "unlicense", "zlib"),
        *("cc-by-3.0", "cc-by-4.0", "cc-by-sa-4.0", "cc0-1.0", "cdla-permissive-2.0", "mpl-2.0"),
        *("gpl-2.0-only", "gpl-3.0-only", "gpl-3.0-or-later", "lgpl-3.0-only"),
    )
)


@dataclass(frozen=True, slots=True)
class PackPolicy:
    """The site's rules. `signing_key` is a public key (PEM): with it, packs of the site's folders have to be signed.

    `licences` are further ones that the site has found to allow commercial use (a contract, a name not listed here),
    `preprocessors` the pre-processors of other packages that packs may name here.
    """

    site_use: SiteUse = "research"
    licences: tuple[str, ...] = ()
    signing_key: Path | None = None
    preprocessors: tuple[str, ...] = ()

    def check_licence(self, name: str, licence: str) -> None:
        """Raise PACK_LICENCE when the site is commercial and the licence is not known to allow that."""
        if self.site_use != "commercial":
            return
        known = COMMERCIAL | {each.lower() for each in self.licences}
        if licence.lower() in known:  # the site's own name of one may hold an "and" or parentheses
            return
        terms = [term for term in re.split(r"\s+(?:and|with)\s+|[()]", licence.lower()) if term.strip()]
        if not terms or not all(term.strip() in known for term in terms):
            message = f"pack {name!r} has the licence {licence!r}, which is not known to allow commercial use"
            raise PackError(ErrorCode.PACK_LICENCE, message)

    def preprocessors_of(self, pack: ModelPack) -> Mapping[str, PluginRef]:
        """The plug-ins that the pack's preprocessing names. Raises PACK_PLUGIN for one that cannot be had here."""
        transforms = [step.transform for use in pack.inputs for step in use.preprocess]
        try:
            return resolve(transforms, self.preprocessors)
        except PackError as error:
            raise PackError(error.code, f"pack {pack.name!r}: {error.client_message}") from None

    def check_signature(self, folder: Path) -> None:
        """Raise PACK_UNSIGNED, or PACK_SIGNATURE for one that does not fit, where the site has a key."""
        if self.signing_key is not None:
            check_signature(folder, self.signing_key)
