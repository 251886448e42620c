"""The sentence that helps out of a misspelling."""

from __future__ import annotations

import pytest

from detkit.errors import (
    ConfigError,
    DataError,
    DetkitError,
    UnknownNameError,
    did_you_mean,
    shown,
    shown_value,
)


def test_a_near_word_is_suggested() -> None:
    assert did_you_mean("nms_iuo", ["nms_iou", "lr"]) == " Did you mean 'nms_iou'?"


def test_without_a_near_word_all_are_listed_in_order() -> None:
    assert did_you_mean("xyz", ["tiny", "darknet19"]) == " Known: darknet19, tiny."


def test_without_any_word_nothing_is_said() -> None:
    assert did_you_mean("xyz", []) == ""


@pytest.mark.parametrize(
    ("kind", "builtin"),
    [(ConfigError, ValueError), (DataError, ValueError), (UnknownNameError, LookupError)],
)
def test_every_error_is_one_of_ours_and_one_of_pythons(kind: type, builtin: type) -> None:
    assert issubclass(kind, DetkitError)
    assert issubclass(kind, builtin)


def test_unknown_names_print_without_the_quotes_of_a_key_error() -> None:
    assert str(UnknownNameError("no backbone named 'x'.")) == "no backbone named 'x'."


def test_foreign_text_is_quoted_on_one_line_and_cut_short() -> None:
    assert shown("a\nb") == r"'a\nb'"
    assert shown("x" * 60) == repr("x" * 60)
    assert shown("x" * 61) == repr("x" * 60) + "..."


def test_a_foreign_value_is_written_as_python_does_and_cut_short() -> None:
    assert shown_value([1, "a\nb"]) == r"[1, 'a\nb']"
    assert shown_value(["a"] * 300) == repr(["a"] * 300)[:197] + "..."
