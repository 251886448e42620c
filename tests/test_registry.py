"""A registry: one writer per name, and a reader who is told what else there is."""

from __future__ import annotations

import pytest

from detkit.errors import UnknownNameError
from detkit.registry import Registry


def letters() -> Registry[str]:
    registry: Registry[str] = Registry("letter")
    registry.register("beta")("b")
    registry.register("alpha")("a")
    return registry


def test_entries_are_found_by_name_and_listed_in_order() -> None:
    registry = letters()
    assert registry["alpha"] == "a"
    assert list(registry) == ["alpha", "beta"]
    assert "alpha" in registry
    assert "gamma" not in registry


def test_register_returns_what_it_was_given() -> None:
    assert letters().register("gamma")("c") == "c"


def test_a_name_is_given_once() -> None:
    with pytest.raises(ValueError, match="beta") as caught:
        letters().register("beta")("c")
    assert str(caught.value) == "letter 'beta' is registered twice"


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("alfa", "no letter named 'alfa'. Did you mean 'alpha'?"),
        ("zzz", "no letter named 'zzz'. Known: alpha, beta."),
        ("z" * 5000, f"no letter named '{'z' * 196}.... Known: alpha, beta."),
        (["alpha"], "no letter named ['alpha']. Did you mean 'alpha'?"),  # as a file may have it
        ({}, "no letter named {}. Known: alpha, beta."),
        (None, "no letter named None. Known: alpha, beta."),
    ],
)
def test_an_unknown_name_is_told_what_is_known(name: str, said: str) -> None:
    with pytest.raises(UnknownNameError) as caught:
        letters()[name]
    assert str(caught.value) == said
