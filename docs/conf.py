"""How the documentation is built: `make docs`."""

from zoo import __version__

project = "zoo"
author = "The zoo authors"
copyright = "The zoo authors, Apache-2.0"
release = version = __version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx_click"]
source_suffix = {".md": "markdown"}
exclude_patterns = ["_build"]

myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3

# Docstrings are written in Google's style, with code in single backquotes.
default_role = "code"
highlight_language = "text"  # a block without a language is what was printed
smartquotes = False  # "auto" is a string
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_rtype = False
napoleon_use_ivar = True
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
python_display_short_literal_types = True
python_maximum_signature_line_length = 90

html_theme = "furo"
html_title = f"zoo {release}"
html_copy_source = False
html_show_sourcelink = False
# Nothing is asked of other machines: the pages can be read from a disk.
html_theme_options = {"navigation_with_keys": True}
