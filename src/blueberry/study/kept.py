"""Results that stay in the store until somebody asks for one: a study may have more of them than memory holds."""

from collections.abc import Iterable, Iterator, Mapping

from blueberry.records import RunResult
from blueberry.study.store import Store


class Kept(Mapping[str, RunResult]):
    """The results of these runs, by fingerprint. Each is read when it is asked for, and then forgotten.

    So go through it once, and ask for nothing twice. It needs the store open.
    Raises: StoreError if a result cannot be read.
    """

    def __init__(
        self, store: Store, fingerprints: Iterable[str], beside: Mapping[str, RunResult] | None = None
    ) -> None:
        """All of them must have ended. `beside` are further results that are not in the store: runs given up."""
        self._store = store
        self._beside = dict(beside or {})
        self._names = dict.fromkeys([*fingerprints, *self._beside])

    def __getitem__(self, fingerprint: str) -> RunResult:
        if fingerprint in self._beside:
            return self._beside[fingerprint]
        if fingerprint not in self._names:
            raise KeyError(fingerprint)
        return self._store.results([fingerprint])[fingerprint]

    def __contains__(self, fingerprint: object) -> bool:
        return fingerprint in self._names

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)
