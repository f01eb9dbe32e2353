"The built site in a browser: `make docs` first. Needs Debian's chromium and chromium-driver (or any Chromium with its driver on PATH)"
import functools
import http.server
import json
import re
import shutil
import threading
import time
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urldefrag, urlparse

import pytest

ROOT = Path(__file__).resolve().parent.parent
SITE = ROOT/'docs'/'_build'/'html'
PAGES = sorted(p for p in (q.relative_to(SITE).as_posix() for q in SITE.rglob('*.html')) if not p.startswith('_'))
CHROME = shutil.which('chromium') or shutil.which('chromium-browser') or shutil.which('google-chrome')
DRIVER = shutil.which('chromedriver')

built = pytest.mark.skipif(not (SITE/'index.html').exists(), reason='the site is not built: run `make docs` first')
browsable = pytest.mark.skipif(not (CHROME and DRIVER),
                               reason='no Chromium with its driver here: apt-get install chromium chromium-driver')


class Page(HTMLParser):
    "What a page offers (ids) and what it needs (links and files)"
    def __init__(self, path):
        super().__init__()
        self.ids, self.links, self.files = set(), [], []
        self.feed((SITE/path).read_text(encoding='utf-8'))

    def handle_starttag(self, tag, attrs):
        a = dict(attrs)
        self.ids |= {a.get('id'), a.get('name')}
        if tag == 'a' and a.get('href'): self.links.append(a['href'])
        if tag in ('img', 'script', 'source', 'iframe') and a.get('src'): self.files.append(a['src'])
        if tag == 'link' and a.get('href') and 'canonical' not in a.get('rel', ''): self.files.append(a['href'])


@pytest.fixture(scope='module')
def parsed(): return {p: Page(p) for p in PAGES}


@pytest.fixture(scope='module')
def server():
    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args): pass
    s = http.server.ThreadingHTTPServer(('127.0.0.1', 0), functools.partial(Quiet, directory=str(SITE)))
    threading.Thread(target=s.serve_forever, daemon=True).start()
    yield f'http://127.0.0.1:{s.server_port}'
    s.shutdown()


@pytest.fixture(scope='module')
def browser(tmp_path_factory):
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service
    o = webdriver.ChromeOptions()
    o.binary_location = CHROME
    flags = ('headless no-sandbox disable-gpu disable-dev-shm-usage disable-quic no-first-run disable-background-networking '
             'disable-component-update disable-sync window-size=1300,1000')
    for a in flags.split(): o.add_argument(f'--{a}')
    o.add_argument(f'--user-data-dir={tmp_path_factory.mktemp("chromium")}')
    o.set_capability('goog:loggingPrefs', {'browser': 'ALL'})
    d = webdriver.Chrome(options=o, service=Service(DRIVER))
    yield d
    d.quit()


def until(f, seconds=20):
    "The first true answer of `f`, asked again and again"
    end = time.time() + seconds
    while not (v := f()) and time.time() < end: time.sleep(.1)
    return v


def target(page, url):
    "Where an internal link goes: file below the site, and anchor"
    path, anchor = urldefrag(url)
    file = (SITE/page).parent/unquote(path) if path else SITE/page
    return (file/'index.html' if file.is_dir() else file).resolve(), anchor


@built
def test_every_notebook_has_its_page():
    for nb in sorted((ROOT/'nbs').glob('[0-9][0-9]_*.ipynb')):
        page = SITE/f'{nb.stem[3:].lower()}.html'
        assert page.exists(), f'{nb.name} has no page: run `make docs` again'
        html = page.read_text(encoding='utf-8')
        assert f'/nbs/{nb.name}' in html and 'colab.research.google.com' in html, f'{page.name}: no Colab badge'
        cells = [c for c in json.loads(nb.read_text(encoding='utf-8'))['cells'] if '#| hide' not in ''.join(c['source'])]
        figures = sum('image/png' in o.get('data', {}) for c in cells for o in c.get('outputs', []))
        shown = len(re.findall(r'<img[^>]*src="_images/[0-9a-f]{20,}\.png"', html))
        assert shown >= figures, f'{page.name} shows {shown} of {figures} figures'


@built
def test_no_broken_internal_link(parsed):
    bad = []
    for p, page in parsed.items():
        for url in page.links:
            if urlparse(url).scheme or url.startswith('//'): continue
            file, anchor = target(p, url)
            if not file.exists(): bad.append(f'{p}: {url}')
            elif anchor and file.suffix == '.html':
                ids = parsed[file.relative_to(SITE).as_posix()].ids
                if unquote(anchor) not in ids: bad.append(f'{p}: {url} (no such anchor)')
    assert not bad, '\n'.join(bad[:20])


@built
def test_pages_need_no_network(parsed):
    bad = []
    for p, page in parsed.items():
        for url in page.files:
            if url.startswith('data:'): continue
            if urlparse(url).netloc: bad.append(f'{p}: loads {url}')
            elif not target(p, url.split('?')[0])[0].exists(): bad.append(f'{p}: {url} is not there')
    assert not bad, '\n'.join(bad[:20])


@built
@browsable
def test_every_page_loads(browser, server):
    bad = []
    for p in PAGES:
        browser.get(f'{server}/{p}')
        until(lambda: browser.execute_script('return document.readyState') == 'complete')
        maths = browser.execute_script("return document.querySelectorAll('.math').length")
        drawn = "return document.querySelectorAll('.math mjx-container').length"
        if not until(lambda: browser.execute_script(drawn) >= maths):
            bad.append(f'{p}: {browser.execute_script(drawn)} of {maths} equations are drawn')
        if browser.execute_script("return document.querySelectorAll('mjx-merror').length"): bad.append(f'{p}: an equation in error')
        lost = browser.execute_script("return [...document.images].filter(i => i.loading!='lazy' && !(i.complete && i.naturalWidth))"
                                      ".map(i => i.src)")
        bad += [f'{p}: picture {s} is not shown' for s in lost]
        bad += [f"{p}: console: {e['message']}" for e in browser.get_log('browser') if e['level'] == 'SEVERE']
    assert not bad, '\n'.join(bad[:20])


@built
@browsable
@pytest.mark.parametrize('query,page', [('sample_ddim', 'diffusion.samplers'), ('guidance', 'diffusion.guidance')])
def test_search_finds(browser, server, query, page):
    browser.get(f'{server}/search.html?q={query}')
    hrefs = "return [...document.querySelectorAll('#search-results li a')].map(a => a.getAttribute('href'))"
    found = until(lambda: [h for h in browser.execute_script(hrefs) if page in h])
    assert found, f'{query}: {browser.execute_script(hrefs)[:10]}'


@built
@browsable
def test_dark_mode(browser, server):
    def ground(): return browser.execute_script('return getComputedStyle(document.body).backgroundColor')
    seen = {}
    for theme in ('light', 'dark'):
        browser.get(f'{server}/index.html')
        browser.execute_script(f"localStorage.setItem('mode','{theme}'); localStorage.setItem('theme','{theme}')")
        browser.get(f'{server}/index.html')
        seen[theme] = until(ground)
    browser.execute_script('localStorage.clear()')
    assert seen['light'] != seen['dark'], seen
