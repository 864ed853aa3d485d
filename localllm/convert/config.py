"""What `config.json` says, each value checked where it is asked for."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from localllm.errors import InvalidCheckpoint, UnsupportedModel

_MAX_COUNT = (1 << 31) - 1


def read_json(path: Path) -> dict[str, Any]:
    """Return the object that a JSON file holds.

    Raises:
        InvalidCheckpoint: it cannot be read, or holds something else.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InvalidCheckpoint(
            f"{path.name} cannot be read: {error.strerror}.", hint=f"Check {path.parent}, or download the model again."
        ) from error
    except (ValueError, RecursionError) as error:
        raise InvalidCheckpoint(f"{path.name} is no JSON: {error}.", hint="Download the file again.") from error
    if not isinstance(value, dict):
        raise InvalidCheckpoint(f"{path.name} holds no JSON object.", hint="Download the file again.")
    return value


class Config:
    """The values of a `config.json`. Of several keys, the first that is there counts; null is not there.

    Args:
        values: those.
        name: of the file, for errors.
    """

    def __init__(self, values: Mapping[str, Any], name: str = "config.json") -> None:
        self.values = values
        self.name = name

    def get(self, *keys: str) -> Any:
        """Return the value of the first key that is there, or None."""
        return next((self.values[key] for key in keys if self.values.get(key) is not None), None)

    def count(self, *keys: str, default: int | None = None, least: int = 1) -> int:
        """Return a whole number of at least `least`.

        Raises:
            InvalidCheckpoint: it is no such number, or is missing without a default.
        """
        value = self.get(*keys)
        value = default if value is None else value
        if type(value) is not int or not least <= value <= _MAX_COUNT:
            raise self._problem(keys, value, f"a whole number of at least {least}")
        return value

    def number(self, *keys: str, default: float | None = None) -> float:
        """Return a finite number.

        Raises:
            InvalidCheckpoint: it is no number, or is missing without a default.
        """
        value = self.get(*keys)
        value = default if value is None else value
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise self._problem(keys, value, "a number")
        return float(value)

    def flag(self, *keys: str, default: bool = False) -> bool:
        """Return a truth value.

        Raises:
            InvalidCheckpoint: it is something else.
        """
        value = self.get(*keys)
        value = default if value is None else value
        if not isinstance(value, bool):
            raise self._problem(keys, value, "true or false")
        return value

    def sequence(self, key: str) -> Sequence[Any] | None:
        """Return a list, or None if there is none.

        Raises:
            InvalidCheckpoint: it is something else.
        """
        value = self.get(key)
        if value is not None and not isinstance(value, list):
            raise self._problem((key,), value, "a list")
        return value

    def section(self, *keys: str) -> Config:
        """Return an object within this one; an empty one if it is not there.

        Raises:
            InvalidCheckpoint: it is something else.
        """
        value = self.get(*keys)
        if value is None:
            return Config({}, self.name)
        if not isinstance(value, dict):
            raise self._problem(keys, value, "an object")
        return Config(value, self.name)

    def demand(self, key: str, *allowed: Any, missing: Any = None) -> None:
        """Check that a value is one of those that llama.cpp computes with.

        Args:
            key: of the value.
            allowed: those.
            missing: what a missing key means; without, it is allowed.

        Raises:
            UnsupportedModel: it is another one.
        """
        value = self.get(key)
        value = missing if value is None else value
        if value is not None and value not in allowed:
            known = " or ".join(json.dumps(one) for one in allowed)
            raise UnsupportedModel(
                f"{self.name}: {key} is {json.dumps(value)}; llama.cpp computes this architecture only with {known}.",
                hint="This model cannot be converted; choose one without that change.",
            )

    def _problem(self, keys: Sequence[str], value: object, expected: str) -> InvalidCheckpoint:
        what = "is missing" if value is None else f"is {json.dumps(value)}; it must be {expected}"
        return InvalidCheckpoint(
            f"{self.name}: {' or '.join(keys)} {what}.",
            hint=f"Check {self.name} against the model's page, or download it again.",
        )
