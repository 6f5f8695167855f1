"""What the package promises as a whole: light imports, public names, one way for errors."""

import subprocess
import sys

import pytest

import headatlas
from headatlas import errors

HEAVY = ("torch", "transformers", "matplotlib", "pandas", "scipy", "xarray", "ray")


@pytest.mark.parametrize(
    "code",
    [
        "from headatlas import cli, figures, reports, checkpoints, architectures, relations",
        "import sys; sys.argv = ['headatlas', '--help']\n"
        "from headatlas.cli import main\ntry: main()\nexcept SystemExit: pass",
    ],
)
def test_nothing_heavy_is_imported(code):
    check = f"{code}\nimport sys; print([name for name in {HEAVY} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, encoding="utf-8", timeout=300)
    assert done.stdout.splitlines()[-1] == "[]", done.stderr


PUBLIC = [
    "Atlas", "Classification", "Relation", "__version__", "ablate_heads", "attribute_logit", "audit_models",
    "builtin_relations", "classify", "compare_atlases", "compare_functions", "describe_atlas", "draw_map", "explore",
    "find_heads", "head_card", "import_headvis", "import_scores", "load_atlas", "load_relations", "map_heads",
    "measure_attention",
    "measure_composition", "measure_salient", "plan_map", "publish_atlas", "pull_atlas", "remove_heads", "save_atlas",
    "survey_models",
    "validate_atlas", "write_card", "write_model_card", "write_report",
]  # fmt: skip


def test_public_names_are_there():
    assert dir(headatlas) == sorted(headatlas.__all__) == PUBLIC
    for name in headatlas.__all__:
        assert getattr(headatlas, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = headatlas.nothing


def test_every_error_is_in_the_tree():
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, Exception)]
    assert all(issubclass(kind, errors.HeadatlasError) and kind.__name__ in errors.__doc__ for kind in kinds)
