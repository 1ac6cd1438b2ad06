"""The tree drawn in errors.py is the tree that exists."""

from __future__ import annotations

import inspect
import re

import pytest

from palm_torch import errors
from palm_torch.result import Check

CLASSES = {
    name: value
    for name, value in vars(errors).items()
    if inspect.isclass(value) and value.__module__ == errors.__name__
}
DRAWN_LINE = re.compile(r"^    (?P<branches>(?:│   |    )*)(?:├── |└── )(?P<name>\w+)  +\S")


def drawn_parents() -> dict[str, str]:
    """Returns class -> parent as the module's docstring draws it."""
    path = ["PalmTorchError"]
    parents = {}
    for line in (errors.__doc__ or "").splitlines():
        match = DRAWN_LINE.match(line)
        if match:
            depth = len(match["branches"]) // 4 + 1
            path[depth:] = [match["name"]]
            parents[match["name"]] = path[depth - 1]
    return parents


def test_the_drawing_is_the_tree() -> None:
    real = {name: value.__bases__[0].__name__ for name, value in CLASSES.items() if name != "PalmTorchError"}
    assert drawn_parents() == real


@pytest.mark.parametrize("name", CLASSES)
def test_each_class_says_what_it_means_and_can_be_caught_at_the_root(name: str) -> None:
    error = CLASSES[name]
    assert issubclass(error, errors.PalmTorchError)
    assert name.endswith("Error")
    assert error.__doc__
    with pytest.raises(errors.PalmTorchError, match=r"^what, where$"):
        raise error("what, where")


def test_a_missing_extra_is_an_import_error_too() -> None:
    with pytest.raises(ImportError):
        raise errors.MissingExtraError("palm-torch[kzg]")


def test_the_exit_codes_cannot_be_confused() -> None:
    assert not issubclass(errors.InputError, errors.RejectedError)
    assert not issubclass(errors.RejectedError, errors.InputError)


# a name put before the message of an error: the class, the cause and what had passed stay


@pytest.mark.parametrize("kind", [errors.BindingError, errors.EvidenceError, errors.SessionError])
def test_a_name_before_a_message(kind: type[errors.PalmTorchError]) -> None:
    cause = kind("what, where")
    with pytest.raises(kind) as caught, errors.prefixed("segment 2"):
        raise cause
    assert type(caught.value) is kind
    assert str(caught.value) == "segment 2: what, where"
    assert caught.value.__cause__ is cause


def test_the_checks_that_had_passed_stay() -> None:
    cause = errors.ClaimError("steps")
    cause.checks = (Check(name="encoding", detail="canonical"),)
    with pytest.raises(errors.ClaimError) as caught, errors.prefixed("segment 1"):
        raise cause
    assert caught.value.checks == cause.checks


def test_other_errors_pass_as_they_are() -> None:
    with pytest.raises(ZeroDivisionError, match=r"^division by zero$"), errors.prefixed("segment 1"):
        _ = 1 / 0
    with errors.prefixed("segment 1"):
        pass
