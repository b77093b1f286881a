"""Signatures of packs, data and evaluation records by OpenSSF Model Signing: a Sigstore bundle over every file.

Works without a network. The signature of a folder lies in it as `model.sig` and covers all other files, pack.toml too;
that of a file lies beside it as `FILE.sig`, and `model_signing verify key` reads it as well.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

from radserve.errors import ErrorCode, PackError
from radserve.models.pack_files import SIGNATURE_FILE

RECORD_SUFFIX = ".sig"


def sign_folder(folder: Path, private_key: Path, kind: str = "pack") -> Path:
    """Sign a folder with a private key (PEM, NIST P-256, P-384 or P-521) and return the signature's path.

    Raises PackError PACK_SIGNATURE when the key cannot be used.
    """
    signature = folder.resolve() / SIGNATURE_FILE
    try:
        _sign(folder, signature, private_key)
    except Exception as error:  # the library has no class of its own for what can go wrong
        cause = f"{kind} {folder.name!r} cannot be signed with this key"
        raise _refused(ErrorCode.PACK_SIGNATURE, cause, error) from error
    return signature


def check_signature(folder: Path, public_key: Path, kind: str = "pack") -> None:
    """Raise PackError unless the folder was signed by the owner of the key: PACK_UNSIGNED, or PACK_SIGNATURE."""
    folder = folder.resolve()
    signature = folder / SIGNATURE_FILE
    if not signature.is_file():
        message = f"{kind} {folder.name!r} is not signed ({SIGNATURE_FILE} is missing)"
        raise PackError(ErrorCode.PACK_UNSIGNED, f"{message}; this site takes signed ones only")
    try:
        _check(folder, signature, _usable(public_key, ErrorCode.PACK_SIGNATURE))
    except PackError:
        raise
    except Exception as error:
        message = f"{kind} {folder.name!r} has a signature that does not fit its files or the site's key"
        raise _refused(ErrorCode.PACK_SIGNATURE, message, error) from error


def sign_record(record: Path, private_key: Path) -> Path:
    """Sign an evaluation record as it is, byte for byte, and return the signature's path, beside it.

    Raises PackError RECORD_SIGNATURE when the key cannot be used.
    """
    signature = record.resolve().with_name(record.name + RECORD_SUFFIX)
    try:
        _sign(record, signature, private_key)
    except Exception as error:
        cause = f"evaluation record {record.name!r} cannot be signed with this key"
        raise _refused(ErrorCode.RECORD_SIGNATURE, cause, error) from error
    return signature


def check_record_signature(record: bytes, signature: bytes, public_key: Path) -> None:
    """Raise PackError unless the owner of the key signed exactly these bytes: RECORD_UNSIGNED, or RECORD_SIGNATURE."""
    if not signature:
        message = "the evaluation record is not signed; this site promotes by signed ones only"
        raise PackError(ErrorCode.RECORD_UNSIGNED, message)
    with tempfile.TemporaryDirectory() as scratch:  # the library reads files
        file, bundle = Path(scratch, "record").resolve(), Path(scratch, "signature").resolve()
        file.write_bytes(record)
        bundle.write_bytes(signature)
        try:
            _check(file, bundle, _usable(public_key, ErrorCode.RECORD_SIGNATURE))
        except PackError:
            raise
        except Exception as error:
            message = "the evaluation record has a signature that does not fit its content or the site's key"
            raise _refused(ErrorCode.RECORD_SIGNATURE, message, error) from error


def _sign(path: Path, signature: Path, private_key: Path) -> None:
    hashing, signing, _ = _library()
    config = signing.Config().use_elliptic_key_signer(private_key=private_key)
    with tempfile.TemporaryDirectory() as scratch:  # a signature that is there stays until there is another one
        made = Path(scratch, "signature").resolve()
        # The library takes relative paths as within the folder.
        config.set_hashing_config(hashing.Config().set_ignored_paths(paths=[signature])).sign(path.resolve(), made)
        shutil.copyfile(made, signature)


def _check(path: Path, signature: Path, public_key: Path) -> None:
    hashing, _, verifying = _library()
    config = verifying.Config().use_elliptic_key_verifier(public_key=public_key)
    # The hashing is said here: what the signature itself asks to leave out must not count.
    config.set_hashing_config(hashing.Config().set_ignored_paths(paths=[signature], ignore_git_paths=False))
    config.verify(path, signature)


def _usable(public_key: Path, code: ErrorCode) -> Path:
    if not public_key.is_file():
        raise PackError(code, f"the site's signing key {public_key.name!r} cannot be read")
    return public_key


def _library() -> tuple[Any, Any, Any]:
    try:
        from model_signing import hashing, signing, verifying
    except ImportError as error:
        message = "signatures need the package model-signing: pip install 'radserve[signing]'"
        raise PackError(ErrorCode.PACK_SIGNATURE, message) from error
    return hashing, signing, verifying


def _refused(code: ErrorCode, message: str, error: Exception) -> PackError:
    return PackError(code, message, detail=f"{message}: {type(error).__name__}: {error}")
