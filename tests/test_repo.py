"The repository agrees with itself: notebooks, modules, README, the floors of the house"
import ast
import filecmp
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT/'docs'))
from notebooks import BANDS, notebooks, source  # noqa: E402

LIB = 't2i_nb'
NBS = notebooks()
FILES = [nb.path for nb in NBS] + [ROOT/'index.ipynb']
# What a package must not know of, though its floor would let it
NEVER = {'text': {'data', 'fastai'}, 'diffusion': {'data', 'fastai'}, 'models': {'data', 'diffusion', 'fastai'}}


def run(args, cwd=ROOT):
    env = {k: v for k, v in os.environ.items() if k != 'IN_TEST'}
    return subprocess.run([str(a) for a in args], cwd=cwd, env=env, text=True, capture_output=True)


def tracked():
    out = run(['git', 'ls-files', '-z'])
    if out.returncode: pytest.skip('not a git checkout')
    return [ROOT/p for p in out.stdout.split('\0') if p and (ROOT/p).is_file()]


@pytest.fixture(scope='module')
def again(tmp_path_factory):
    "The notebooks exported and cleaned once more, in a copy of the tree"
    to = tmp_path_factory.mktemp('again')
    for f in ('settings.ini', 'pyproject.toml', 'index.ipynb'): shutil.copy(ROOT/f, to/f)
    shutil.copytree(ROOT/'nbs', to/'nbs', symlinks=True)
    for tool in ('nbdev_clean', 'nbdev_export'):
        done = run([Path(sys.executable).parent/tool], cwd=to)
        assert not done.returncode, done.stderr
    return to


def test_modules_are_what_the_notebooks_export(again):
    here, there = ({p.relative_to(r/LIB) for p in (r/LIB).rglob('*.py')} for r in (ROOT, again))
    assert here == there, f'only in one of them: {sorted(map(str, here ^ there))}; run `make export`'
    differ = [str(p) for p in sorted(here) if not filecmp.cmp(ROOT/LIB/p, again/LIB/p, shallow=False)]
    assert not differ, f'edited by hand, or not exported since: {differ}; run `make export`'


def test_notebooks_are_clean(again):
    differ = [f.name for f in FILES if f.read_bytes() != (again/f.relative_to(ROOT)).read_bytes()]
    assert not differ, f'{differ}: run `make export`'


def test_readme_is_made_from_the_home_page():
    done = run([sys.executable, ROOT/'docs'/'readme.py', '--check'])
    assert not done.returncode, done.stderr


def test_home_page_is_one_file():
    assert (ROOT/'nbs'/'index.ipynb').is_symlink() and not (ROOT/'index.ipynb').is_symlink()
    assert (ROOT/'nbs'/'index.ipynb').resolve() == (ROOT/'index.ipynb').resolve()


def test_no_large_file():
    big = [f'{p.relative_to(ROOT)}: {p.stat().st_size/1e6:.1f} MB' for p in tracked()
           if p.stat().st_size > 1_500_000 and not (p.suffix == '.safetensors' and (ROOT/'pretrained') in p.parents)]
    assert not big, big


def test_notebooks_are_small_and_quiet():
    bad = []
    for f in FILES:
        if f.stat().st_size > 500_000: bad.append(f'{f.name}: {f.stat().st_size//1000} KB')
        for i, c in enumerate(json.loads(f.read_text(encoding='utf-8'))['cells']):
            if 'TODO' in ''.join(c['source']): bad.append(f'{f.name} cell {i}: left to do')
            for o in c.get('outputs', []):
                if o['output_type'] == 'error' or o.get('name') == 'stderr': bad.append(f'{f.name} cell {i}: a stored error')
                if len(json.dumps(o)) > 100_000: bad.append(f'{f.name} cell {i}: an output over 100 KB')
    assert not bad, bad


def test_notebooks_stand_on_their_floors():
    numbers = [nb.number for nb in NBS]
    assert len(numbers) == len(set(numbers)), f'a number twice: {sorted(n for n in numbers if numbers.count(n) > 1)}'
    for nb in NBS:
        assert nb.title and nb.promise, f'{nb.path.name}: the first cell is `# Title` and `> promise`'
        assert nb.module.split('.')[0] in (nb.band[3] or ['']), f'{nb.path.name}: {nb.module} is not of floor {nb.band[:2]}'
        assert not nb.module or nb.module.lower() == nb.name, f'{nb.path.name} exports {nb.module}'


def imports(path):
    "Modules that a file imports, relative ones resolved"
    package = path.relative_to(ROOT).parent.parts
    for node in ast.walk(ast.parse(path.read_text(encoding='utf-8'))):
        if isinstance(node, ast.Import): yield from (a.name for a in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = '.'.join(package[:len(package)-node.level+1]) if node.level else ''
            mod = '.'.join(filter(None, [base, node.module]))
            yield mod
            yield from (f'{mod}.{a.name}' for a in node.names)


def test_modules_import_from_their_own_floor_or_lower():
    floor = {f'{LIB}.{nb.module}': BANDS.index(nb.band) for nb in NBS if nb.module}
    bad, seen = [], 0
    for mod, own in floor.items():
        for name in imports(ROOT/(mod.replace('.', '/') + '.py')):
            seen += name in floor
            if floor.get(name, 0) > own: bad.append(f'{mod} imports {name}')
            forbidden = NEVER.get(mod.split('.')[1], set())
            if name.removeprefix(f'{LIB}.').split('.')[0] in forbidden: bad.append(f'{mod} should not know {name}')
    assert not bad, bad
    assert seen >= len(floor) - 1, 'imports were not read'


def test_exported_code_prints_nothing():
    "A module's result is a value: only the command line and the report speak"
    bad = []
    for nb in NBS:
        if nb.band[2] in ('Whole jobs', 'Studies') or not nb.module: continue
        tree = ast.parse((ROOT/LIB/(nb.module.replace('.', '/') + '.py')).read_text(encoding='utf-8'))
        bad += [f'{nb.module}:{n.lineno}' for n in ast.walk(tree) if isinstance(n, ast.Call)
                and getattr(n.func, 'id', '') == 'print' and not any(k.arg == 'file' for k in n.keywords)]
    assert not bad, bad


def test_cells_import_or_work():
    "A cell of imports holds nothing else: nbdev's tools run such cells alone"
    bad = []
    for f in FILES:
        for i, c in enumerate(json.loads(f.read_text(encoding='utf-8'))['cells']):
            if c['cell_type'] != 'code': continue
            try: body = ast.parse(source(c)).body
            except SyntaxError: continue
            kinds = {isinstance(n, (ast.Import, ast.ImportFrom)) for n in body}
            if len(kinds) == 2: bad.append(f'{f.name} cell {i}')
    assert not bad, bad
