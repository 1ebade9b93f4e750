"""Check that each link inside the built site leads somewhere: `python docs/links.py docs/_build/html`."""

import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit


class Page(HTMLParser):
    """The links of a page, and the places in it that a link can name."""

    def __init__(self, path):
        super().__init__()
        self.links, self.places = [], {"", "top"}
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attrs):
        """Note a link, a picture or a place."""
        for name, value in attrs:
            if name in {"href", "src"} and value:
                self.links.append(value)
            elif name == "id" or (tag == "a" and name == "name"):
                self.places.add(value)


def broken(site):
    """Return one line for each link of the site to a file or place that it lacks, and the number of links."""
    pages = {path.resolve(): Page(path) for path in site.rglob("*.html")}
    lines, number = [], 0
    for path, page in pages.items():
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            number += 1
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            place = unquote(parts.fragment)
            if not target.exists() or (target in pages and place not in pages[target].places):
                lines.append(f"{path.relative_to(site.resolve())} points to {link}")
    return lines, number


if __name__ == "__main__":
    lines, number = broken(Path(sys.argv[1]))
    sys.exit("\n".join(lines) or (0 if number else f"no links in {sys.argv[1]}"))
