"""Signatures of packs and of data by OpenSSF Model Signing: a Sigstore bundle over every file of a folder.

Works without a network. The signature lies in the folder as `model.sig`; it covers all other files, pack.toml too.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from radserve.errors import ErrorCode, PackError
from radserve.models.pack_files import SIGNATURE_FILE


def sign_folder(folder: Path, private_key: Path, kind: str = "pack") -> Path:
    """Sign a folder with a private key (PEM, NIST P-256, P-384 or P-521) and return the signature's path.

    Raises PackError PACK_SIGNATURE when the key cannot be used.
    """
    hashing, signing, _ = _library()
    folder = folder.resolve()  # the library takes relative paths as within the folder
    signature = folder / SIGNATURE_FILE
    signature.unlink(missing_ok=True)
    try:
        config = signing.Config().use_elliptic_key_signer(private_key=private_key)
        config.set_hashing_config(hashing.Config().set_ignored_paths(paths=[signature])).sign(folder, signature)
    except Exception as error:  # the library has no class of its own for what can go wrong
        raise _refused(f"{kind} {folder.name!r} cannot be signed with this key", error) from error
    return signature


def check_signature(folder: Path, public_key: Path, kind: str = "pack") -> None:
    """Raise PackError unless the folder was signed by the owner of the key: PACK_UNSIGNED, or PACK_SIGNATURE."""
    folder = folder.resolve()
    signature = folder / SIGNATURE_FILE
    if not signature.is_file():
        message = f"{kind} {folder.name!r} is not signed ({SIGNATURE_FILE} is missing)"
        raise PackError(ErrorCode.PACK_UNSIGNED, f"{message}; this site takes signed ones only")
    hashing, _, verifying = _library()
    if not public_key.is_file():
        raise PackError(ErrorCode.PACK_SIGNATURE, f"the site's signing key {public_key.name!r} cannot be read")
    try:
        config = verifying.Config().use_elliptic_key_verifier(public_key=public_key)
        # The hashing is said here: what the signature itself asks to leave out must not count.
        config.set_hashing_config(hashing.Config().set_ignored_paths(paths=[signature], ignore_git_paths=False))
        config.verify(folder, signature)
    except Exception as error:
        message = f"{kind} {folder.name!r} has a signature that does not fit its files or the site's key"
        raise _refused(message, error) from error


def _library() -> tuple[Any, Any, Any]:
    try:
        from model_signing import hashing, signing, verifying
    except ImportError as error:
        message = "signatures need the package model-signing: pip install 'radserve[signing]'"
        raise PackError(ErrorCode.PACK_SIGNATURE, message) from error
    return hashing, signing, verifying


def _refused(message: str, error: Exception) -> PackError:
    return PackError(ErrorCode.PACK_SIGNATURE, message, detail=f"{message}: {type(error).__name__}: {error}")
