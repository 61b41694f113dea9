"""``python -m fedhm_jax`` is ``fedhm``."""

import sys

from fedhm_jax.cli import main

if __name__ == "__main__":
    sys.exit(main())
