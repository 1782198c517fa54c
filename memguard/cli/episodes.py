"""``memguard episodes``: add to a store of episodes, search it, move it in and out by the file, look it over."""

from __future__ import annotations

import functools
import importlib
import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from memguard.cli.exits import EXIT_FAILED, EXIT_OK, fill_streams, printable, say, show
from memguard.config import LogLevel, load_settings
from memguard.episodes.recorder import has_incoming
from memguard.errors import EpisodeStoreError, MissingExtra
from memguard.files import check_output, give_up_on, whole_file
from memguard.units import format_bytes

if TYPE_CHECKING:
    from memguard.episodes import Episode, EpisodeStore, Hit
    from memguard.episodes.sources import Source

__all__ = ["episodes_command"]

_SHOWN_CHARACTERS: Final = 100


@click.group("episodes")
def episodes_command() -> None:
    """Keep what happened, and find it again: texts, vectors and metadata in a folder that many processes share.

    Each command takes --store FOLDER; without it the store is that of the setting `episodes`, else the user's own, in
    ~/.local/share/memguard/episodes (or XDG_DATA_HOME). Data goes to stdout, words to stderr.

    Exit status: 0 done; 1 it could not be done, or `check` found damage; 2 wrong usage or unusable data.
    """


def _own_store() -> Path:
    if (chosen := load_settings().episodes) is not None:
        return chosen
    data = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    return Path(data) / "memguard" / "episodes"


def _command(name: str) -> Callable[[Callable[..., Any]], click.Command]:
    """Make a subcommand that takes --store and --json."""

    def made(act: Callable[..., Any]) -> click.Command:
        @functools.wraps(act)
        def call(**words: Any) -> Any:
            fill_streams()
            return act(**words)

        place = click.option(
            "--store", "folder", type=click.Path(path_type=Path), metavar="FOLDER", default=_own_store,
            help="Where the store is. Default: the setting episodes, else the user's own.",
        )  # fmt: skip
        as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
        return episodes_command.command(name)(place(as_json(call)))

    return made


@contextmanager
def _opened(
    folder: Path, *, read_only: bool = False, must_exist: bool = False, source: Path | None = None
) -> Iterator[EpisodeStore]:
    """Open a store; ``source``: what is to be read into it, without which none is made."""
    try:
        room: Any = importlib.import_module("memguard.episodes.store")
    except ImportError as error:
        raise MissingExtra(
            "a store of episodes needs numpy: pip install 'automl-memguard[episodes]'", extra="episodes"
        ) from error
    if source is not None:
        importlib.import_module("memguard.episodes.sources").FileSource(source).require()
    if read_only and os.access(folder, os.W_OK) and has_incoming(folder):
        room.EpisodeStore(folder).close()  # who opens it for writing takes in what jobs have left
    if (read_only or must_exist) and not has_incoming(folder) and not (folder / "episodes.sqlite").exists():
        raise EpisodeStoreError(
            f"there is no store in {folder}; begin one with `memguard episodes add` or `import`",
            path=str(folder),
        )
    with room.EpisodeStore(folder, read_only=read_only) as store:
        yield store


_NAMESPACE = click.option("--namespace", default="default", show_default=True, help="Whose episodes.")


@_command("add")
@click.argument("text", required=False)
@_NAMESPACE
@click.option("--kind", default="note", show_default=True, help="What sort of thing it is.")
@click.option("--metadata", metavar="JSON", default="{}", help="What else is known, as a JSON object.")
@click.option("--id", "episode_id", default="", help="Its id; without one it gets one that sorts by time.")
def add(
    *,
    folder: Path,
    as_json: bool,
    text: str | None,
    namespace: str,
    kind: str,
    metadata: str,
    episode_id: str,
) -> None:
    """Add TEXT as an episode and print its id; without TEXT it is what comes from stdin."""
    records = importlib.import_module("memguard.episodes.records")
    if text is None:
        text = sys.stdin.read()
    episode = records.Episode(
        text=text, namespace=namespace, kind=kind, metadata=_object("--metadata", metadata), id=episode_id
    )
    with _opened(folder) as store:
        made = store.add_episode(episode)
    show(json.dumps({"schema": "memguard.episodes-added/1", "ids": [made]}) if as_json else made)


def _object(flag: str, text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except ValueError as error:
        raise click.UsageError(f"{flag}: not JSON: {error}") from error
    if not isinstance(found, dict):
        raise click.UsageError(f"{flag}: a JSON object, as '{{\"rows\": 5}}', not {text}")
    return found


@_command("search")
@click.argument("query", required=False)
@click.option(
    "--namespace", help="Whose episodes. Default: default; jobs for --kind job and --kind incident."
)
@click.option(
    "--vector", metavar="JSON", help="Search by this vector, a JSON list of numbers; with QUERY by both."
)
@click.option(
    "--top", "top_k", type=click.IntRange(1, 10_000), default=10, show_default=True, help="How many."
)
@click.option("--where", metavar="JSON", help='Conditions on the metadata, as \'{"rows": {"gte": 5}}\'.')
@click.option("--kind", help="Of what sort.")
@click.option("--exact", is_flag=True, help="Compare every vector.")
def search(
    *, folder: Path, as_json: bool, query: str | None, namespace: str | None, vector: str | None, top_k: int,
    where: str | None, kind: str | None, exact: bool,
) -> None:  # fmt: skip
    """Search for words, in any script, or by a vector, or by both; best first."""
    if query is None and vector is None:
        raise click.UsageError("give words to search for, or --vector")
    if exact and vector is None:
        raise click.UsageError("--exact compares vectors, so it goes with --vector")
    conditions: dict[str, Any] = {
        "namespace": namespace or ("jobs" if kind in ("job", "incident") else "default"),
        "kind": kind, "where": None if where is None else _object("--where", where),
    }  # fmt: skip
    with _opened(folder, read_only=not os.access(folder, os.W_OK), must_exist=True) as store:
        if vector is None:
            hits = store.search_episodes_by_text(query or "", top_k, **conditions)
        elif query is None:
            hits = store.search_episodes_by_vector(_vector(vector), top_k, exact=exact, **conditions)
        else:
            hits = store.search(query, _vector(vector), top_k, exact=exact, **conditions)
    show(_hits_document(hits) if as_json else "\n".join(map(_hit_line, hits)) or "nothing was found")


def _vector(text: str) -> list[float]:
    try:
        found = json.loads(text)
    except ValueError as error:
        raise click.UsageError(f"--vector: not JSON: {error}") from error
    if not isinstance(found, list):
        raise click.UsageError("--vector: a JSON list of numbers, as '[0.1, -2]'")
    return found


def _hits_document(hits: list[Hit]) -> str:
    found = [{"id": hit.id, "score": hit.score, "episode": _plain(hit.episode)} for hit in hits]
    return json.dumps({"schema": "memguard.episodes-found/1", "hits": found}, ensure_ascii=False, indent=2)


def _plain(episode: Episode) -> dict[str, Any]:
    moving = importlib.import_module("memguard.episodes.moving")
    made: dict[str, Any] = json.loads(moving.as_line(episode))
    return made


def _hit_line(hit: Hit) -> str:
    return f"{hit.score:8.4f}  {hit.id}  {_short(hit.episode.text)}"


def _short(text: str) -> str:
    shown = printable(" ".join(text.split()))
    return shown if len(shown) <= _SHOWN_CHARACTERS else f"{shown[: _SHOWN_CHARACTERS - 3]}..."


@_command("show")
@click.argument("episode_id", metavar="ID")
@click.option("--version", type=click.IntRange(1), help="As it was in this version.")
def show_command(*, folder: Path, as_json: bool, episode_id: str, version: int | None) -> None:
    """Show the episode ID, with its vector in the JSON."""
    with _opened(folder, read_only=True) as store:
        found = store.get_episode(episode_id, version=version)
    if as_json:
        show(json.dumps({"schema": "memguard.episode/1", **_plain(found)}, ensure_ascii=False, indent=2))
        return
    show(f"{found.id}  version {found.version}  {found.namespace}  {found.kind}")
    if found.metadata:
        show(printable(json.dumps(dict(found.metadata), ensure_ascii=False)))
    show("\n".join(map(printable, found.text.split("\n"))))


@_command("history")
@click.argument("episode_id", metavar="ID")
def history(*, folder: Path, as_json: bool, episode_id: str) -> None:
    """Show every change of the episode ID, first to last."""
    with _opened(folder, read_only=True) as store:
        changes = store.history(episode_id)
    if as_json:
        told = [
            {"version": each.version, "what": each.what, "noted_at_s": each.noted_at_s,
             "episode": None if each.episode is None else _plain(each.episode)}
            for each in changes
        ]  # fmt: skip
        document = {"schema": "memguard.episode-history/1", "id": episode_id, "changes": told}
        show(json.dumps(document, ensure_ascii=False, indent=2))
        return
    for each in changes:
        text = "" if each.episode is None else _short(each.episode.text)
        show(f"{each.version:4}  {each.what:8}  {text}".rstrip())


@_command("import")
@click.argument("file", type=click.Path(path_type=Path, allow_dash=True))
@_NAMESPACE
@click.option(
    "--skip-bad", is_flag=True, help="Leave out what is no episode, and say so, instead of stopping there."
)
def import_command(*, folder: Path, as_json: bool, file: Path, namespace: str, skip_bad: bool) -> None:
    """Add the episodes of FILE: .jsonl, .json (an array), .parquet, .npz (columns), or - for JSON lines from stdin.

    Each has a text, and vector, metadata, id where there are. A pickle is never opened.

    What was imported before is not added again, and an import that was cut off, however it was, goes on where it
    was: call it again. Of a file that was mended or became longer only the changed lines are added. Others may read
    and write the store meanwhile.
    """
    with _opened(folder, source=file) as store:
        moving = importlib.import_module("memguard.episodes.moving")
        source = moving.FileSource(file, namespace)
        with _progress(source) as advance:
            work = moving.Import(
                store,
                source,
                skip_bad=skip_bad,
                on_bad=lambda error: say(f"left out: {error}"),
                on_progress=advance,
            )
            if work.begun and not source.is_pipe:
                told = f"the last import of this file ended behind record {work.begun:,}"
                say(f"{told}; going on there, if it is the same file")
            done = work.run()
    if as_json:
        show(json.dumps({"schema": "memguard.episodes-imported/1", **asdict(done)}))
        return
    left_out = f", {done.left_out:,} left out" if done.left_out else ""
    episodes = "episode" if done.added == 1 else "episodes"
    show(f"{done.added:,} {episodes} added of {done.records:,} records{left_out}")


@contextmanager
def _progress(source: Source) -> Iterator[Callable[[int], None]]:
    """Show how far it is on a terminal; elsewhere nothing."""
    if not sys.stderr.isatty() or source.size_bytes is None:
        yield lambda _: None
        return
    with click.progressbar(length=source.size_bytes, label="importing", file=sys.stderr) as bar:
        yield lambda read: bar.update(max(0, read - bar.pos))


@_command("export")
@click.argument("file", type=click.Path(path_type=Path, allow_dash=True), default="-")
@click.option("--namespace", help="Of this namespace alone; without it of all.")
@click.option("--where", metavar="JSON", help="Conditions on the metadata.")
@click.option("--kind", help="Of what sort.")
@click.option("--no-vectors", is_flag=True, help="Leave the vectors out.")
@click.option("--force", is_flag=True, help="Replace FILE if it is there.")
def export(
    *, folder: Path, as_json: bool, file: Path, namespace: str | None, where: str | None, kind: str | None,
    no_vectors: bool, force: bool,
) -> None:  # fmt: skip
    """Write episodes to FILE, or to stdout, as JSON lines that `import` reads again."""
    del as_json  # it always is
    moving = importlib.import_module("memguard.episodes.moving")
    conditions: dict[str, Any] = {"where": None if where is None else _object("--where", where), "kind": kind}
    with _opened(folder, read_only=True) as store:
        found = store.episodes(namespace=namespace, with_vectors=not no_vectors, **conditions)
        lines = map(moving.as_line, found)
        if str(file) == "-":
            _pipe(lines)
            return
        check_output(file, force=force)
        with whole_file(file, force=force) as place, place.open("w", encoding="utf-8") as out:
            out.writelines(f"{line}\n" for line in lines)


def _pipe(lines: Iterator[str]) -> None:
    """Write lines to stdout until there are no more, or nobody reads them."""
    try:
        for line in lines:
            click.echo(line)
    except BrokenPipeError:
        give_up_on(sys.stdout)


@_command("stats")
def stats(*, folder: Path, as_json: bool) -> None:
    """Show how much the store holds."""
    with _opened(folder, read_only=True) as store:
        figures = store.statistics()
    if as_json:
        show(json.dumps({"schema": "memguard.episodes-stats/1", **asdict(figures)}, indent=2))
        return
    show(f"{figures.folder}: {figures.episodes:,} episodes, {format_bytes(figures.disk_bytes)} on disk")
    for each in figures.namespaces:
        vectors = f"{each.vectors:,} vectors of {each.dimension}" if each.dimension else "no vectors"
        used = format_bytes(each.used_bytes)
        bound = (
            ""
            if each.budget_bytes is None
            else f", {used} of its budget of {format_bytes(each.budget_bytes)}"
        )
        behind = f", {each.unindexed:,} not in the text index yet" if each.unindexed else ""
        show(
            f"  {each.name}: {each.episodes:,} episodes in {each.versions:,} versions, {vectors}, "
            f"{format_bytes(each.text_bytes)} of text{bound}{behind}"
        )


@_command("check")
@click.pass_context
def check(context: click.Context, *, folder: Path, as_json: bool) -> None:
    """Look the whole store over: name what is damaged. Exit status 1 if something is."""
    found = []
    with _opened(folder, read_only=True) as store:
        for finding in store.check():
            found.append(asdict(finding))
            if not as_json:
                mend = " (`memguard episodes rebuild` makes it again)" if finding.is_derived else ""
                show(f"{finding.where}: {finding.what}{mend}")
    if as_json:
        show(json.dumps({"schema": "memguard.episodes-check/1", "findings": found}, indent=2))
    elif not found:
        show("nothing is damaged")
    if found:
        say("what to do: memguard runbook EpisodesDamaged", LogLevel.WARNING)
    context.exit(EXIT_FAILED if found else EXIT_OK)


@_command("rebuild")
def rebuild(*, folder: Path, as_json: bool) -> None:
    """Make what is derived again: the text index, and the bits that vector searches look at first."""
    with _opened(folder, must_exist=True) as store:
        store.rebuild()
    show(json.dumps({"schema": "memguard.episodes-rebuilt/1"}) if as_json else "rebuilt")


@_command("compact")
def compact(*, folder: Path, as_json: bool) -> None:
    """Give disk space back that deleted and purged episodes took; others wait meanwhile."""
    with _opened(folder, must_exist=True) as store:
        before = store.statistics().disk_bytes
        store.compact()
        after = store.statistics().disk_bytes
    if as_json:
        show(
            json.dumps(
                {"schema": "memguard.episodes-compacted/1", "before_bytes": before, "after_bytes": after}
            )
        )
    else:
        show(f"{format_bytes(before)} before, {format_bytes(after)} now")
