"""The table of mutations fits the code, and no mutation survives the wiring tests."""

import subprocess
import sys
from importlib.util import module_from_spec, spec_from_file_location
from types import ModuleType

import pytest
from samples import ROOT

SCRIPT = ROOT / "scripts" / "mutants.py"


@pytest.fixture(scope="module")
def mutants() -> ModuleType:
    """The script as a module."""
    spec = spec_from_file_location("mutants", SCRIPT)
    assert spec
    assert spec.loader
    module = module_from_spec(spec)
    sys.modules["mutants"] = module
    spec.loader.exec_module(module)
    return module


def test_every_mutation_has_a_name_of_its_own_and_changes_one_place_that_is_there(mutants: ModuleType) -> None:
    table = mutants.mutations()
    names = [mutation.name for mutation in table]
    assert len(set(names)) == len(names)
    for mutation in table:
        assert mutation.found() == 1, f"{mutation.name}: its text is found {mutation.found()} times in {mutation.file}"
        text = (ROOT / mutation.file).read_text()
        compile(text.replace(mutation.old, mutation.new), mutation.file, "exec")
        assert mutation.old != mutation.new
        assert (ROOT / mutation.tests).is_file(), mutation.tests


def test_every_subject_has_mutations_and_every_wiring_test_a_subject(mutants: ModuleType) -> None:
    named = {mutation.tests for mutation in mutants.mutations()}
    assert named >= {f"tests/{path.name}" for path in (ROOT / "tests").glob("test_wiring*.py")}


@pytest.mark.slow
def test_no_mutation_survives() -> None:
    done = subprocess.run([sys.executable, str(SCRIPT), "--jobs", "2"], capture_output=True, text=True, check=False)
    bad = [line for line in done.stdout.splitlines() if not line.startswith("killed")]
    assert done.returncode == 0, "\n".join(bad) + done.stderr
