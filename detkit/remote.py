"""A file that addresses on the network serve, how patiently it is fetched, and who is told.

``download.py`` fetches it.
"""

from __future__ import annotations

from dataclasses import dataclass

HASHES = ("sha256", "sha1", "md5")


@dataclass(frozen=True, slots=True)
class Form:
    """What a file must be like where it is in more than one form about."""

    size: int  # bytes
    hash: str | None = None  # as in RemoteFile


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """A file that several addresses serve."""

    name: str  # plain file name
    addresses: tuple[str, ...]  # http or https, the one to prefer first
    size: int | None = None  # bytes; None: not known for certain
    hash: str | None = None  # "sha256:...", "sha1:..." or "md5:..."; None: not known for certain
    also: tuple[Form, ...] = ()  # other forms that are as right, of other sizes; a size is known

    def __post_init__(self) -> None:
        for said in (self.hash, *(form.hash for form in self.also)):
            kind = (said or HASHES[0]).partition(":")[0]
            if kind not in HASHES:
                raise ValueError(
                    f"{self.name}: no hash of kind {kind!r}; known: {', '.join(HASHES)}."
                )
        if self.also and len({self.size, *(form.size for form in self.also)}) <= len(self.also):
            raise ValueError(f"{self.name}: two forms of one size; sizes must tell them apart.")
        if self.also and self.size is None:
            raise ValueError(f"{self.name}: other forms are told apart by size; state its own.")

    @property
    def forms(self) -> tuple[Form, ...]:
        """Every form that is right; none where the size is not known."""
        return () if self.size is None else (Form(self.size, self.hash), *self.also)

    @property
    def sizes(self) -> tuple[int, ...]:
        """Bytes of every form that is right; none where the size is not known."""
        return tuple(form.size for form in self.forms)

    @property
    def most(self) -> int | None:
        """Bytes of the largest form; None where the size is not known."""
        return max(self.sizes, default=None)

    @property
    def has_hash(self) -> bool:
        """Whether the content is known, whichever form comes."""
        return self.hash is not None and all(form.hash is not None for form in self.also)

    def hash_of(self, size: int) -> str | None:
        """The hash that a file of so many bytes must have; None where it is not known."""
        return next((form.hash for form in self.forms if form.size == size), self.hash)

    def sizes_in_words(self) -> str:
        """Its bytes, ``100`` or ``100 or 104``; empty where they are not known."""
        return " or ".join(f"{size:,}" for size in self.sizes)


def same_hash(known: str, found: str) -> bool:
    """Whether a hash is the one that is known.

    Args:
        known: as in ``RemoteFile``, the kind before its digits.
        found: digits of that kind alone.
    """
    return known.partition(":")[2].lower() == found.lower()


@dataclass(frozen=True, slots=True)
class DownloadSettings:
    """How patient a download is."""

    stall_seconds: float = 30.0  # without a byte, or at less than slowest, until it is a stall
    slowest: int = 1024  # bytes per second, averaged over stall_seconds
    tries: int = 5  # break-offs in a row at one address that bring less than progress_bytes
    progress_bytes: int = 1 << 20
    rounds: int = 3  # through all addresses
    pause_seconds: float = 5.0  # before a fruitless address is asked again
    most_bytes: int = 100 * 10**9  # of a file whose size is not known
    named_by: str = "--out"  # what a person names another folder with, for the messages


class Watch:
    """Is told how long work goes; this one keeps silent."""

    def begin(self, what: str, done: int, total: int | None) -> None:
        """Work on ``total`` bytes begins, ``done`` of them from an earlier run."""

    def move(self, done: int) -> None:
        """``done`` bytes are done."""

    def end(self) -> None:
        """The work that began is complete; not called where it failed."""

    def say(self, line: str) -> None:
        """One line for the user."""


SILENT = Watch()
