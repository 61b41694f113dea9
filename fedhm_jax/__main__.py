"""``python -m fedhm_jax`` is ``fedhm``."""

from fedhm_jax.cli import program

if __name__ == "__main__":
    program()
