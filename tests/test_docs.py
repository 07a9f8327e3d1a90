"""What README and docs say is there: commands, options, links, nodes, builders."""

import importlib
import re
import shlex
from pathlib import Path
from types import ModuleType

import pytest

import vxmprep.interfaces
import vxmprep.workflows
from vxmprep.cli import apply, convert, demo, doctor, options, slurm
from vxmprep.cli.parser import parse

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
PAGES = [page for page in PAGES if "_build" not in page.parts]
PARSERS = {
    "vxmprep": options.build_parser,
    "vxmprep-apply": apply.build_parser,
    "vxmprep-convert": convert.build_parser,
    "vxmprep-demo": demo.build_parser,
    "vxmprep-doctor": doctor.build_parser,
    "vxmprep-slurm": slurm.build_slurm_parser,
}
OTHERS = {
    "--inmgzwarp", "--outm3z", "--rel",
    "--bind", "--build-arg", "--cleanenv", "--containall", "--index-url", "--nv",
    "--output-spaces", "--qos", "--subject-anatomical-reference",
}  # fmt: skip
"""Options of other programs that the pages speak of."""


def commands(text: str) -> list[str]:
    """Give the lines of the blocks of shell, continued ones put together."""
    kind, lines = None, []
    for line in text.replace("\\\n", " ").splitlines():
        if line.startswith("```"):
            kind = line[3:] if kind is None else None
        elif kind in ("", "bash"):
            lines.append(line.strip())
    return lines


def ours(page: Path) -> list[list[str]]:
    found = []
    for line in commands(page.read_text("utf-8")):
        words = shlex.split(line, comments=True)
        if words and Path(words[0]).name in PARSERS and "[LEVEL" not in words:
            found.append([Path(words[0]).name, *words[1:]])
    return found


ALL = [(page, words) for page in PAGES for words in ours(page)]


def test_there_are_commands_to_try():
    assert len(ALL) > 25
    assert {words[0] for _, words in ALL} == PARSERS.keys()


@pytest.mark.parametrize(
    ("page", "words"), ALL, ids=[f"{page.name}: {' '.join(words)[:60]}" for page, words in ALL]
)
def test_every_command_is_one_that_the_parsers_take(page, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    name, *rest = words
    parser = PARSERS[name]()
    if "--version" in rest:
        with pytest.raises(SystemExit):
            parser.parse_args(rest)
        return
    if name == "vxmprep-slurm":
        asked, rest = parser.parse_known_args(rest)
        parser = PARSERS["vxmprep"]()
        rest = rest if not asked.status else [*rest, "participant"]
    given = parser.parse_intermixed_args(rest)
    if name == "vxmprep" or name == "vxmprep-slurm":
        settings_of(rest, given, tmp_path)


def settings_of(words: list[str], given, folder: Path) -> None:
    """Read the settings of a command too, with what it names put there."""
    for name in ("study", "masks", "study-fmriprep", "study-vxmprep/models/study"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    for path in ("study-vxmprep/models/study/model.pt", "filter.json", "network.h5"):
        (folder / path).touch()
    if getattr(given, "model", "").endswith(".h5"):
        (folder / given.model).touch()
    parse([word.replace("/data/", f"{folder}/") for word in words])


def test_every_option_named_is_one_of_ours():
    known = set(OTHERS)
    for build in PARSERS.values():
        known |= {name for action in build()._actions for name in action.option_strings}
    named = {
        (page.name, option)
        for page in PAGES
        for code in re.findall(r"`([^`\n]+)`", page.read_text("utf-8"))
        for option in re.findall(r"(?<![\w-])--[a-z][a-z0-9-]+", code)
    }
    assert len(named) > 60
    assert {(page, option) for page, option in named if option not in known} == set()


@pytest.mark.parametrize(
    "page",
    [*PAGES, ROOT / "benchmarks" / "README.md", ROOT / "vxmprep" / "models" / "README.md"],
    ids=lambda page: page.relative_to(ROOT).as_posix(),
)
def test_links_lead_to_files_and_headings_that_are_there(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text("utf-8")):
        if target.startswith(("http:", "https:")):
            continue
        path, _, heading = target.partition("#")
        file = (page.parent / path) if path else page
        assert file.exists(), target
        if heading:
            titles = re.findall(r"^#+ (.+)$", file.read_text("utf-8"), re.MULTILINE)
            anchors = {re.sub(r"[^\w -]", "", t.lower()).replace(" ", "-") for t in titles}
            assert heading in anchors, target


def test_every_page_is_in_the_contents():
    index = (ROOT / "docs" / "index.md").read_text("utf-8")
    listed = set(re.findall(r"^([\w/-]+)$", index, re.MULTILINE))
    pages = {p.relative_to(ROOT / "docs").with_suffix("").as_posix() for p in PAGES[1:]}
    assert pages - {"index"} <= listed


@pytest.mark.parametrize(
    ("page", "directive", "names"),
    [
        ("nodes", "autoclass", vxmprep.interfaces.__all__),
        ("workflows", "autofunction", vxmprep.workflows.__all__),
    ],
)
def test_every_node_and_builder_is_in_the_reference(page, directive, names):
    text = (ROOT / "docs" / f"{page}.md").read_text("utf-8")
    assert sorted(re.findall(rf"^\.\. {directive}:: (\w+)$", text, re.MULTILINE)) == sorted(names)


@pytest.fixture
def extension(monkeypatch) -> ModuleType:
    """The site's extension that makes the tables and pictures of the reference."""
    pytest.importorskip("sphinx")
    monkeypatch.syspath_prepend(ROOT / "docs" / "_extensions")
    return importlib.import_module("nodes")


def test_what_a_node_takes_is_said_in_words(extension):
    for name in vxmprep.interfaces.__all__:
        spec = getattr(vxmprep.interfaces, name).input_spec
        lines = extension.table(spec, outputs=False)
        kinds = [line.strip("- ") for line in lines if line.startswith("     - ")][::2]
        assert kinds
        assert all(re.fullmatch(r"[a-z0-9 ,:()|.-]+|one of .+", kind) for kind in kinds), kinds


def test_the_tables_say_what_is_needed_and_what_is_so_by_itself(extension):
    text = "\n".join(extension.table(vxmprep.interfaces.Register.input_spec, outputs=False))
    assert "``moving`` **needed**\n     - file\n     - scan on the network's grid" in text
    assert "``iterations``\n     - number, 0 or more" in text
    assert "(default: ``auto``)" in text


def test_a_graph_shows_every_node_once_and_every_connection(extension):
    workflow = vxmprep.workflows.init_evaluation_wf()
    picture = "\n".join(extension.draw(workflow))
    names = sorted(re.findall(r">(\w+)</text>", picture))
    assert names == sorted(node.name for node in workflow._graph)
    assert picture.count('class="edge"') == workflow._graph.number_of_edges()
