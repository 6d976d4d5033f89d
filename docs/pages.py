"""What the site needs beyond the pages of docs/: two hooks that mkdocs calls.

Pages are written for whoever reads them in the repository. What they link to outside of docs/
becomes part of the site, at its path from the top of the repository. Three pages of reference are
made of what the program itself says: the schema of the config, the commands, the public names.
"""

from __future__ import annotations

import json
import posixpath
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

import mstkd
from mstkd.config.schema import json_schema

ROOT = Path(__file__).parent.parent
OUTSIDE = ("config/README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md")  # pages of the nav
LINK = re.compile(r"(?<=\]\()([^)\s#:]+)(?=[#)])")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that are made, and what pages link to outside of docs/."""
    made = {"config": _settings(), "cli": _commands(), "python": _names()}
    for name, text in made.items():
        files.append(File.generated(config, f"reference-{name}.md", content=text))
    waiting = [ROOT / name for name in OUTSIDE]
    waiting += [path for page in files.documentation_pages() for path in _linked(page)]
    while waiting:
        path = waiting.pop()
        if files.get_file_from_path(_uri(path)) is None:
            files.append(File.generated(config, _uri(path), abs_src_path=str(path)))
            waiting += _linked(files.src_uris[_uri(path)])
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Links as they hold in the site; whatever names no file of the repository stays as it is."""
    folder = posixpath.dirname(page.file.src_uri)

    def moved(link: re.Match[str]) -> str:
        path = (_source(page.file).parent / link[1]).resolve()
        return posixpath.relpath(_uri(path), folder or ".") if path.is_file() else link[1]

    return LINK.sub(moved, markdown)


def _source(file: File) -> Path:
    """Where a page is written; one that is made links as if it lay in docs/."""
    return Path(file.abs_src_path or ROOT / "docs" / file.src_uri)


def _linked(file: File) -> Iterator[Path]:
    """The files of the repository that a page links to."""
    if file.is_documentation_page():
        for link in LINK.findall(file.content_string):
            path = (_source(file).parent / link).resolve()
            if path.is_file():
                yield path


def _uri(path: Path) -> str:
    """Where a file of the repository lies in the site."""
    home = ROOT / "docs" if path.is_relative_to(ROOT / "docs") else ROOT
    return path.relative_to(home).as_posix()


# ---------------------------------------------------------------- pages that are made


def _settings() -> str:
    """The config's keys with types, limits and defaults: a table of each section."""
    schema = json_schema()
    tables: dict[str, list[str]] = {}
    for key, value in schema["properties"].items():
        rows = list(_rows(schema, key, value, key in schema["required"]))
        tables.setdefault(key if len(rows) > 1 else "Keys of their own", []).extend(rows)
    lines = [
        "# Types and limits of the config",
        "",
        "Made of the schema that `mstkd schema` prints. What the keys mean, and what an edit",
        "of one reruns: [keys of the config](../config/README.md).",
    ]
    for title, rows in tables.items():
        lines += ["", f"## {title}", "", "| key | value | default |", "|---|---|---|", *rows]
    return "\n".join(lines) + "\n"


def _rows(schema: dict[str, Any], key: str, value: dict[str, Any], required: bool) -> Iterator[str]:
    """A row a key; a section has those of its keys, a mapping to sections those of each."""
    sections = [one["$ref"] for one in (value, *value.get("anyOf", [])) if "$ref" in one]
    for section in (schema["$defs"][name.rpartition("/")[2]] for name in sections):
        for name, one in section["properties"].items():
            if name != "recipe":  # the program's own
                inner = name in section.get("required", [])
                yield from _rows(schema, f"{key}.{name}", one, inner)
    if not sections:
        default = "required" if required else _shown(value.get("default"))
        yield f"| `{key}` | {_kind(value)} | {default} |"
        for each in map(_each, (value, *_alternatives(value))):
            if any("$ref" in one for one in (each, *each.get("anyOf", []))):
                yield from _rows(schema, f"{key}.<name>", each, False)


def _alternatives(value: dict[str, Any]) -> list[dict[str, Any]]:
    """What a value may be, each by itself; nothing where it may be one thing only."""
    options = value.get("anyOf", value.get("oneOf", []))
    return [one for option in options for one in _alternatives(option) or [option]]


def _each(value: dict[str, Any]) -> dict[str, Any]:
    """The values of a mapping of names, empty of what is none."""
    several = [*value.get("patternProperties", {}).values(), value.get("additionalProperties")]
    return next((one for one in several if one), {})


BOUNDS = {"exclusiveMinimum": ">", "minimum": "≥", "exclusiveMaximum": "<", "maximum": "≤"}


def _kind(value: dict[str, Any]) -> str:
    """What a value may be, in words."""
    if "$ref" in value:
        return "a section"
    if alternatives := _alternatives(value):
        kinds = [_kind(one) for one in alternatives if one.get("type") != "null"]
        if "uniqueItems" in alternatives[-1]:
            return f"{kinds[0]}; or a list of them"
        return ", or ".join(kinds)
    if "enum" in value or "const" in value:
        return ", ".join(_shown(one) for one in value.get("enum", [value.get("const")]))
    if value["type"] == "array":
        items = value.get("items") or value["prefixItems"][0]
        few, many = value.get("minItems"), value.get("maxItems")
        counts = few if few == many else f"{few} to {many}" if many else f"{few} or more"
        return f"list of {counts if few else 'any number'}: {_kind(items)}"
    if value["type"] == "object":
        each = _each(value)
        return "names, each a section" if "$ref" in each else f"names, each with: {_kind(each)}"
    kind = "path" if value.get("format") == "path" else value["type"]
    bounds = [f"{sign} {value[bound]:,}" for bound, sign in BOUNDS.items() if bound in value]
    bounds += [f"a multiple of {value['multipleOf']}"] if "multipleOf" in value else []
    return ", ".join([kind, *bounds])


def _shown(value: Any) -> str:
    """A value as YAML has it; of sections their names."""
    if isinstance(value, dict):
        return ", ".join(map(_shown, value)) or "–"
    return "–" if value is None else f"`{value if isinstance(value, str) else json.dumps(value)}`"


def _commands() -> str:
    """What `--help` says of each command, by Typer's own command for it."""
    typer = [sys.executable, "-m", "typer", "mstkd.cli.app", "utils", "docs"]
    typer += ["--name", "mstkd", "--title", "Command line"]
    told = subprocess.run(typer, check=True, stdout=subprocess.PIPE, text=True).stdout
    told = re.sub(r"\*\*Commands\*\*:\n\n(\* .*\n)+", "", told)  # the contents beside the page
    return re.sub(r"^Example: (.*)$", r"```\n\1\n```", told, flags=re.MULTILINE)


def _names() -> str:
    """The public names by their docstrings, in the order of the page that has examples."""
    page = (ROOT / "docs/python.md").read_text(encoding="utf-8")
    names = sorted(mstkd.__all__, key=lambda name: page.index(f"`{name}`"))
    lines = ["# Python", "The public names; [from Python](python.md) has examples."]
    return "\n\n".join([*lines, *(f"::: mstkd.{name}" for name in names)]) + "\n"
