"The notebooks in reading order, and the floors of the house: one list, read by the README, the site and the tests"
import json
import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# A module imports from its own floor or a lower one; a new notebook takes a free number on its floor
BANDS = [
    (0, 0, 'Core', ['core']), (1, 9, 'Data', ['data']), (10, 19, 'Text', ['text']), (20, 29, 'Diffusion', ['diffusion']),
    (30, 39, 'Models', ['models']), (40, 49, 'Evaluation', ['evaluate']), (50, 54, 'Pipeline', ['pipeline', 'edit', 'judge', 'rank']),
    (55, 64, 'Training', ['train']), (65, 69, 'Whole jobs', ['report', 'run', 'cli', 'ablate', 'app']), (70, 99, 'Studies', [])]


def source(cell): return ''.join(cell['source'])


def read(path): return json.loads(Path(path).read_text(encoding='utf-8'))


def directives(cell):
    "Its `#| name value` lines as a dict"
    found = re.findall(r'^#\|\s*(\w[\w-]*):?[ \t]*(.*?)\s*$', source(cell), re.M) if cell['cell_type'] == 'code' else []
    return dict(found)


def head(cell):
    "Title, promise and the rest of a notebook's first cell"
    text = source(cell)
    title = re.search(r'^#\s+(.+?)\s*$', text, re.M)
    promise = ' '.join(re.findall(r'^>\s*(.+?)\s*$', text, re.M))
    rest = '\n'.join(line for line in text.splitlines() if not re.match(r'#\s|>', line)).strip()
    return title[1] if title else '', promise, rest


@dataclass
class Notebook:
    path: Path
    number: int
    name: str       # What follows the number: the module, or a study's name; also the page on the site
    title: str
    promise: str
    module: str     # From `#| default_exp`; empty where nothing is exported
    @property
    def band(self): return next(b for b in BANDS if b[0] <= self.number <= b[1])


def notebooks():
    "Every numbered notebook, in order"
    out = []
    for path in sorted((ROOT/'nbs').glob('[0-9][0-9]_*.ipynb')):
        cells = read(path)['cells']
        title, promise, _ = head(cells[0])
        exp = [d['default_exp'] for d in map(directives, cells) if 'default_exp' in d]
        out.append(Notebook(path, int(path.name[:2]), path.stem[3:].lower(), title, promise, exp[0] if exp else ''))
    return out
