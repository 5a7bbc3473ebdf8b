"""The algorithm's modules import torch and the standard library, nothing else."""

import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
MODULES = sorted(path.stem for path in (REPOSITORY / "reinforcepp_verl" / "algorithm").glob("*.py"))

# Modules that torch itself imports do not count.
CODE = """
import sys, torch
before = {name.partition('.')[0] for name in sys.modules}
import reinforcepp_verl.algorithm.{module}
new = {{name.partition('.')[0] for name in sys.modules}} - before
print(sorted(new - set(sys.stdlib_module_names)))
"""


@pytest.mark.parametrize("module", MODULES)
def test_module_imports_only_torch(module):
    code = CODE.replace("{module}", module).replace("{{", "{").replace("}}", "}")
    result = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "['reinforcepp_verl']"
