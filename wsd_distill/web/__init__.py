"""A tagger as a web page: a static folder that runs it in the browser, and a server that adds boxes."""

from .server import BoxFinder, make_server
from .site import write_site

__all__ = ["BoxFinder", "make_server", "write_site"]
