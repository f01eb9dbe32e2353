"""The site, from the notebooks as they are committed (no cell is run) and the modules they export.
    python docs/build.py    writes docs/_build/html

nbdev's own `nbdev_proc_nbs` is not used: where Quarto is missing it tries to fetch it, then runs whichever `pip` is first."""
import ast
import importlib
import inspect
import json
import re
import shutil
import subprocess
import sys
from configparser import ConfigParser
from itertools import groupby
from pathlib import Path

from notebooks import ROOT, directives, head, notebooks, read, source

OUT = ROOT/'docs'/'_build'
SRC, STATIC = OUT/'source', OUT/'static'
MATHJAX = '3.2.2'
cfg = ConfigParser(delimiters=['='])
cfg.read(ROOT/'settings.ini', encoding='utf-8')
cfg = cfg['DEFAULT']
LIB, REPO = cfg['lib_name'], f"https://github.com/{cfg['user']}/{cfg['repo']}"
BLOB = f"{REPO}/blob/{cfg['branch']}"
COLAB = REPO.replace('https://github.com', 'https://colab.research.google.com/github') + f"/blob/{cfg['branch']}"


PROBLEMS = []


# ---- what the notebooks export ----
def exported(cell):
    "Names that an export cell defines; a method added by `@patch` is `Class.method`"
    out = []
    for node in ast.parse(re.sub(r'^[%!].*', '', source(cell), flags=re.M)).body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            patched = any('patch' in ast.unparse(d) for d in node.decorator_list)
            kls = ast.unparse(node.args.args[0].annotation).strip("'") if patched and node.args.args[0].annotation else ''
            out.append((f'{kls}.{node.name}' if kls else node.name, node))
    return [(n, node) for n, node in out if not any(p.startswith('_') for p in n.split('.'))]


def is_export(cell): return cell['cell_type'] == 'code' and {'export', 'exports'} & directives(cell).keys()


class Names:
    "Where each exported name is documented"
    def __init__(self, nbs):
        self.full = {}
        for nb in nbs:
            if not nb.module: continue
            for cell in filter(is_export, read(nb.path)['cells']):
                for name, _ in exported(cell): self.full.setdefault(name, []).append(f'{LIB}.{nb.module}.{name}')

    def ref(self, name, text=None):
        "A cross-reference, or None when no one thing has this name"
        full = self.full.get(name, [])
        return f'{{py:obj}}`{text or name} <{full[0]}>`' if len(full) == 1 else None


# ---- markdown ----
CODE = re.compile(r'(```.*?```|~~~.*?~~~|\$\$.*?\$\$)', re.S)
LINK = re.compile(r'(!?)\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^)\s]+)((?:\s+"[^"]*")?)\)')


class Markdown:
    "Rewrites the links of one page: to pages of the site, to files on GitHub, and from `name` to its documentation"
    def __init__(self, nbs, names, base, page='', module=''):
        self.pages = {nb.path.name: nb.name for nb in nbs} | {'index.ipynb': 'index', 'CONTRIBUTING.md': 'contributing',
                                                             'CHANGELOG.md': 'changelog'}
        self.names, self.base, self.page, self.module, self.seen = names, base, page, module, set()

    def link(self, m):
        bang, text, url, title = m.groups()
        if re.match(r'[a-z]+:|#|//', url): return m[0]
        path, _, anchor = url.partition('#')
        if Path(path).name in self.pages and not bang:
            kind = '.md' if path.endswith('.md') else '.ipynb'
            return f'[{text}]({self.pages[Path(path).name]}{kind}{"#" + anchor if anchor else ""})'
        file = (self.base/path).resolve()
        if not file.exists():
            PROBLEMS.append(f'{self.page}: a link to {url}, which is not there')
            return text
        rel = file.relative_to(ROOT).as_posix()
        if not bang: return f'[{text}]({BLOB}/{rel})'
        copy(file, SRC/'images'/file.name)
        return f'![{text}](images/{file.name}{title})'

    def name(self, m):
        name = m[1].removesuffix('()')
        if name in self.seen or not (ref := self.names.ref(name, m[1])) or f'.{self.module}.{name}' in ref: return m[0]
        self.seen.add(name)
        return ref

    def __call__(self, text):
        parts = CODE.split(text)
        for i, s in enumerate(parts):
            if i % 2: continue
            s = LINK.sub(self.link, s)
            lines = s.split('\n')   # headings and links keep their plain names
            parts[i] = '\n'.join(x if x.startswith('#') else re.sub(r'(?<![`\[}])`([\w.]+(?:\(\))?)`(?![`\]])', self.name, x)
                                 for x in lines)
        return ''.join(parts)


# ---- pages ----
def md(text): return dict(cell_type='markdown', metadata={}, source=text)


def signature(cell):
    "The head of each definition as it is written, docments and docstring included, without its body"
    lines, out = source(cell).split('\n'), []
    for _, node in exported(cell):
        first = node.body[0]
        doc = isinstance(first, ast.Expr) and isinstance(getattr(first.value, 'value', None), str)
        end = first.end_lineno if doc else first.lineno - 1
        out.append('\n'.join(lines[node.lineno - 1:max(end, node.lineno)]))
    return '\n\n'.join(out)


def code_cells(cell, names, module):
    "What a code cell shows, by its directives"
    d, src = directives(cell), re.sub(r'^#\|.*\n?|^.*#\|\s*hide_line\s*$\n?', '', source(cell), flags=re.M).strip('\n')
    if 'hide' in d or 'default_exp' in d and not src or d.get('include') == 'false' or 'exporti' in d: return []
    cell = dict(cell, source=src, metadata={'tags': []}, execution_count=None)
    tags = cell['metadata']['tags']
    if d.get('echo') == 'false': tags.append('remove-input')
    if d.get('output') == 'false': cell['outputs'] = []
    if d.get('code-fold') in ('true', 'hide'): tags.append('hide-input')
    if not {'export', 'exports'} & d.keys(): return [cell] if src else []
    found = [n for n, _ in exported(cell)]
    refs = [r for r in (names.ref(n) for n in found) if r]
    if 'exports' not in d:
        if not found: return []
        cell['source'] = signature(cell)
    cell['outputs'] = []
    label = [md(f'```{{container}} t2i-export\n{LIB}.{module}: {", ".join(refs)}\n```')] if refs else []
    return label + [cell]


def badges(path, module):
    api = f' {{doc}}`API </api/{module}>`' if module else ''
    return (f'[![Open in Colab](images/colab.svg)]({COLAB}/{path}) [Notebook]({BLOB}/{path}){api}')


def page(path, name, nbs, names, module=''):
    "One notebook as a page: its first cell becomes the head"
    nb = read(path)
    mark = Markdown(nbs, names, path.resolve().parent, name, module)
    title, promise, rest = head(nb['cells'][0])
    rel = path.resolve().relative_to(ROOT).as_posix()
    lead = f'```{{container}} t2i-promise\n{promise}\n```\n\n' if promise else ''
    cells = [md(f'# {title}\n\n{lead}```{{container}} t2i-badges\n{badges(rel, module)}\n```')]
    if rest: cells.append(md(mark(rest)))
    for cell in nb['cells'][1:]:
        if cell['cell_type'] == 'markdown': cells.append(md(mark(source(cell))))
        elif cell['cell_type'] == 'code': cells += code_cells(cell, names, module)
    for i, c in enumerate(cells): c['id'] = f'{i:04}'
    meta = {'kernelspec': nb['metadata'].get('kernelspec', {}), 'language_info': {'name': 'python'}}
    return dict(cells=cells, metadata=meta, nbformat=4, nbformat_minor=5)


def toctrees(nbs):
    "The side bar: a heading a floor, pages in order of their numbers"
    out = []
    for band, group in groupby(nbs, lambda nb: nb.band):
        rows = '\n'.join(f'{nb.number:02} · {nb.title} <{nb.name}>' for nb in group)
        out.append(f'```{{toctree}}\n:hidden:\n:caption: {band[2]}\n\n{rows}\n```')
    out.append('```{toctree}\n:hidden:\n:caption: Reference\n\nAPI <api/index>\nContributing <contributing>\nChanges <changelog>\n```')
    return '\n\n'.join(out)


# ---- API ----
def default(v):
    "A default as a reader would write it"
    if inspect.isfunction(v) or inspect.isclass(v): return v.__name__
    text = repr(v)
    return '...' if text.startswith('<') or len(text) > 40 else text


def short(sig):
    "Names and defaults: types stand in the table"
    out, star = [], False
    for p in sig.parameters.values():
        if p.name == 'self': continue
        if p.kind == p.KEYWORD_ONLY and not star: out.append('*'); star = True
        if p.kind == p.VAR_POSITIONAL: star = True
        mark = {p.VAR_POSITIONAL: '*', p.VAR_KEYWORD: '**'}.get(p.kind, '')
        out.append(mark + p.name + ('' if p.default is p.empty else f'={default(p.default)}'))
    return f'({", ".join(out)})'


def cell_text(s): return re.sub(r'\s+', ' ', str(s or '')).replace('|', '\\|')


def kind_text(anno):
    if anno in (inspect.Parameter.empty, None): return ''
    return f'`{anno if isinstance(anno, str) else inspect.formatannotation(anno).split(".")[-1]}`'


def table(obj):
    "Parameters with types, defaults and meanings: the docments as a table"
    from fastcore.docments import docments
    try: d = docments(obj, full=True)
    except Exception: return ''
    d = {k: v for k, v in d.items() if k != 'self' and (k != 'return' or v.get('docment'))}
    if not any(v.get('docment') for v in d.values()): return ''
    rows = [['', 'Type', 'Default', 'Meaning']]
    for k, v in d.items():
        dflt = '' if v['default'] is inspect.Parameter.empty else f"`{default(v['default'])}`"
        rows.append(['*returns*' if k == 'return' else f'`{k}`', kind_text(v['anno']), dflt, v['docment']])
    cols = [i for i in range(4) if i == 0 or any(r[i] for r in rows[1:])]
    lines = ['| ' + ' | '.join(cell_text(r[i]) for i in cols) + ' |' for r in rows]
    return '\n'.join([lines[0], '|---' * len(cols) + '|'] + lines[1:])


def where(obj):
    "A link to the line that defines it"
    obj = inspect.unwrap(obj)
    try: file, line = inspect.getsourcefile(obj), inspect.getsourcelines(obj)[1]
    except (OSError, TypeError): return ''
    return f' [\\[source\\]]({BLOB}/{Path(file).resolve().relative_to(ROOT).as_posix()}#L{line})'


def describe(obj, name, lines, fence):
    "One function, class or method as a Sphinx object, its public methods inside it"
    kls = inspect.isclass(obj)
    kind = 'class' if kls else 'method' if '.' in name else 'function'
    own = not kls or any('__init__' in k.__dict__ and k.__module__.startswith(LIB) for k in obj.__mro__)
    try: sig = short(inspect.signature(obj)) if own else '()'
    except (TypeError, ValueError): sig = '()'
    doc = obj.__dict__.get('__doc__') if kls else obj.__doc__
    doc = '' if not doc or kls and doc.startswith(f'{obj.__name__}(') else inspect.cleandoc(doc)
    lines += [f'{fence}{{py:{kind}}} {name}{sig}', '', doc + where(obj), '', table(obj), '']
    if kls:
        for k, v in obj.__dict__.items():
            v = getattr(v, '__func__', v)  # a static or a class method
            if not k.startswith('_') and inspect.isfunction(v) and (v.__doc__ or table(v)):
                describe(v, f'{name}.{k}', lines, fence[:-1])
    lines += [fence, '']


def api(nb, nbs, names):
    "The reference of one module"
    mod = importlib.import_module(f'{LIB}.{nb.module}')
    lines = [f'# {nb.module}', '', f'{nb.promise}', '', f'Explained, run and tested in {{doc}}`{nb.title} </{nb.name}>`.', '',
             f'```{{py:module}} {LIB}.{nb.module}', '```', '']
    rows = []
    for cell in filter(is_export, read(nb.path)['cells']):
        for name, _ in exported(cell):
            owner, _, method = name.rpartition('.')
            if owner and owner in dir(mod) and getattr(mod, owner).__module__ == mod.__name__: continue  # with its class
            obj = getattr(getattr(mod, owner), method) if owner and owner in dir(mod) else getattr(mod, name, None)
            if obj is None: continue
            describe(obj, name, lines, '`````')
            first = (inspect.getdoc(obj) or '').split('\n')[0]
            rows.append((name, '' if first.startswith(f'{name}(') else first))
    text = '\n'.join(lines)
    return re.sub(r'\n{3,}', '\n\n', text) + '\n', rows


def write(path, text):
    "Only when it changed, so that Sphinx redoes only what changed"
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists() or path.read_text(encoding='utf-8') != text: path.write_text(text, encoding='utf-8')
    return path


def copy(a, b):
    b.parent.mkdir(parents=True, exist_ok=True)
    if not b.exists() or a.read_bytes() != b.read_bytes(): shutil.copyfile(a, b)
    return b


def sources():
    "Everything that Sphinx reads"
    nbs = notebooks()
    names, made = Names(nbs), set()
    copy(ROOT/'docs'/'_static'/'colab.svg', SRC/'images'/'colab.svg')
    for nb in nbs:
        made.add(write(SRC/f'{nb.name}.ipynb', json.dumps(page(nb.path, nb.name, nbs, names, nb.module), indent=1)))
    home = page(ROOT/'index.ipynb', 'index', nbs, names)
    home['cells'].append(dict(md(toctrees(nbs)), id='toc'))
    made.add(write(SRC/'index.ipynb', json.dumps(home, indent=1)))
    for f in ('CONTRIBUTING.md', 'CHANGELOG.md'):
        made.add(write(SRC/f.lower(), Markdown(nbs, names, ROOT, f)((ROOT/f).read_text(encoding='utf-8'))))
    lines = ['# API', '', 'Everything the notebooks export, by module. Each name links to its parameters; each module to the notebook '
             'that explains it.', '']
    mods = [nb for nb in nbs if nb.module]
    for nb in mods:
        text, rows = api(nb, nbs, names)
        made.add(write(SRC/'api'/f'{nb.module}.md', text))
        lines += [f'## {{doc}}`{nb.module} </api/{nb.module}>`', '', '| | |', '|---|---|']
        lines += [f'| {names.ref(n) or f"`{n}`"} | {cell_text(doc)} |' for n, doc in rows] + ['']
    lines += ['```{toctree}', ':hidden:', ''] + [nb.module for nb in mods] + ['```', '']
    made.add(write(SRC/'api'/'index.md', '\n'.join(lines)))
    old = [p for ext in ('ipynb', 'md') for p in SRC.rglob(f'*.{ext}') if p not in made]
    for p in old: p.unlink()
    if old: shutil.rmtree(OUT/'html', ignore_errors=True)  # pages that are no more


def mathjax():
    "MathJax from npm into the site, so that equations need no network"
    to = STATIC/'mathjax'
    if (to/MATHJAX).exists(): return
    npm = OUT/'npm'
    npm.mkdir(parents=True, exist_ok=True)
    run = ['npm', 'install', '--silent', '--no-save', '--no-audit', '--no-fund', '--prefix', str(npm), f'mathjax@{MATHJAX}']
    subprocess.run(run, check=True, cwd=npm)
    es5 = npm/'node_modules'/'mathjax'/'es5'
    shutil.rmtree(to, ignore_errors=True)
    copy(es5/'tex-chtml.js', to/'tex-chtml.js')
    shutil.copytree(es5/'output'/'chtml'/'fonts', to/'output'/'chtml'/'fonts')
    (to/MATHJAX).touch()


def main():
    mathjax()
    sources()
    run = [sys.executable, '-m', 'sphinx', '-q', '-W', '--keep-going', '-j', '2', '-c', str(ROOT/'docs'), str(SRC), str(OUT/'html')]
    done = subprocess.run(run)
    print(*PROBLEMS, sep='\n', file=sys.stderr)
    if done.returncode or PROBLEMS: sys.exit(1)
    print(f'{len(list((OUT/"html").rglob("*.html")))} pages: {(OUT/"html"/"index.html").relative_to(ROOT)}')


if __name__ == '__main__': main()
