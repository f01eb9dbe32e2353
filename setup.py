"Reads everything about the package from settings.ini"
from configparser import ConfigParser
from pathlib import Path

from setuptools import find_packages, setup

root = Path(__file__).parent
parser = ConfigParser(delimiters=['='])
parser.read(root/'settings.ini', encoding='utf-8')
cfg = parser['DEFAULT']
lib = cfg['lib_name']

# `requirements` is the package; `NAME_requirements` is the extra called NAME (`_` in it reads `-`)
end = '_requirements'
extras = {k.removesuffix(end).replace('_', '-'): v.split() for k, v in cfg.items() if k.endswith(end)}
# pretrained/ stands beside the package in the checkout and inside it once installed
packages = find_packages(include=[lib, f'{lib}.*']) + [f'{lib}.pretrained']

setup(
    name=lib, version=cfg['version'], description=cfg['description'], keywords=cfg['keywords'].split(),
    license='Apache-2.0', license_files=['LICENSE'],
    author=cfg['author'], author_email=cfg['author_email'], url=f"https://github.com/{cfg['user']}/{cfg['repo']}",
    long_description=(root/'README.md').read_text(encoding='utf-8') if (root/'README.md').exists() else '',
    long_description_content_type='text/markdown',
    classifiers=['Development Status :: 3 - Alpha', 'Intended Audience :: Developers',
                 'Programming Language :: Python :: 3'],
    packages=packages,
    package_dir={f'{lib}.pretrained': 'pretrained'},
    package_data={f'{lib}.pretrained': ['README.md', *(f'{d}/{f}' for d in ('*', 'extractors/*') for f in ('*.json', 'model.safetensors', 'README.md'))]},
    install_requires=cfg['requirements'].split(), extras_require=extras,
    python_requires='>=' + cfg['min_python'],
    entry_points={'console_scripts': cfg['console_scripts'].split(), 'nbdev': [f'{lib}={lib}._modidx:d']},
    zip_safe=False)
