"""The ``-k`` expression: words with and, or, not and parentheses over names and tags of cases."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

from testbed.errors import UsageError

Predicate = Callable[[str, Iterable[str]], bool]
_TOKEN = re.compile(r"\s*(\(|\)|[^\s()]+)")
_MAX_TOKENS = 200


def parse_selection(text: str) -> Predicate:
    """Return a predicate over (case name, tags). A word is true when it is in the name or is a tag.

    The empty expression is true for all. Raises `UsageError` when ``text`` is no expression.
    """
    tokens = _TOKEN.findall(text)
    if not tokens:
        return lambda _name, _tags: True
    if len(tokens) > _MAX_TOKENS:
        raise UsageError(f"the expression after -k has more than {_MAX_TOKENS} words")
    return _Parser(text, tokens).parse()


class _Parser:
    """Recursive descent: or < and < not < word; the number of tokens bounds the depth."""

    def __init__(self, text: str, tokens: list[str]) -> None:
        self.text = text
        self.tokens = tokens
        self.position = 0

    def parse(self) -> Predicate:
        found = self._either()
        if self.position < len(self.tokens):
            raise self._error(f"'{self.tokens[self.position]}' is not expected there")
        return found

    def _next(self) -> str | None:
        return self.tokens[self.position] if self.position < len(self.tokens) else None

    def _accept(self, token: str) -> bool:
        if self._next() != token:
            return False
        self.position += 1
        return True

    def _either(self) -> Predicate:
        left = self._both()
        while self._accept("or"):
            left = _build_or(left, self._both())
        return left

    def _both(self) -> Predicate:
        left = self._negation()
        while self._accept("and"):
            left = _build_and(left, self._negation())
        return left

    def _negation(self) -> Predicate:
        if self._accept("not"):
            inner = self._negation()
            return lambda name, tags: not inner(name, tags)
        if self._accept("("):
            found = self._either()
            if not self._accept(")"):
                raise self._error("a ')' is missing")
            return found
        word = self._next()
        if word is None or word in (")", "and", "or"):
            raise self._error(f"a word is missing {f'before {word!r}' if word else 'at the end'}")
        self.position += 1
        return _build_word(word.lower())

    def _error(self, why: str) -> UsageError:
        hint = "testbed run -k 'fence and not (fault or slow)'"
        return UsageError(f"the expression '{self.text}' after -k is wrong: {why}", hint=hint)


def _build_word(word: str) -> Predicate:
    return lambda name, tags: word in name.lower() or word in {tag.lower() for tag in tags}


def _build_and(left: Predicate, right: Predicate) -> Predicate:
    return lambda name, tags: left(name, tags) and right(name, tags)


def _build_or(left: Predicate, right: Predicate) -> Predicate:
    return lambda name, tags: left(name, tags) or right(name, tags)
