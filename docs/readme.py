"""README.md from index.ipynb, with the table of notebooks filled in from their first cells.
    python docs/readme.py           writes both
    python docs/readme.py --check   writes nothing and fails when they would change"""
import json
import re
import sys
from itertools import groupby

from nbconvert import MarkdownExporter
from nbformat import reads
from notebooks import ROOT, directives, notebooks, read, source

INDEX, README, IMAGES = ROOT/'index.ipynb', ROOT/'README.md', ROOT/'docs'/'images'
MARKS = re.compile(r'(<!-- notebooks -->\n).*?(<!-- /notebooks -->)', re.S)


def table():
    "All notebooks as one table, a row above each floor"
    rows = ['| | Notebook | |', '|---|---|---|']
    for band, nbs in groupby(notebooks(), lambda nb: nb.band):
        rows.append(f'| | **{band[2]}** | |')
        rows += [f'| {nb.number:02} | [{nb.title}](nbs/{nb.path.name}) | {nb.promise} |' for nb in nbs]
    return '\n'.join(rows)


def filled():
    "index.ipynb with its table up to date, as text; and its cells"
    nb = read(INDEX)
    for cell in nb['cells']:
        if cell['cell_type'] == 'markdown' and MARKS.search(source(cell)):
            cell['source'] = MARKS.sub(lambda m: m[1] + table() + '\n' + m[2], source(cell)).splitlines(True)
    return json.dumps(nb, sort_keys=True, indent=1, ensure_ascii=False) + '\n', nb


def convert(nb):
    "Markdown and its pictures, name to bytes"
    nb = {**nb, 'metadata': {'language_info': {'name': 'python'}}}
    nb['cells'] = [dict(c) for c in nb['cells'] if 'hide' not in directives(c)]
    for c in nb['cells']:
        if c['cell_type'] == 'code': c['source'] = re.sub(r'^#\|.*\n?', '', source(c), flags=re.M)
    resources = {'unique_key': 'index', 'output_files_dir': 'docs/images'}
    text, res = MarkdownExporter().from_notebook_node(reads(json.dumps(nb), 4), resources=resources)
    text = re.sub(r'\n\s*\n', '\n\n', text).strip()
    return f'<!-- Made from index.ipynb by `make readme`: edit that one -->\n\n{text}\n', {k.split('/')[-1]: v for k, v in res['outputs'].items()}


def main():
    index, nb = filled()
    text, images = convert(nb)
    want = {INDEX: index.encode(), README: text.encode(), **{IMAGES/k: v for k, v in images.items()}}
    stale = [p for p, v in want.items() if not p.exists() or p.read_bytes() != v]
    left = [p for p in IMAGES.glob('index_*') if p not in want]
    if '--check' in sys.argv[1:]:
        if stale or left:
            names = ', '.join(str(p.relative_to(ROOT)) for p in stale + left)
            sys.exit(f'not what index.ipynb and the notebooks say: {names}. Run `make readme` and commit.')
        return
    IMAGES.mkdir(exist_ok=True)
    for p in left: p.unlink()
    for p in stale: p.write_bytes(want[p])


if __name__ == '__main__': main()
