"""GroupLens' MovieLens-1M files as arrays, from the zip or the folder it holds.

The fast path parses all bytes at once; only if a check fails are the lines walked through, to
say which one is wrong.
"""

from __future__ import annotations

import re
import zipfile
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, NoReturn

import numpy as np
import numpy.typing as npt

from mdlora.errors import DataError

if TYPE_CHECKING:
    import polars as pl

__all__ = [
    "AGES",
    "OCCUPATIONS",
    "Movie",
    "RawFiles",
    "User",
    "read_movies",
    "read_ratings",
    "read_users",
]

AGES = {
    1: "Under 18",
    18: "18-24",
    25: "25-34",
    35: "35-44",
    45: "45-49",
    50: "50-55",
    56: "56+",
}
"""GroupLens' age codes, youngest first."""

OCCUPATIONS = (
    "other or not specified",
    "academic/educator",
    "artist",
    "clerical/admin",
    "college/grad student",
    "customer service",
    "doctor/health care",
    "executive/managerial",
    "farmer",
    "homemaker",
    "K-12 student",
    "lawyer",
    "programmer",
    "retired",
    "sales/marketing",
    "scientist",
    "self-employed",
    "technician/engineer",
    "tradesman/craftsman",
    "unemployed",
    "writer",
)
"""Names of GroupLens' occupation codes 0 to 20."""

Ids = npt.NDArray[np.int64]

_RATING = re.compile(rb"\d{1,18}::\d{1,18}::[1-5]::\d{1,18}")
_RATING_WORDS = "UserID::MovieID::Rating::Timestamp with whole numbers and a rating from 1 to 5"
_YEAR = re.compile(r"\((\d{4})\)\s*$")


class RawFiles:
    """Reads files of the data set by name from a zip or from a folder."""

    def __init__(self, raw: Path) -> None:
        self.raw = raw
        if not raw.exists():
            raise DataError(
                f"There is no {raw}. Give GroupLens' ml-1m.zip, or the folder that it unpacks to."
            )
        if raw.is_file() and not zipfile.is_zipfile(raw):
            with raw.open("rb") as file:
                cut = file.read(4) == b"PK\x03\x04"
            raise DataError(
                f"{raw} is a zip that was cut short: download it again."
                if cut
                else f"{raw} is not a zip file. Give GroupLens' ml-1m.zip, or the unpacked folder."
            )

    def read(self, name: str) -> bytes:
        """The bytes of the file called `name`, wherever in the zip or folder it lies.

        Raises:
            DataError: there is no such file, it cannot be read, or the zip is damaged.
        """
        try:
            return self._from_folder(name) if self.raw.is_dir() else self._from_zip(name)
        except (OSError, EOFError, zipfile.BadZipFile, zlib.error, NotImplementedError) as error:
            raise DataError(
                f"{self.raw}: {name} cannot be read, the file is damaged ({error}). "
                "Download it again."
            ) from error

    def _from_folder(self, name: str) -> bytes:
        for folder in (self.raw, self.raw / "ml-1m"):
            if (folder / name).is_file():
                return (folder / name).read_bytes()
        raise self._missing(name, sorted(path.name for path in self.raw.iterdir()))

    def _from_zip(self, name: str) -> bytes:
        with zipfile.ZipFile(self.raw) as archive:
            found = [n for n in archive.namelist() if n.rsplit("/", 1)[-1] == name]
            if found:
                return archive.read(min(found, key=len))
            raise self._missing(name, archive.namelist())

    def _missing(self, name: str, there: list[str]) -> DataError:
        some = ", ".join(there[:8]) + (", ..." if len(there) > 8 else "")
        return DataError(
            f"{self.raw} holds no {name}. Files there: {some or 'none'}. "
            "Give GroupLens' ml-1m.zip, or the folder that it unpacks to."
        )


def read_ratings(files: RawFiles) -> pl.DataFrame:
    """ratings.dat as columns user_id, movie_id (int64) and rating (int8), in the file's order.

    Raises:
        DataError: a line is not a rating, or a (user, movie) pair is rated twice.
    """
    import polars as pl

    data = _lines(files.read("ratings.dat"))
    if not data:
        raise DataError(f"{files.raw}: ratings.dat is empty.")
    schema = {"user_id": pl.Int64, "movie_id": pl.Int64, "rating": pl.Int64, "time": pl.Int64}
    num_lines = data.count(b"\n")
    if data.count(b"::") != 3 * num_lines or b"\t" in data or b"\n\n" in data:
        _blame_rating(files, data)
    try:
        table = pl.read_csv(
            data.replace(b"::", b"\t"),
            has_header=False,
            separator="\t",
            quote_char=None,
            schema=schema,
        )
    except pl.exceptions.PolarsError:
        _blame_rating(files, data)
    in_range = table["rating"].is_between(1, 5).all()
    if table.height != num_lines or not in_range or any(table.null_count().row(0)):
        _blame_rating(files, data)
    del data
    table = table.select("user_id", "movie_id", pl.col("rating").cast(pl.Int8))
    _refuse_double_ratings(files, table["user_id"].to_numpy(), table["movie_id"].to_numpy())
    return table


class User(NamedTuple):
    """One line of users.dat."""

    user_id: int
    gender: str
    age: int
    occupation: int
    zip_code: str


def read_users(files: RawFiles) -> list[User]:
    """users.dat, in the file's order.

    Raises:
        DataError: a line is not a user, or a user stands there twice.
    """
    words = "UserID::Gender::Age::Occupation::Zip-code"
    users: dict[int, User] = {}
    for number, line in enumerate(_text_lines(files, "users.dat"), 1):
        parts = line.split("::")
        good = len(parts) == 5 and all(_is_number(parts[i]) for i in (0, 2, 3))
        if not good or not parts[4]:
            raise _bad_line(files, "users.dat", number, line, words)
        user = User(int(parts[0]), parts[1], int(parts[2]), int(parts[3]), parts[4])
        if user.gender not in ("F", "M"):
            raise _bad_line(files, "users.dat", number, line, "gender F or M")
        if user.age not in AGES:
            raise _bad_line(files, "users.dat", number, line, f"an age code of {tuple(AGES)}")
        if not user.occupation < len(OCCUPATIONS):
            raise _bad_line(files, "users.dat", number, line, "an occupation code from 0 to 20")
        if user.user_id in users:
            raise DataError(
                f"{files.raw}: users.dat, line {number}: user {user.user_id} stands there twice. "
                "Remove one of the lines."
            )
        users[user.user_id] = user
    return list(users.values())


class Movie(NamedTuple):
    """One line of movies.dat: the year stands at the end of the title."""

    movie_id: int
    year: int
    genres: tuple[str, ...]


def read_movies(files: RawFiles) -> list[Movie]:
    """movies.dat, in the file's order.

    Raises:
        DataError: a line is not a movie, has no year, or a movie stands there twice.
    """
    words = "MovieID::Title (year)::Genres"
    movies: dict[int, Movie] = {}
    for number, line in enumerate(_text_lines(files, "movies.dat"), 1):
        parts = line.split("::")
        year = _YEAR.search(parts[1]) if len(parts) == 3 else None
        if year is None or not _is_number(parts[0]):
            raise _bad_line(files, "movies.dat", number, line, words)
        genres = tuple(parts[2].split("|"))
        if not all(genres):
            raise _bad_line(files, "movies.dat", number, line, f"{words}, genres as Drama|War")
        movie = Movie(int(parts[0]), int(year[1]), genres)
        if movie.movie_id in movies:
            raise DataError(
                f"{files.raw}: movies.dat, line {number}: movie {parts[0]} stands there twice. "
                "Remove one of the lines."
            )
        movies[movie.movie_id] = movie
    return list(movies.values())


def _refuse_double_ratings(files: RawFiles, user: Ids, movie: Ids) -> None:
    order = np.lexsort((movie, user))  # stable: of equal pairs, the earlier line comes first
    double = (np.diff(user[order]) == 0) & (np.diff(movie[order]) == 0)
    if double.any():
        at = int(np.argmax(double))
        first, second = int(order[at]), int(order[at + 1])
        raise DataError(
            f"{files.raw}: ratings.dat rates movie {movie[first]} by user {user[first]} twice, "
            f"in lines {first + 1} and {second + 1}. "
            "Each pair may stand once: remove the lines that are too many."
        )


def _lines(data: bytes) -> bytes:
    """Lines that end in one newline each, without blank ones at the end."""
    data = data.replace(b"\r\n", b"\n") if b"\r" in data else data
    stripped = data.rstrip(b"\n")
    return stripped + b"\n" if stripped else b""


def _text_lines(files: RawFiles, name: str) -> list[str]:
    data = _lines(files.read(name))
    return data.decode("latin-1").split("\n")[:-1]


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 18


def _blame_rating(files: RawFiles, data: bytes) -> NoReturn:
    for number, line in enumerate(data.split(b"\n"), 1):
        if not _RATING.fullmatch(line):
            raise _bad_line(files, "ratings.dat", number, line.decode("latin-1"), _RATING_WORDS)
    raise DataError(f"{files.raw}: ratings.dat cannot be parsed. Expected lines {_RATING_WORDS}.")


def _bad_line(files: RawFiles, name: str, number: int, line: str, expected: str) -> DataError:
    shown = line if len(line) <= 60 else line[:60] + "..."
    return DataError(
        f"{files.raw}: {name}, line {number}: got {shown!r}, expected {expected}. "
        "Fields are separated by '::', as GroupLens publishes them."
    )
