"""`memguard episodes` as people use it: add, search, import what was cut off, export, look over."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pandas as pd
import pytest

from memguard.cli.main import main
from memguard.episodes import EpisodeStore
from tests.support.episodes import vectors

ROOT = Path(__file__).resolve().parents[2]
LINES = [
    {"text": "昨日の実験でメモリが足りなくなった", "metadata": {"run": 1}},
    {"content": "the job ran out of memory", "id": "mine", "timestamp": "2026-11-22T01:30:00+00:00"},
    "only a text",
    {"memory": "with a vector", "embedding": [1.0, 2.0], "namespace": "other", "kind": "fact"},
]


@pytest.fixture
def call(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Any:
    """Return what calls a subcommand with the test's store and returns its status, stdout and stderr."""

    def act(name: str, *words: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as left:
            main(["episodes", name, "--store", str(tmp_path / "store"), *words])
        told = capsys.readouterr()
        return int(left.value.code or 0), told.out, told.err

    return act


def write(path: Path, lines: list[Any]) -> Path:
    path.write_text("".join(f"{json.dumps(line, ensure_ascii=False)}\n" for line in lines), encoding="utf-8")
    return path


def test_adding_and_finding(call: Any) -> None:
    """What is added is found by words, shown, and has a history; nothing that is not there is an error of the tool."""
    status, made, _ = call("add", "忘却の記録", "--metadata", '{"rows": 5}', "--kind", "memo")
    assert status == 0
    added = made.strip()
    found = json.loads(call("search", "忘", "--json", "--where", '{"rows": {"gt": 4}}')[1])
    assert (found["schema"], [hit["id"] for hit in found["hits"]]) == ("memguard.episodes-found/1", [added])
    assert added in call("search", "忘却")[1]
    assert call("search", "nowhere")[1] == "nothing was found\n"
    shown = json.loads(call("show", added, "--json")[1])
    assert (shown["text"], shown["metadata"], shown["kind"]) == ("忘却の記録", {"rows": 5}, "memo")
    assert call("show", added)[1].startswith(f"{added}  version 1")
    changes = json.loads(call("history", added, "--json")[1])["changes"]
    assert [change["what"] for change in changes] == ["added"]
    assert call("show", "no such") == (1, "", "memguard: there is no episode 'no such', or not any more\n")


@pytest.mark.requirement("E6")
def test_importing_again_adds_nothing(call: Any, tmp_path: Path) -> None:
    """Lines under other stores' names are taken, from JSON lines and Parquet, and a second import changes nothing."""
    file = write(tmp_path / "lines.jsonl", LINES)
    assert call("import", str(file))[1] == "4 episodes added of 4 records\n"
    assert call("import", str(file))[1] == "0 episodes added of 4 records\n"
    with EpisodeStore(tmp_path / "store") as store:
        assert store.get_episode("mine").happened_at_s == 1_795_311_000.0
        assert store.search_episodes_by_vector([1.0, 2.0], namespace="other")[0].episode.kind == "fact"
    frame = pd.DataFrame(
        {
            "text": [f"row {each}" for each in range(2500)],
            "vector": list(vectors(2500)),
            "metadata": ['{"a": 1}'] * 2500,
        }
    )
    frame.to_parquet(tmp_path / "rows.parquet")
    made = json.loads(call("import", str(tmp_path / "rows.parquet"), "--namespace", "rows", "--json")[1])
    assert made == {"schema": "memguard.episodes-imported/1", "records": 2500, "added": 2500, "left_out": 0}
    with EpisodeStore(tmp_path / "store") as store:
        hit = store.search_episodes_by_vector(vectors(2500)[1234], 1, namespace="rows")[0]
        assert (hit.episode.text, hit.episode.metadata) == ("row 1234", {"a": 1})


@pytest.mark.requirement("E6", "E14")
def test_an_import_that_was_killed_goes_on(call: Any, tmp_path: Path) -> None:
    """Killed in the midst, it is called again and ends with every line there once."""
    file = write(tmp_path / "lines.jsonl", [{"text": f"line {number}"} for number in range(30_000)])
    command = [
        sys.executable,
        "-m",
        "memguard",
        "episodes",
        "import",
        str(file),
        "--store",
        str(tmp_path / "store"),
    ]
    importing = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE)
    with EpisodeStore(tmp_path / "store") as store:
        while not len(store) and importing.poll() is None:
            os.sched_yield()
    importing.send_signal(signal.SIGKILL)
    importing.communicate()
    status, told, words = call("import", str(file))
    assert status == 0
    assert "ended behind record" in words
    with EpisodeStore(tmp_path / "store") as store:
        assert sorted(each.text for each in store.episodes()) == sorted(
            f"line {number}" for number in range(30_000)
        )
    assert told.endswith("of 30,000 records\n")


@pytest.mark.requirement("E6")
def test_a_file_that_was_mended_or_grew_adds_what_is_new(call: Any, tmp_path: Path) -> None:
    """After the bad line is mended, and lines are added, each line is there once; what was deleted does not come back."""
    lines: list[Any] = [{"text": f"line {number % 50}"} for number in range(1500)]
    file = write(tmp_path / "lines.jsonl", [*lines[:1200], 7, *lines[1201:]])
    assert call("import", str(file))[0] == 2
    assert call("import", str(write(file, lines)))[1] == "300 episodes added of 1,500 records\n"
    assert (
        call("import", str(write(file, [*lines, {"text": "one more"}])))[1]
        == "1 episode added of 1,501 records\n"
    )
    with EpisodeStore(tmp_path / "store") as store:
        assert sorted(each.text for each in store.episodes()) == sorted(
            [*(each["text"] for each in lines), "one more"]
        )
        store.delete(next(store.episodes()).id)
    assert (
        call("import", str(write(file, [*lines, {"text": "one other"}])))[1]
        == "1 episode added of 1,501 records\n"
    )


def test_bad_lines(call: Any, tmp_path: Path) -> None:
    """The first is named with its line, and stops the import behind what was good; or each is left out when asked."""
    file = tmp_path / "bad.jsonl"
    file.write_text(
        '{"text": "good"}\n{"text": \n\n[1]\n{"text": 5}\n{"text": "a", "vector": [0]}\n{"text": "last"}\n'
    )
    status, _, words = call("import", str(file))
    assert (status, f"{file}:2: is not JSON" in words) == (2, True)
    status, told, words = call("import", str(file), "--skip-bad")
    assert (status, told) == (0, "1 episode added of 7 records, 4 left out\n")
    assert [line.split(":")[3] for line in words.splitlines() if "left out" in line] == ["2", "4", "5", "6"]
    for name, wrong in (("no.jsonl", "there is no such file"), ("bad.txt", "no kind of file")):
        (tmp_path / "bad.txt").write_bytes(b"x")
        status, _, words = call("import", str(tmp_path / name))
        assert (status, wrong in words) == (2, True)


def test_exporting_and_importing_gives_the_same(call: Any, tmp_path: Path) -> None:
    """Texts, vectors, metadata, times and ids go through a file and come back; an existing file is not replaced."""
    call("import", str(write(tmp_path / "lines.jsonl", LINES)))
    assert call("export", str(tmp_path / "out.jsonl"))[0] == 0
    assert call("export", str(tmp_path / "out.jsonl"))[0] == 2
    with EpisodeStore(tmp_path / "store") as store:
        before = {each.id: each for each in store.episodes(with_vectors=True)}
    (tmp_path / "store").rename(tmp_path / "old")
    call("import", str(tmp_path / "out.jsonl"))
    with EpisodeStore(tmp_path / "store") as store:
        after = {each.id: each for each in store.episodes(with_vectors=True)}
    assert after == before
    assert {key: each.happened_at_s for key, each in after.items()} == {
        key: each.happened_at_s for key, each in before.items()
    }
    lines = call("export", "--namespace", "other", "--no-vectors")[1].splitlines()
    assert [json.loads(line)["text"] for line in lines] == ["with a vector"]


def test_looking_over(call: Any, tmp_path: Path) -> None:
    """A whole store has no findings, a damaged one exits with 1 and names the episode; what is derived is made again."""
    assert call("stats")[0] == 1
    call("import", str(write(tmp_path / "lines.jsonl", LINES)))
    assert call("check")[:2] == (0, "nothing is damaged\n")
    figures = json.loads(call("stats", "--json")[1])
    assert (figures["episodes"], [each["name"] for each in figures["namespaces"]]) == (
        4,
        ["default", "other"],
    )
    assert "default: 3 episodes in 3 versions, no vectors" in call("stats")[1]
    (place,) = (tmp_path / "store" / "vectors").glob("*.f32")
    place.write_bytes(b"\1" + place.read_bytes()[1:])
    status, told, _ = call("check", "--json")
    assert status == 1
    assert len(json.loads(told)["findings"]) >= 1
    assert call("rebuild")[:2] == (0, "rebuilt\n")
    assert " before, " in call("compact")[1]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("search",), "give words to search for, or --vector"),
        (("search", "a", "--where", "["), "--where: not JSON"),
        (("search", "a", "--where", "[]"), "--where: a JSON object"),
        (("search", "--vector", "1"), "--vector: a JSON list"),
        (("search", "a", "--where", '{"k": {"like": 1}}'), "'like' is no operator"),
        (("add", "a", "--metadata", "5"), "--metadata: a JSON object"),
    ],
)
def test_wrong_usage(call: Any, words: tuple[str, ...], told: str) -> None:
    """It exits with 2 and says what it takes."""
    call("add", "something")
    status, _, said = call(*words)
    assert (status, told in said) == (2, True), said


@pytest.mark.parametrize(
    "name", ["search", "show", "history", "export", "stats", "check", "rebuild", "compact"]
)
def test_looking_makes_no_store(call: Any, tmp_path: Path, name: str) -> None:
    """In a folder that is none, and where there is no folder, it exits with 1, says how to begin one, and leaves nothing."""
    words = {"search": ["x"], "show": ["x"], "history": ["x"]}.get(name, [])
    for _ in range(2):
        status, told, said = call(name, *words)
        assert (status, told) == (1, "")
        assert f"there is no store in {tmp_path / 'store'}; begin one with" in said
        (tmp_path / "store").mkdir(exist_ok=True)
        assert list((tmp_path / "store").iterdir()) == []


def test_a_file_that_is_not_there_makes_no_store(call: Any, tmp_path: Path) -> None:
    """Who mistypes a name is told so, and has no empty store beside it."""
    status, _, said = call("import", str(tmp_path / "nowhere.jsonl"))
    assert status != 0
    assert "there is no such file" in said
    assert not (tmp_path / "store").exists()


def test_exact_is_for_vectors(call: Any) -> None:
    """With words alone it is refused; with both it is obeyed."""
    call("add", "words")
    status, _, said = call("search", "words", "--exact")
    assert (status, "--exact compares vectors, so it goes with --vector" in said) == (2, True)
    assert call("search", "words", "--vector", "[1, 2]", "--exact")[0] == 0


def test_documents_are_as_their_schema_says(call: Any, tmp_path: Path) -> None:
    """What each command prints as JSON, and each line of an export."""
    schema = json.loads((ROOT / "memguard" / "schemas" / "episodes-1.json").read_text())
    lines = str(write(tmp_path / "lines.jsonl", LINES))
    printed = [call("add", "first", "--json")[1], call("import", lines, "--json")[1]]
    one = json.loads(printed[0])["ids"][0]
    with EpisodeStore(tmp_path / "store") as store:
        store.update(one, text="second")
        store.delete("mine")
    for words in (
        ["search", "second"], ["show", one], ["history", one], ["history", "mine"], ["stats"], ["check"], ["rebuild"],
        ["compact"], ["search", "--vector", "[1, 2]", "--namespace", "other"],
    ):  # fmt: skip
        printed.append(call(*words, "--json")[1])
    (damaged,) = (tmp_path / "store" / "vectors").glob("*.f32")
    damaged.write_bytes(b"\1" + damaged.read_bytes()[1:])
    printed.append(call("check", "--json")[1])
    for document in printed:
        jsonschema.validate(json.loads(document), schema)
    assert {each["schema"] for each in map(json.loads, printed)} == {
        each["properties"]["schema"]["const"]
        for each in schema["$defs"].values()
        if "schema" in each.get("properties", {})
    }
    for line in call("export")[1].splitlines():
        jsonschema.validate(json.loads(line), {"$ref": "#/$defs/episode", "$defs": schema["$defs"]})


def program(name: str, *words: str, **more: Any) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "memguard", "episodes", name, *words]
    return subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, **more)


@pytest.mark.requirement("E6")
def test_a_store_goes_through_a_pipe(call: Any, tmp_path: Path) -> None:
    """export | import - makes the same store; the same again adds nothing; a bad line of a pipe is named."""
    call("import", str(write(tmp_path / "lines.jsonl", LINES)))
    for added in (4, 0):
        out = program("export", "--store", str(tmp_path / "store"), stdout=subprocess.PIPE)
        other = program(
            "import", "-", "--store", str(tmp_path / "other"), stdin=out.stdout, stdout=subprocess.PIPE
        )
        assert out.stdout is not None
        out.stdout.close()
        assert other.communicate()[0].decode() == f"{added} episodes added of 4 records\n"
        assert (out.communicate()[1], out.returncode) == (b"", 0)
    with EpisodeStore(tmp_path / "store") as one, EpisodeStore(tmp_path / "other") as another:
        assert {each.id: each for each in one.episodes(with_vectors=True)} == {
            each.id: each for each in another.episodes(with_vectors=True)
        }
    bad = program("import", "-", "--store", str(tmp_path / "bad"), stdin=subprocess.PIPE)
    assert b"-:2: is not JSON" in bad.communicate(b'"good"\nbad\n')[1]
    assert bad.returncode == 2


def test_a_reader_who_leaves_is_no_failure(call: Any, tmp_path: Path) -> None:
    """An export that nobody reads any more ends with 0, without a word."""
    call("import", str(write(tmp_path / "lines.jsonl", [{"text": "x" * 900}] * 900)))
    out = program("export", "--store", str(tmp_path / "store"), stdout=subprocess.PIPE)
    assert out.stdout is not None
    assert out.stdout.readline()
    out.stdout.close()
    assert out.communicate()[1] == b""
    assert out.returncode == 0


def test_ctrl_c_leaves_whole_batches(tmp_path: Path) -> None:
    """An import that is interrupted says so, exits with 130, and goes on when it is called again."""
    read, write_end = os.pipe()
    pipe = program("import", "-", "--store", str(tmp_path / "store"), stdin=read)
    os.close(read)
    with os.fdopen(write_end, "wb") as lines:
        lines.write(b'"some words"\n' * 1000)
        lines.flush()
        with EpisodeStore(tmp_path / "store") as store:
            while not len(store) and pipe.poll() is None:
                os.sched_yield()
            pipe.send_signal(signal.SIGINT)
            said = pipe.communicate()[1]
            assert (pipe.returncode, said) == (130, b"memguard: interrupted\n")
            assert len(store) == 1000


def test_a_terminal_sees_how_far_it_is(tmp_path: Path) -> None:
    """On a terminal, and on stderr alone."""
    file = write(tmp_path / "lines.jsonl", [{"text": f"line {number}"} for number in range(2500)])
    here, there = pty.openpty()
    command = [sys.executable, "-m", "memguard", "episodes", "import", str(file), "--store", str(tmp_path / "store")]  # fmt: skip
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=there, check=True)
    os.close(there)
    with os.fdopen(here, "rb", buffering=0) as screen:
        shown = screen.read(65536)
    assert done.stdout == b"2,500 episodes added of 2,500 records\n"
    assert b"importing" in shown
    assert b"100%" in shown
