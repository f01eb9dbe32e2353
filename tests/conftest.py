"What the tests share"
import os
import subprocess
import sys

import pytest

os.environ.setdefault('MPLBACKEND', 'agg')
os.environ.setdefault('HF_HUB_OFFLINE', '1')  # no test needs the network


@pytest.fixture
def t2i(tmp_path):
    "The command line as a user meets it: `t2i('sample', ...)` in an empty folder, under the Python that runs the tests"
    def run(*args, timeout=900, cwd=tmp_path, **kwargs):
        main = 'import sys; from t2i_nb.cli import main; sys.argv[0] = "t2i"; sys.exit(main())'
        return subprocess.run([sys.executable, '-c', main, *map(str, args)], cwd=cwd, timeout=timeout, text=True,
                              stdin=subprocess.DEVNULL, capture_output=True, **kwargs)
    return run
