"""Imports point one way: a module imports only from floors below its own."""

import ast
from pathlib import Path

import fedhm_jax

ROOT = Path(fedhm_jax.__file__).parent
FLOORS = [
    {"errors", "files", "interruption", "tree", "convolution", "losses", "augmentation", "truncation", "data.dataset"},
    {
        "config",
        "costs",
        "decomposition",
        "norms",
        "optimizers",
        "aggregation",
        "client_data",
        "tiers",
        "data",
        "lanes",
        "sharding",
        "distributed",
    },
    {"results", "field_types", "layers", "cohort", "network", "acceptance", "privacy", "memory"},
    {
        "config_file",
        "validation",
        "study",
        "models",
        "rank_plan",
        "width_plan",
        "objective",
        "devices",
        "evaluation",
        "budgets",
        "checkpoint",
        "robust",
        "divergence",
    },
    {"study_file", "client", "strategies.base"},
    {"strategies", "reporting"},
    {"engine", "model_preparation", "strategy_preparation", "merge_preparation"},
    {"preparation", "seeds", "round_record"},
    {"program", "resumption"},
    {"host_loop"},
    {"simulation"},
    {"comparison"},
    {"cli"},
]


def unit(module):
    """The named unit a module belongs to: itself, or its package."""
    parts = module.split(".")
    named = set().union(*FLOORS)
    return next(name for end in range(len(parts), 0, -1) if (name := ".".join(parts[:end])) in named)


def imports(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("fedhm_jax."):
            yield node.module.removeprefix("fedhm_jax.")
        elif isinstance(node, ast.ImportFrom) and node.module == "fedhm_jax":
            yield from (alias.name for alias in node.names)


def test_imports_point_downward():
    floor = {name: height for height, names in enumerate(FLOORS) for name in names}
    for path in sorted(ROOT.rglob("*.py")):
        module = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        if module in ("__init__", "__main__"):
            continue
        for imported in imports(path):
            here, there = unit(module), unit(imported)
            assert here == there or floor[there] < floor[here], f"{module} imports {imported}"


def test_numeric_code_does_not_see_the_config():
    allowed = {
        "preparation",
        "model_preparation",
        "strategy_preparation",
        "merge_preparation",
        "simulation",
        "resumption",
        "host_loop",
        "memory",
        "comparison",
        "cli",
    }
    allowed |= {"field_types", "validation", "config_file", "study", "study_file", "results", "reporting"}
    for path in sorted(ROOT.rglob("*.py")):
        module = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        if module not in ("__init__", "__main__") and unit(module) not in allowed:
            assert not any(name.split(".")[0] == "config" for name in imports(path)), module
