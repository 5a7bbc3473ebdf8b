"""The algorithm's modules import torch and the standard library, nothing else."""

import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]

# Modules that torch itself imports do not count.
CODE = """
import importlib, pkgutil, sys, torch
before = {name.partition('.')[0] for name in sys.modules}
from reinforcepp_verl import algorithm
modules = [module.name for module in pkgutil.iter_modules(algorithm.__path__, "reinforcepp_verl.algorithm.")]
for module in modules:
    importlib.import_module(module)
new = {name.partition('.')[0] for name in sys.modules} - before - set(sys.stdlib_module_names)
print(len(modules), *sorted(new))
"""


def test_the_modules_import_only_torch():
    done = subprocess.run([sys.executable, "-c", CODE], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    modules = list((REPOSITORY / "reinforcepp_verl" / "algorithm").glob("[!_]*.py"))
    assert done.stdout.split() == [str(len(modules)), "reinforcepp_verl"]
