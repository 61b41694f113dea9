"""Every block of docs/recipes.md runs, one after another as a reader would."""

import re
from pathlib import Path

import jax
import pytest

PAGE = Path(__file__).parents[1] / "docs" / "recipes.md"


@pytest.mark.long
def test_every_recipe_runs(tmp_path, monkeypatch):
    pytest.importorskip("pandas")
    optuna = pytest.importorskip("optuna")
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    monkeypatch.chdir(tmp_path)
    kept = jax.config.jax_compilation_cache_dir
    blocks = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.DOTALL | re.MULTILINE)
    names: dict = {}
    try:
        # As users have JAX set: optax's own Adam mixes integers and floats.
        with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
            for block in blocks:
                exec(compile(block, str(PAGE), "exec"), names)
    finally:
        jax.config.update("jax_compilation_cache_dir", kept)
    assert len(blocks) == len(re.findall("^## ", PAGE.read_text(), re.MULTILINE)) + 1
    assert len(names["table"]) == 4
    assert 0.003 < names["study"].best_params["learning_rate"] < 0.1
    assert names["never"].final == names["again"].final
