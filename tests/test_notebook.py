"""In IPython an atlas shows its map; elsewhere nothing is registered."""

import subprocess
import sys

from atlases import make_atlas
from headatlas import notebook
from needs import need_package

need_package("IPython", "dev")


def test_a_shell_shows_the_map_of_an_atlas():
    from IPython.core.interactiveshell import InteractiveShell

    shell = InteractiveShell()
    notebook.register_in(shell)
    atlas = make_atlas(3, 2, ("Knowledge",))
    data, _ = shell.display_formatter.format(atlas)
    assert data["image/png"] == notebook.map_as_png(atlas)
    assert data["text/plain"].startswith("<Atlas of demo-135M")


def test_importing_headatlas_in_a_running_shell_registers_and_imports_nothing_heavy():
    code = (
        "import sys; from IPython.core.interactiveshell import InteractiveShell\n"
        "shell = InteractiveShell.instance()\n"
        "before = set(sys.modules)\n"
        "import headatlas\n"
        "known = shell.display_formatter.formatters['image/png'].deferred_printers\n"
        "assert ('headatlas.atlas.value', 'Atlas') in known\n"
        "assert not {'torch', 'pandas', 'matplotlib'} & (set(sys.modules) - before)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=300)


def test_without_a_shell_nothing_is_registered():
    code = "import IPython, sys, headatlas; assert 'headatlas.figures' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=300)
