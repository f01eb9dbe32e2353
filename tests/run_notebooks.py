"""Runs the notebooks' cells as plain Python, with no help from nbdev: how `make test-newest` runs them where nbdev cannot be imported.
    python tests/run_notebooks.py [--jobs 2] [nbs/FILE.ipynb ...]"""
import argparse
import ast
import contextlib
import io
import json
import linecache
import multiprocessing
import os
import re
import sys
import time
import traceback
import warnings
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SKIP = re.compile(r'^#\|\s*(slow|cuda|eval:\s*false)\b', re.M)


def run(path):
    "Seconds, and what went wrong or None"
    os.chdir(ROOT/'nbs')
    start, names = time.time(), {'__name__': '__main__', 'display': lambda *args: None}
    for i, cell in enumerate(json.loads(Path(path).read_text(encoding='utf-8'))['cells']):
        src = re.sub(r'^[%!].*', '', ''.join(cell['source']), flags=re.M)
        if cell['cell_type'] != 'code' or SKIP.search(src): continue
        file = f'{Path(path).name}, cell {i}'
        linecache.cache[file] = (len(src), None, src.splitlines(True), file)  # so that tracebacks show the line
        try:
            with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()), warnings.catch_warnings():
                warnings.simplefilter('ignore')
                exec(compile(ast.parse(src, file), file, 'exec'), names)
        except Exception: return path, time.time() - start, traceback.format_exc()
    if 'matplotlib' in sys.modules: sys.modules['matplotlib'].pyplot.close('all')
    return path, time.time() - start, None


def main():
    p = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    p.add_argument('files', nargs='*', help='notebooks; all of them if none is named')
    p.add_argument('--jobs', type=int, default=2, help='how many at once')
    a = p.parse_args()
    os.environ.update(MPLBACKEND='agg', IN_TEST='1')
    files = [Path(f).resolve() for f in a.files] or sorted(ROOT.glob('nbs/[0-9]*.ipynb')) + [ROOT/'index.ipynb']
    bad = 0
    with multiprocessing.get_context('spawn').Pool(a.jobs) as pool:
        for path, seconds, error in pool.imap_unordered(run, files):
            print(f'{path.name:40} {seconds:5.1f} s  {"FAILED" if error else "ok"}', flush=True)
            if error: print(error); bad += 1
    print(f'{len(files)-bad} of {len(files)} notebooks ran')
    sys.exit(bool(bad))


if __name__ == '__main__': main()
