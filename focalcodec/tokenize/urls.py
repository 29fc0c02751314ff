"""Files at URLs of object stores and others, by fsspec: s3://, gs://, hf://, https://, memory://."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO, NamedTuple

import fsspec

from focalcodec.data.corpus import FoundFile
from focalcodec.data.randomness import stable_seed
from focalcodec.errors import UserError, one_line

_PACKAGES = {"s3": "s3fs", "s3a": "s3fs", "gs": "gcsfs", "gcs": "gcsfs", "az": "adlfs"}
# What a store says of an object's version, the best first.
_VERSIONS = ("ETag", "etag", "md5Hash", "blob_id", "mtime", "LastModified", "updated", "created")


class StorageError(UserError):
    """A store can't be used: network, credentials or permissions. It says nothing of a clip."""


class Place(NamedTuple):
    """A file system of fsspec, and a path in it."""

    files: Any  # fsspec.AbstractFileSystem; the package has no types
    path: str
    url: str

    def below(self, name: str) -> Place:
        """Place of a file below this one."""
        return Place(
            self.files, f"{self.path.rstrip('/')}/{name}", f"{self.url.rstrip('/')}/{name}"
        )


def is_url(text: str) -> bool:
    """Whether a text names a file by a URL.

    Example
    -------
    >>> is_url("s3://bucket/speech"), is_url("speech/a.wav"), is_url("C:/speech")
    (True, False, False)
    """
    return re.match(r"[a-z][a-z0-9+.-]+://", text) is not None


def open_place(url: str) -> Place:
    """Open the file system of a URL.

    Its settings are those of fsspec: the environment and `~/.config/fsspec`. `UserError` for an
    unknown protocol or a package that is not installed, `StorageError` if the store refuses.
    """
    with storage_errors(url):
        files, path = fsspec.core.url_to_fs(url)
    return Place(files, path, url)


@contextmanager
def storage_errors(url: str) -> Iterator[None]:
    """Raise each error of a store as one line; a missing file is a `UserError`."""
    protocol = url.split("://")[0]
    try:
        yield
    except UserError:
        raise
    except (FileNotFoundError, NotADirectoryError) as error:
        raise UserError(f"{url}: no such file, folder or bucket; check the name") from error
    except ImportError as error:
        package = _PACKAGES.get(protocol, f"the package of fsspec for {protocol}")
        raise UserError(
            f"{url}: {protocol}:// needs {package}, which is not installed; pip install {package}"
        ) from error
    except Exception as error:  # each store raises errors of its own libraries
        if str(error).startswith("Protocol not known"):
            known = "s3, gs, hf, https and others of fsspec"
            raise UserError(f"{url}: no protocol {protocol!r}; there are {known}") from error
        raise StorageError(
            f"{url}: {one_line(error)}; check credentials, permissions and network, then run the"
            " same command again"
        ) from error


def read_bytes(url: str) -> bytes:
    """Content of a file."""
    place = open_place(url)
    with storage_errors(url):
        return place.files.cat_file(place.path)


def list_files(url: str) -> list[FoundFile]:
    """All files below a URL by paths relative to it, sorted; those that a `*` matches too.

    Names that begin with a dot are left out. A URL of a file gives this file, by its name.
    """
    place = open_place(url)
    with storage_errors(url):
        if "*" in url:
            infos = place.files.glob(place.path, detail=True)
        elif place.files.isfile(place.path):
            infos = {place.path: place.files.info(place.path)}
        else:
            infos = place.files.find(place.path, detail=True)
        if not infos:
            raise FileNotFoundError(url)
    parent = parent_of(url, list(infos) == [place.path])
    root = open_place(parent).path.strip("/")
    found = [
        FoundFile(path.strip("/").removeprefix(f"{root}/"), info["size"] or 0, _version(info))
        for path, info in infos.items()
        if info["type"] == "file"
    ]
    visible = [x for x in found if not any(part.startswith(".") for part in x.path.split("/"))]
    return sorted(visible, key=lambda file: file.path)


def parent_of(url: str, is_file: bool) -> str:
    """URL to which the paths of `list_files` are relative."""
    if "*" in url:
        return url[: url.index("*")].rpartition("/")[0]
    return url.rpartition("/")[0] if is_file else url.rstrip("/")


def _version(info: dict[str, Any]) -> int:
    value = next((info[name] for name in _VERSIONS if info.get(name)), "")
    return stable_seed(str(value))


class Stream:
    """A file at a URL, read once from its beginning to its end."""

    def __init__(self, url: str) -> None:
        self.url, place = url, open_place(url)
        with storage_errors(url):
            self._file: BinaryIO = place.files.open(
                place.path, "rb", block_size=1 << 23, cache_type="readahead"
            )

    def read(self, size: int = -1) -> bytes:
        """Read the next bytes."""
        with storage_errors(self.url):
            return self._file.read(size)

    def close(self) -> None:
        """Close the file."""
        self._file.close()
