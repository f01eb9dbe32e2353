"Sphinx reads docs/_build/source, which build.py makes from the notebooks"
from configparser import ConfigParser
from pathlib import Path

cfg = ConfigParser(delimiters=['='])
cfg.read(Path(__file__).parent.parent/'settings.ini', encoding='utf-8')
cfg = cfg['DEFAULT']

project, author, release = cfg['title'], cfg['author'], cfg['version']
copyright = cfg['copyright']
extensions = ['myst_nb', 'sphinx.ext.mathjax']
myst_enable_extensions = ['dollarmath', 'amsmath', 'colon_fence', 'attrs_inline']
myst_heading_anchors = 3
nb_execution_mode = 'off'
nb_number_source_lines = False
nb_merge_streams = True
exclude_patterns = []
add_module_names = False
python_use_unqualified_type_names = True
toc_object_entries_show_parents = 'hide'

html_title = cfg['title']
html_theme = 'sphinx_book_theme'
html_static_path = ['_static', '_build/static']
html_css_files = ['custom.css']
html_favicon = '_static/icon.svg'
html_context = {'default_mode': 'auto'}
html_copy_source = False
html_show_sourcelink = False
html_last_updated_fmt = None
mathjax_path = 'mathjax/tex-chtml.js'
html_theme_options = dict(
    repository_url=f"https://github.com/{cfg['user']}/{cfg['repo']}", use_repository_button=True, use_download_button=False,
    navbar_persistent=[], show_toc_level=2, show_navbar_depth=1, home_page_in_toc=True, toc_title='On this page',
    pygments_light_style='tango', pygments_dark_style='github-dark')
