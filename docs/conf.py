"""Sphinx makes the site of this folder: `docs/build` (warnings are errors, nothing is fetched)."""

import pathlib

import faiss_ext

HERE = pathlib.Path(__file__).parent

project = "ScaNN for Faiss"
author = "The authors of ScaNN for Faiss"
release = faiss_ext.__version__

extensions = [
    "myst_parser",  # Markdown
    "sphinx.ext.autodoc",  # Python's docstrings
    "sphinx.ext.napoleon",
    "breathe",  # comments of the C++ headers, read by Doxygen
    "sphinx_gallery.gen_gallery",  # runs tutorials/*.py and shows what they print and draw
]
exclude_patterns = [
    "tutorials/*.py",
    "tutorials/GALLERY_HEADER.rst",
    "**/sg_execution_times.rst",  # loads scripts from elsewhere
]
suppress_warnings = ["config.cache"]

html_theme = "furo"
html_title = f"{project} {release}"
html_static_path: list[str] = []

myst_heading_anchors = 3
myst_enable_extensions = ["colon_fence"]

autodoc_member_order = "groupwise"
autodoc_typehints = "none"  # signatures of the native module have them
napoleon_google_docstring = False
napoleon_use_rtype = False
napoleon_use_ivar = True  # attributes stand in the docstring of their class

breathe_projects = {"faiss_ext": str(HERE.parent / "build" / "doxygen" / "xml")}
breathe_default_project = "faiss_ext"
breathe_default_members = ("members",)
# macros that Doxygen leaves in declarations
cpp_id_attributes = ["FAISS_EXT_API"]

sphinx_gallery_conf = {
    "examples_dirs": "tutorials",
    "gallery_dirs": "tutorials-made",
    "filename_pattern": r"/\d_(?!in_milvus)",  # which needs a server: its page has the output of a run (tests/server)
    "within_subsection_order": "FileNameSortKey",
    "download_all_examples": False,
    "show_memory": False,
    "show_signature": False,
    "write_computation_times": False,
    "remove_config_comments": True,
    "abort_on_example_error": True,
    "plot_gallery": True,
}
