"""A relational database behind one event loop: SQLite (WAL, every commit synced) or PostgreSQL, by URL.

Work that waits at the same moment shares one transaction, and so one sync of the disk; each piece runs in a savepoint,
so that one that fails takes back its own changes only.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar, cast

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from radserve.dicom_io.index_schema import migrate
from radserve.dicom_io.together import Together
from radserve.errors import ErrorCode, StorageError

logger = logging.getLogger(__name__)

T = TypeVar("T")
Work = Callable[[sa.Connection], T]
BUSY_SECONDS = 30
WAITING_AT_ONCE = 16  # threads, of which one works
FULL_TEXTS = ("disk is full", "No space left", "disk full")


def sqlite_url(path: Path) -> str:
    """The URL of an SQLite file."""
    return sa.URL.create("sqlite", database=str(path)).render_as_string()


def database_name(url: str | sa.URL) -> str:
    """Which database a URL means, for people: without user, password and parameters."""
    url = sa.make_url(url)
    place = {name: value for name, value in url.query.items() if name in ("host", "port")}
    bare = sa.URL.create(url.drivername, host=url.host, port=url.port, database=url.database, query=place)
    return bare.render_as_string()


def database_failure(error: Exception, url: str | sa.URL) -> str:
    """The kind of an error of a database, and of one that could not be reached the driver's cause as well.

    The text of any other error may quote the values of its statement, which are patient data.
    """
    if not isinstance(error, sa.exc.DBAPIError) or not isinstance(error.orig, Exception):
        return type(error).__name__
    kind, password = type(error.orig).__name__, sa.make_url(url).password
    if error.statement is not None:
        return kind
    cause = " ".join(str(error.orig).split())
    return f"{kind}: {cause.replace(password, '***') if password else cause}"


def unusable_url(error: Exception) -> StorageError:
    """What to raise for a URL of which no database can be made; it may hold a password, and is not repeated."""
    text = f"the database URL cannot be used ({type(error).__name__}), expected sqlite:///PATH or postgresql+psycopg://"
    return StorageError(ErrorCode.INVALID_ARGUMENT, text)


class Database:
    """`open` brings the tables up to date; `run` does a piece of work durably; `close` at the end. For one event loop.

    All raise StorageError: STORAGE_FULL or INTERNAL, which names the kind of error but no values; that of `open` names
    the database, without its password.
    """

    def __init__(self, url: str) -> None:
        self._engine = _engine(url)
        self._driver_error: type[Exception] = self._engine.dialect.loaded_dbapi.Error
        self._works: Together[Work[Any], Any] = Together(self._together)
        self._kept: sa.Connection | None = None  # of the last transaction, while all goes well
        self._threads: ThreadPoolExecutor | None = None

    @property
    def insert(self) -> Callable[[sa.Table], Any]:
        """The insert of the dialect, which has `on_conflict_do_nothing` and `on_conflict_do_update`."""
        return postgresql.insert if self._engine.dialect.name == "postgresql" else sqlite.insert

    @property
    def dialect(self) -> sa.Dialect:
        """For statements that are prepared."""
        return self._engine.dialect

    async def open(self) -> None:
        await asyncio.to_thread(self._migrate)

    async def close(self) -> None:
        await asyncio.to_thread(self._end)

    async def run(self, work: Work[T]) -> T:
        """Run `work` in a transaction; when this returns its changes are durable. Raises what `work` raises."""
        self._threads = self._threads or ThreadPoolExecutor(WAITING_AT_ONCE, "database")
        return await asyncio.get_running_loop().run_in_executor(self._threads, self.run_blocking, work)

    def run_blocking(self, work: Work[T]) -> T:
        """As `run`, for any thread but that of the event loop."""
        return cast(T, self._works.run(work))

    async def compact(self) -> None:
        """Take deleted rows out of the files for good, where the database keeps them aside (SQLite's log)."""
        if self._engine.dialect.name == "sqlite":
            await asyncio.to_thread(self._truncate_log)

    def _end(self) -> None:
        if self._threads:
            self._threads.shutdown()
            self._threads = None
        if self._kept:
            self._kept.close()
            self._kept = None
        self._engine.dispose()

    def _together(self, works: Sequence[Work[Any]]) -> list[Any]:
        try:
            with self._transaction() as connection:
                return [work(connection) for work in works]
        except Exception as error:  # nothing of the transaction is there
            if len(works) == 1:
                return [self._as_storage_error(error)]
        try:
            with self._transaction() as connection:  # again, and only what fails takes its changes back
                return [self._attempt(connection, work) for work in works]
        except Exception as error:
            return [self._as_storage_error(error)] * len(works)

    @contextmanager
    def _transaction(self) -> Iterator[sa.Connection]:
        """A transaction on a connection that stays open for the next one: taking it anew costs as much as a row."""
        connection, self._kept = self._kept or self._engine.connect(), None
        try:
            with connection.begin():
                yield connection
        except BaseException:
            connection.close()
            raise
        self._kept = connection

    def _migrate(self) -> None:
        try:
            with self._engine.begin() as connection:
                if applied := migrate(connection):
                    logger.info("the index was brought forward by %d migrations", applied)
        except sa.exc.SQLAlchemyError as error:
            code = ErrorCode.STORAGE_FULL if _is_full(error) else ErrorCode.INTERNAL
            name, cause = database_name(self._engine.url), database_failure(error, self._engine.url)
            raise StorageError(code, f"the index, {name}, cannot be opened: {cause}") from None

    def _truncate_log(self) -> None:
        try:
            with self._engine.connect() as connection:
                raw = connection.connection.driver_connection
                if raw is not None:
                    raw.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        except sa.exc.SQLAlchemyError as error:
            raise self._as_storage_error(error) from None

    def _attempt(self, connection: sa.Connection, work: Work[Any]) -> Any:
        try:
            with connection.begin_nested():
                return work(connection)
        except Exception as error:
            return self._as_storage_error(error)

    def _as_storage_error(self, error: Exception) -> Exception:
        """Database errors quote the values of a statement, which are patient data: only their kind is passed on."""
        if isinstance(error, sa.exc.DBAPIError) and isinstance(error.orig, Exception):
            error = error.orig
        elif not isinstance(error, sa.exc.SQLAlchemyError | self._driver_error):
            return error
        if _is_full(error):
            return StorageError(ErrorCode.STORAGE_FULL, "the index is full")
        return StorageError(ErrorCode.INTERNAL, f"the index failed: {type(error).__name__}")


class Prepared:
    """A statement that is compiled once: for a single row that takes longer than running it."""

    def __init__(self, statement: Any, dialect: sa.Dialect) -> None:
        compiled = statement.compile(dialect=dialect)
        self._text = str(compiled)
        self._names: Sequence[str] | None = compiled.positiontup  # None where the dialect names its parameters

    def run(self, connection: sa.Connection, values: Mapping[str, Any]) -> Any:
        """Run it with a value for each of its parameters, of the types that the driver takes; the driver's cursor."""
        given = values if self._names is None else tuple([values[name] for name in self._names])
        return _driver(connection).execute(self._text, given)


def _is_full(error: Exception) -> bool:
    return any(text in str(error) for text in FULL_TEXTS)


def _driver(connection: sa.Connection) -> Any:
    return connection.connection.driver_connection


def _engine(url: str) -> sa.Engine:
    try:
        made = sa.create_engine(url, hide_parameters=True)
    except (sa.exc.ArgumentError, ImportError) as error:
        raise unusable_url(error) from None
    if made.dialect.name == "sqlite":
        sa.event.listen(made, "connect", _prepare_sqlite)
        # Write transactions take their lock at once: one that reads first and then cannot write would fail.
        sa.event.listen(made, "begin", lambda connection: _driver(connection).execute("BEGIN IMMEDIATE"))
    return made


def _prepare_sqlite(connection: Any, _record: object) -> None:
    connection.isolation_level = None  # transactions are begun by us, not by the driver
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "secure_delete=ON", f"busy_timeout={BUSY_SECONDS * 1000}"):
        connection.execute(f"PRAGMA {pragma}")
