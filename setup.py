"""The description that PyPI shows: the README, whose links lead to the repository or are put in words."""

import configparser
import re
from pathlib import Path

from setuptools import setup

HERE = Path(__file__).parent
# ![text](target), [text](target); a target with a scheme is absolute, one with # alone stays on the page
LINK = re.compile(r"(!?)\[([^\]]*)\]\((?![a-z]+:|#)([^)]+)\)")


def description(text, source):
    """Return the README with its relative links made absolute, or in words where there is no address."""

    def link(found):
        picture, words, target = found.groups()
        if source:
            return f"{picture}[{words}]({source}/{'raw' if picture else 'blob'}/HEAD/{target})"
        return f"(Picture {target}: {words})" if picture else words

    return LINK.sub(link, text)


def source():
    """Return the address of the repository, "" where `setup.cfg` states none."""
    config = configparser.ConfigParser()
    config.read(HERE / "setup.cfg", encoding="utf-8")
    stated = dict(re.findall(r"^(\w+) = (\S+)", config["metadata"]["project_urls"], flags=re.MULTILINE))
    return stated.get("Source", "").rstrip("/")


if __name__ == "__main__":
    setup(
        long_description=description((HERE / "README.md").read_text(encoding="utf-8"), source()),
        long_description_content_type="text/markdown",
    )
