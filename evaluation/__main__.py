"""`python -m radserve.evaluation`: the same commands as `radserve evaluate`."""

from __future__ import annotations

import sys

from radserve.errors import RadserveError
from radserve.evaluation.cli import evaluate_app


def main() -> None:
    """Run the commands; every expected error ends in one line on the error stream and exit code 1."""
    try:
        evaluate_app(prog_name="radserve evaluate")
    except RadserveError as error:
        sys.stderr.write(f"{error.code}: {error.client_message}\n")
        raise SystemExit(1) from None
    except KeyboardInterrupt:
        raise SystemExit(130) from None


if __name__ == "__main__":
    main()
