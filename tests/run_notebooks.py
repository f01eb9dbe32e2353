"""Runs the notebooks' cells as plain Python, with no help from nbdev: how `make test-newest` runs them where nbdev cannot be imported.
    python tests/run_notebooks.py [--jobs 2] [nbs/FILE.ipynb ...]"""
import argparse
import ast
import contextlib
import io
import json
import linecache
import os
import re
import subprocess
import sys
import time
import traceback
import types
import warnings
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SKIP = re.compile(r'^#\|\s*(slow|cuda|eval:\s*false)\b', re.M)


def run(path):
    "Run the cells of a notebook as the main module, where pickle looks for what they define; a traceback and status 1 where one fails"
    os.chdir(ROOT/'nbs')
    main = sys.modules['__main__'] = types.ModuleType('__main__')
    main.display = lambda *args: None
    for i, cell in enumerate(json.loads(path.read_text(encoding='utf-8'))['cells']):
        src = re.sub(r'^[%!].*', '', ''.join(cell['source']), flags=re.M)
        if cell['cell_type'] != 'code' or SKIP.search(src): continue
        file = f'{path.name}, cell {i}'
        linecache.cache[file] = (len(src), None, src.splitlines(True), file)  # so that tracebacks show the line
        try:
            with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()), warnings.catch_warnings():
                warnings.simplefilter('ignore')
                exec(compile(ast.parse(src, file), file, 'exec'), vars(main))
        except Exception: sys.exit(traceback.format_exc())


def in_process(path):
    "A notebook in a process of its own: path, seconds, what went wrong or nothing"
    start = time.time()
    done = subprocess.run([sys.executable, __file__, '--here', path], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    return path, time.time() - start, done.stderr if done.returncode else ''


def main():
    p = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    p.add_argument('files', nargs='*', type=lambda f: Path(f).resolve(), help='notebooks; all of them if none is named')
    p.add_argument('--jobs', type=int, default=2, help='how many at once')
    p.add_argument('--here', action='store_true', help='one notebook, in this process')
    a = p.parse_args()
    os.environ.update(MPLBACKEND='agg', IN_TEST='1')
    files = a.files or sorted(ROOT.glob('nbs/[0-9]*.ipynb')) + [ROOT/'index.ipynb']
    if a.here: return run(files[0])
    bad = 0
    with ThreadPoolExecutor(a.jobs) as pool:
        for done in as_completed(pool.submit(in_process, f) for f in files):
            path, seconds, error = done.result()
            print(f'{path.name:40} {seconds:5.1f} s  {"FAILED" if error else "ok"}', flush=True)
            if error: print(error); bad += 1
    print(f'{len(files)-bad} of {len(files)} notebooks ran')
    sys.exit(bool(bad))


if __name__ == '__main__': main()
