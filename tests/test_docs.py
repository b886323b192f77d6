"""What the README and the help texts say is what the code does."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from django.core.management import load_command_class

from r2maint import checks
from r2maint.conf import SETTINGS
from r2maint.management.commands._options import EXIT_CODES
from tests.conftest import DATABASES

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text()
COMMANDS = (
    "migrate_media_to_r2",
    "verify_urls",
    "purge_orphans",
    "reoptimize",
    "usage_report",
    "r2_runs",
)
DJANGOS = {
    *("--version", "--verbosity", "--settings", "--pythonpath", "--traceback", "--no-color"),
    *("--force-color", "--skip-checks", "--help"),
}


def parser(name: str):
    return load_command_class("r2maint", name).create_parser("manage.py", name)


def code_spans() -> set[str]:
    """Return every word the README sets as code."""
    spans = re.findall(r"`([^`\n]+)`", README)
    return {word for span in spans for word in re.split(r"[\s,|\\=]+", span)}


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_is_in_the_readme(name):
    rejected = load_command_class("r2maint", name).rejects
    options = {
        option
        for action in parser(name)._actions
        for option in action.option_strings
        if option.startswith("--")
    }
    assert options - DJANGOS - set(rejected) - {"--noinput"} <= code_spans()


@pytest.mark.parametrize("name", COMMANDS)
def test_the_help_ends_with_three_examples_that_parse_and_the_exit_codes(name, capsys):
    command = load_command_class("r2maint", name)
    assert len(command.examples) == 3
    for example in command.examples:
        program, called, *arguments = shlex.split(example)
        assert (program, called) == ("manage.py", name)
        parser(name).parse_args(arguments)
    text = parser(name).format_help()
    assert text.rstrip().endswith(EXIT_CODES.rstrip())
    for example in command.examples:
        assert example in text


@pytest.mark.parametrize("name", COMMANDS)
def test_the_help_tells_of_every_option_in_a_sentence(name):
    for action in parser(name)._actions:
        assert action.help


def test_every_reason_of_a_migration_is_in_its_page():
    package = Path(checks.__file__).parent
    files = [*(package / "migrate").glob("*.py"), *(package / "local_files").glob("*.py")]
    source = "".join(path.read_text() for path in (*files, package / "http" / "fetch.py"))
    given = r'(?:UnusableSource\(|reason=|item, |found, |Reason\.\w+: |return )"([a-z_]+)"'
    reasons = set(re.findall(given, source))
    assert {"missing", "key_taken", "too_slow", "object_missing", "linked"} <= reasons
    page = (ROOT / "docs" / "migrate.md").read_text()
    assert reasons <= set(re.findall(r"`([^`\n]+)`", page))


def test_every_setting_is_in_the_readme():
    assert set(SETTINGS) <= code_spans()


def test_every_check_is_in_the_readme():
    source = Path(checks.__file__).read_text()
    ids = set(re.findall(r'"([EW]\d{3})"', source))
    assert ids
    assert {f"r2maint.{number}" for number in ids} <= code_spans()


def test_the_exit_codes_of_help_and_readme_agree():
    codes = re.findall(r"^  (\d+)  ", EXIT_CODES, re.MULTILINE)
    table = README[README.index("| exit | meaning |") :]
    for code in codes:
        assert re.search(rf"^\| (\d+, )?{code}[ ,]", table, re.MULTILINE), code


def test_the_readme_names_the_pythons_and_djangos_of_the_package():
    project = (ROOT / "pyproject.toml").read_text()
    assert 'requires-python = ">=3.11"' in project
    assert '"Django>=4.2"' in project
    assert "Python 3.11 or later, Django 4.2 or later" in README


def test_ci_runs_the_test_command_of_the_readme():
    command = 'python -m pip install -e ".[test]" && python -m pytest'
    assert command in README
    assert command in (ROOT / ".ci" / "run").read_text().splitlines()


@pytest.mark.django_db(databases=DATABASES)
def test_the_library_example_of_the_readme_runs(project):
    blocks = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    example = next(block for block in blocks if "verify_urls(" in block)
    exec(compile(example, "README.md", "exec"), {})
