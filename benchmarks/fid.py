"""FID's matrix term at 2,048 features, ours beside torchmetrics' and SciPy's: full rank, and fewer samples than features. All ways in turns after one turn that does not count, medians. Prints JSON

python benchmarks/fid.py"""
import json
import statistics
import time

import numpy as np
import scipy
import scipy.linalg
import torch
import torchmetrics
from torchmetrics.image.fid import _compute_fid

from t2i_nb.core import seeded
from t2i_nb.evaluate.fid import Moments, root_term, root_term_few


def tables(n, d, m):
    "Two clouds with a spectrum like that of Inception's features: a few directions hold most"
    g = seeded('fid benchmark', n)
    mix = torch.linalg.qr(torch.randn(d, d, generator=g, dtype=torch.float64))[0]*torch.logspace(0, -2, d, dtype=torch.float64)
    draw = lambda k, by: torch.randn(k, d, generator=g, dtype=torch.float64)@mix.T*by+.01*torch.randn(k, d, generator=g, dtype=torch.float64)
    return draw(n, 1.), draw(m, 1.1)


def timed(fn):
    t = time.perf_counter()
    v = fn()
    return v, time.perf_counter()-t


def race(x, y, ours, rounds):
    a, b = Moments.of(x), Moments.of(y)
    traces = (a.cov.trace()+b.cov.trace()).item()
    zero = torch.zeros(x.shape[1], dtype=torch.float64)
    ways = {'ours': ours, 'torchmetrics': lambda: (traces-_compute_fid(zero, a.cov, zero, b.cov).item())/2,
            'scipy': lambda: float(np.trace(scipy.linalg.sqrtm(a.cov.numpy()@b.cov.numpy())).real)}
    runs = {k: [] for k in ways}
    for _ in range(1+rounds):
        for k, fn in ways.items(): runs[k].append(timed(fn))
    runs = {k: v[1:] for k, v in runs.items()}  # the first meets cold caches
    value = {k: v[0][0] for k, v in runs.items()}
    ratio = lambda k: round(statistics.median(b[1]/a[1] for a, b in zip(runs['ours'], runs[k])), 1)
    return {'seconds': {k: round(statistics.median(t for _, t in v), 3) for k, v in runs.items()},
            'over_ours': {k: ratio(k) for k in ways if k != 'ours'},
            'relative_difference': {k: float(f'{abs(value[k]/value["ours"]-1):.1e}') for k in ways if k != 'ours'}}


def main(d=2048, rounds=7):
    x, y = tables(4096, d, 4096)
    a, b = Moments.of(x).cov, Moments.of(y).cov
    out = {'full_rank': race(x, y, lambda: root_term(a, b), rounds)}
    x, y = tables(500, d, 500)
    out['500_samples'] = race(x, y, lambda: root_term_few(x, y), rounds)
    out |= {'features': d, 'rounds': rounds, 'threads': torch.get_num_threads(), 'torch': torch.__version__, 'torchmetrics': torchmetrics.__version__, 'scipy': scipy.__version__}
    print(json.dumps(out))


if __name__ == '__main__': main()
