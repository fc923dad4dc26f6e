"""What no file of the checkout may say."""

import re

from tests.house.tree import ROOT, files

HOSTS = ("pypi" + ".org", "python" + "hosted", "test" + ".pypi", "ana" + "conda.org", "npm" + "js.org")
PLACES = (
    r"(?<![\w./])/" + r"root/",
    r"(?<![\w./])/" + r"work/",
    r"/" + r"home/[a-z]+/",
    r"/" + r"Users/[A-Za-z]+/",
)
UNFINISHED = ("TO" + "DO", "FIX" + "ME", "X" + "XX")


def sayings(pattern: str) -> list[str]:
    found = []
    for path in files():
        try:
            text = path.read_text()
        except UnicodeDecodeError:
            continue
        found += [
            f"{path.relative_to(ROOT)}:{number}"
            for number, line in enumerate(text.splitlines(), 1)
            if re.search(pattern, line)
        ]
    return found


def test_no_file_names_a_package_index() -> None:
    assert sayings("|".join(re.escape(host) for host in HOSTS)) == []


def test_no_file_names_a_place_on_somebody_s_machine() -> None:
    assert sayings("|".join(PLACES)) == []


def test_no_file_says_that_it_is_unfinished() -> None:
    assert sayings(r"\b(" + "|".join(UNFINISHED) + r")\b") == []


def test_these_tests_find_what_they_look_for() -> None:
    assert sayings("def test_these_tests_find_what" + "_they_look_for") == [
        next(
            f"tests/house/test_words.py:{number}"
            for number, line in enumerate(
                (ROOT / "tests/house/test_words.py").read_text().splitlines(), 1
            )
            if line.startswith("def test_these_tests_find_what")
        )
    ]
