"""The stages in order, for one batch, one release, one request. The CLI and the DAGs call this and nothing below it.

What is here stands in `__init__.pyi`; each name brings its part, and the libraries under it, when it is first asked for: `curation --help`
needs none of them.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
