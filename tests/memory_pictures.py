"""Pictures that are no files, for tests of the picture store."""

from dataclasses import dataclass

from drawings import encoded, noise

from anga.datasets.pictures import Journal, PictureStore


@dataclass(frozen=True)
class Memory:
    """A picture that is no file."""

    name: str
    data: bytes
    stamp: str = "1"

    def read(self) -> bytes:
        return self.data


def sources(n=12) -> list[Memory]:
    return [Memory(f"img/{k}.png", encoded(noise(9 + k, 8, seed=k))) for k in range(n)]


def store_of(folder, pictures) -> PictureStore:
    return PictureStore(Journal(folder).blob, Journal(folder).entries(pictures))
