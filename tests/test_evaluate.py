"Scores against the libraries that others use, on the same features; and `t2i fid` as a user meets it"
import json
import os

import numpy as np
import pytest
import torch

from t2i_nb.core import save_picture
from t2i_nb.data.sources import get_dataset
from t2i_nb.evaluate.distances import kid, kid_subsets, prdc
from t2i_nb.evaluate.features import get_extractor
from t2i_nb.evaluate.fid import fid
from t2i_nb.evaluate.measure import set_metric

D = 24


def table(n, seed, d=D, by=1., shift=0.):
    g = torch.Generator().manual_seed(seed)
    return torch.randn(n, d, generator=g, dtype=torch.float64)*torch.logspace(0, -1, d, dtype=torch.float64)*by+shift


TABLES = {
    'many rows': (table(300, 0), table(200, 1, by=1.2, shift=.1)), 'few of one': (table(12, 2), table(200, 3)), 'few of both': (table(10, 4), table(12, 5)),
    'two rows': (table(2, 6), table(2, 7)), 'tiny numbers': (table(100, 8)*1e-6, table(100, 9)*1e-6), 'large numbers': (table(100, 10)*1e6, table(100, 11)*1e6),
    'rank deficient': (table(100, 12)[:, torch.arange(D)//2], table(100, 13)[:, torch.arange(D)//2]),
    'a constant feature': (torch.cat([table(100, 14, D-1), torch.ones(100, 1)], 1), torch.cat([table(100, 15, D-1), torch.ones(100, 1)], 1)),
    'wide': (table(30, 16, 300), table(40, 17, 300))}


def close(a, b, scale=0., rel=1e-6): assert abs(a-b) <= rel*max(abs(b), scale), (a, b)


@pytest.mark.parametrize('kind', TABLES)
def test_fid_is_that_of_torchmetrics_and_torch_fidelity(kind):
    from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric
    from torchmetrics.image.fid import _compute_fid
    x, y = TABLES[kind]
    # Theirs take roots of the eigenvalues of a product that is singular here: what should be 0 is 1e-8 of the largest
    rel = 1e-6 if min(len(x), len(y)) > x.shape[1] and kind not in ('rank deficient', 'a constant feature') else 1e-5
    theirs = _compute_fid(x.mean(0), torch.cov(x.T), y.mean(0), torch.cov(y.T)).item()
    close(fid(x, y), theirs, rel=rel)
    stats = [fid_features_to_statistics(v) for v in (x, y)]
    close(fid(x, y), float(list(fid_statistics_to_metric(*stats, False).values())[0]), rel=rel)


@pytest.mark.parametrize('kind', TABLES)
def test_fid_is_the_definition_in_twice_the_digits(kind):
    "Square roots of symmetric matrices in 40 digits: here there is no excuse for singular ones"
    mpmath = pytest.importorskip('mpmath')
    x, y = (v[:, :D] for v in TABLES[kind])  # slow: no more columns than these
    if kind == 'wide': x, y = x[:10], y[:12]
    with mpmath.workdps(40):
        def moments(v):
            m = mpmath.matrix(v.tolist())
            mean = [mpmath.fsum(m[i, j] for i in range(m.rows))/m.rows for j in range(m.cols)]
            c = mpmath.matrix(m.rows, m.cols)
            for i in range(m.rows):
                for j in range(m.cols): c[i, j] = m[i, j]-mean[j]
            return mean, c
        (ma, ca), (mb, cb) = moments(x), moments(y)
        a, b = ca.T*ca/(ca.rows-1), cb.T*cb/(cb.rows-1)
        w, q = mpmath.eigsy(a)
        root = q*mpmath.diag([mpmath.sqrt(max(v, 0)) for v in w])*q.T
        w = mpmath.eigsy(root*b*root, eigvals_only=True)
        trace = lambda m: mpmath.fsum(m[i, i] for i in range(m.rows))
        true = mpmath.fsum((p-q)**2 for p, q in zip(ma, mb))+trace(a)+trace(b)-2*mpmath.fsum(mpmath.sqrt(max(v, 0)) for v in w)
    close(fid(x, y), float(true))


@pytest.mark.parametrize('kind', TABLES)
def test_kid_is_that_of_torchmetrics_and_torch_fidelity(kind):
    from torch_fidelity.metric_kid import kid_features_to_metric
    from torchmetrics.image.kid import poly_mmd
    x, y = TABLES[kind]
    size = (1+x.square().mean().item())**3  # of the kernel: what the terms of the difference are made of
    n = min(len(x), len(y))  # theirs is for as many of both
    close(kid(x[:n], y[:n]), poly_mmd(y[:n], x[:n]).item(), size)
    theirs = kid_features_to_metric(x[:n], y[:n], kid_subsets=1, kid_subset_size=n, kid_degree=3, kid_gamma=None, kid_coef0=1, rng_seed=0, verbose=False, kid_kernel='poly')
    close(kid_subsets(x[:n], y[:n], 1, n)[0], theirs['kernel_inception_distance_mean'], size)


@pytest.mark.parametrize('kind', TABLES)
def test_kid_is_the_definition_in_twice_the_digits(kind):
    "Pair by pair. Of tiny numbers the kernel is 1 and some 1e-13, and that is what counts"
    mpmath = pytest.importorskip('mpmath')
    x, y = (v[:20] for v in TABLES[kind])
    with mpmath.workdps(60):
        rows = lambda v: [mpmath.matrix(r) for r in v.tolist()]
        k = lambda a, b: ((a.T*b)[0]/len(a)+1)**3
        mean = lambda u, v: mpmath.fsum(k(a, b) for i, a in enumerate(u) for j, b in enumerate(v) if u is not v or i != j)/(len(u)*(len(v)-(u is v)))
        u, v = rows(x), rows(y)
        true = mean(u, u)+mean(v, v)-2*mean(u, v)
    close(kid(x, y), float(true))


@pytest.mark.parametrize('kind', ['many rows', 'few of one', 'wide', 'rank deficient'])
def test_precision_and_recall_are_those_of_torch_fidelity(kind):
    from torch_fidelity.metric_prc import prc_features_to_metric
    x, y = TABLES[kind]
    theirs = prc_features_to_metric(x, y, prc_neighborhood=3, prc_batch_size=10_000, save_cpu_ram=False, verbose=False)
    ours = prdc(x, y, 3)
    close(ours[0].item(), float(theirs['precision'])); close(ours[1].item(), float(theirs['recall']))


def test_the_metric_is_that_of_torchmetrics():
    "The same extractor in both; ours takes [-1,1] and theirs bytes or [0,1], so theirs gets a door of its own"
    from torchmetrics.image.fid import FrechetInceptionDistance
    who = get_extractor('shapes', device='cpu')

    class Door(torch.nn.Module):
        num_features = 64
        def forward(self, x): return who(x)
    theirs, ours, ds = FrechetInceptionDistance(Door(), normalize=False), set_metric(who), get_dataset('shapes', 'seen', n=400)
    for i in range(0, 400, 50):
        x, real = ds.pictures(range(i, i+50)), i >= 200
        theirs.update(x, real=real); ours.update(x, real=real)
    close(ours.compute().item(), theirs.compute().double().item(), rel=1e-4)  # theirs ends in float32, of sums that are


def gathered(rank, path, out):
    "One of two processes: its half of the pictures, and what it computes of all"
    torch.distributed.init_process_group('gloo', init_method=f'file://{path}', rank=rank, world_size=2)
    try:
        metric, ds = set_metric(get_extractor('shapes', device='cpu'), 'kid'), get_dataset('shapes', 'seen', n=120)
        for real in (False, True): metric.update(ds.pictures(range(60*real+rank, 60*real+60, 2)), real=real)
        if rank: torch.save(metric.compute(), out)
        else: metric.compute()
    finally: torch.distributed.destroy_process_group()


def test_set_metric_counts_the_pictures_of_all_processes(tmp_path):
    import torch.multiprocessing as mp
    mp.spawn(gathered, (str(tmp_path/'meet'), str(tmp_path/'out.pt')), nprocs=2)
    who, ds = get_extractor('shapes', device='cpu'), get_dataset('shapes', 'seen', n=120)
    close(torch.load(tmp_path/'out.pt', weights_only=True).item(), kid(who(ds.pictures(range(60))), who(ds.pictures(range(60, 120)))), scale=1e-3)


# ---- the command ----
def folder(path, n, size=32, start=0):
    for i, x in enumerate(get_dataset('shapes', 'seen', n=start+n, size=size).pictures(range(start, start+n))): save_picture(x, path/f'{i}.png')
    return path


def files(path): return sorted(p.name for p in path.rglob('*') if p.is_file())


def test_two_folders(t2i, tmp_path):
    a, b = folder(tmp_path/'a', 60), folder(tmp_path/'b', 80, start=60)
    env = {**os.environ, 'T2I_CACHE': str(tmp_path/'cache')}
    run = t2i('fid', a, b, '--extractor', 'shapes', '--json', '-', env=env)
    assert run.returncode == 0 and run.stderr == '', run
    d = json.loads(run.stdout)
    assert d['fid']['n'] == 60 and d['fid']['n_real'] == 80 and d['fid']['ci'][0] < d['fid']['value'] and d['fid']['floor'] is None and d['sliced']['floor'] > 0  # too few for a floor of FID
    assert len(d['kid']['exchanged']) == 99 and 0 < d['kid']['p'] <= 1 and d['fid']['endless'] is None and d['cmmd']['endless'][0] < d['cmmd']['value'] and d['sliced']['endless'] is None
    assert len(files(tmp_path/'cache')) == 1  # real features, and nothing of the samples
    run = t2i('fid', a, b, '--extractor', 'shapes', '--measures', 'kid', '--json', 'kid.json', env=env)
    assert run.returncode == 0 and 'kid' in run.stdout and 'fid' not in run.stdout, run
    assert json.loads((tmp_path/'kid.json').read_text())['kid']['value'] == d['kid']['value']
    same = json.loads(t2i('fid', a, a, '--extractor', 'shapes', '--json', '-', env=env).stdout)
    assert same['fid']['value'] < 1e-6*d['fid']['value'] and same['precision']['value'] == 1


def test_bad_folders_are_one_line_and_leave_nothing(t2i, tmp_path):
    a, one, other, mixed, broken = (folder(tmp_path/k, n, size) for k, n, size in (('a', 20, 32), ('one', 1, 32), ('other', 5, 16), ('mixed', 5, 32), ('broken', 5, 32)))
    folder(mixed/'more', 2, 48)
    (broken/'3.png').write_bytes((broken/'3.png').read_bytes()[:60])
    (tmp_path/'none').mkdir()
    env = {**os.environ, 'T2I_CACHE': str(tmp_path/'cache'), 'TORCH_HOME': str(tmp_path/'torch')}
    for args, word in (((a, 'nowhere'), 'no folder'), ((a, tmp_path/'none'), 'no picture'), ((a, one), 'two at least'), ((a, other), '16x16'), ((a, mixed), 'different sizes'), ((a, broken), '3.png'),
                       ((a, a, '--extractor', 'vgg'), 'no extractor'), ((a, a, '--extractor', 'inception', '--source', 'w.pth'), 'no file'), ((a, a, '--extractor', 'dinov2', '--source', a), 'it lacks'),
                       ((a, a, '--measures', 'is'), 'invalid choice'), ((a, a, '--extractor', 'shapes', '--json', tmp_path), 'is a folder'), ((a, a, '--extractor', 'shapes', '--source', a), 'needs none')):
        run = t2i('fid', *([] if '--extractor' in args else ['--extractor', 'shapes']), *args, env=env)
        assert run.returncode == 2 and run.stdout == '' and run.stderr.count('\n') == 1 and word in run.stderr, (args, run)
    assert files(tmp_path/'cache') == []
    run = t2i('fid', other, other, '--extractor', 'shapes', '--measures', 'prdc', env=env)  # whole features may be kept, a score may not
    assert run.returncode == 2 and run.stdout == '' and 'too few' in run.stderr, run


def test_odd_folders_and_odd_extractors(t2i, tmp_path):
    a, b, pipe, odd = folder(tmp_path/'a', 9), folder(tmp_path/'b', 9, start=20), tmp_path/'pipe', tmp_path/'odd'
    for d in (pipe, odd): d.mkdir()
    folder(pipe, 3); os.mkfifo(pipe/'p.png')
    for words in ('{"words": 3}', '["words"]', '3'):
        (odd/'config.json').write_text(words)
        run = t2i('fid', a, b, '--extractor', odd)
        assert run.returncode == 2 and 'no extractor' in run.stderr and len(run.stderr.splitlines()) == 1, run
    run = t2i('fid', pipe, b, '--extractor', 'shapes')
    assert run.returncode == 2 and 'is no file' in run.stderr, run
    d = json.loads(t2i('fid', a, b, '--extractor', 'shapes', '--measures', 'kid', 'kid', '--json', '-').stdout)
    assert list(d) == ['kid'] and 0 < d['kid']['p'] <= 1
    few = t2i('fid', folder(tmp_path/'few', 5), folder(tmp_path/'few2', 5, start=9), '--extractor', 'shapes')
    assert few.returncode == 0 and few.stdout.count('too few to tell') == 4, few  # and no precision of five


def test_extractors_do_not_mix(tmp_path):
    from t2i_nb.core import UserError
    from t2i_nb.evaluate.measure import measure, measure_pictures
    from t2i_nb.evaluate.scores import difference
    x, y = get_dataset('shapes', 'seen', n=60).pictures(range(60)), get_dataset('shapes', 'seen', n=120).pictures(range(60, 120))
    a, b = (measure_pictures(x, y, get_extractor(k, device='cpu'), ['fid'])['fid'] for k in ('shapes', 'digits'))
    with pytest.raises(UserError, match='extractor'): difference(a, b)
    with pytest.raises(UserError, match='different extractors'): measure(torch.randn(9, 4), torch.randn(9, 5), ['fid'])
    with pytest.raises(UserError, match='NaN'): measure(torch.full((9, 4), np.nan), torch.randn(9, 4), ['fid'])


def test_the_best_of_eight(t2i, tmp_path):
    "Chosen by the grader: never worse than the first, in order, and the same again"
    from PIL import Image
    from t2i_nb.core import from_pil
    from t2i_nb.rank import grader_scorer
    prompt = 'a small green star to the left of a large orange ring'
    draw = ['sample', 'shapes32-base', prompt, '--steps', 4, '--guidance', 1]
    run = t2i(*draw, '--best-of', 8, '--n', 4, '--scorer', 'grader', '--out', 'best.png')
    assert run.returncode == 0, run
    assert t2i(*draw, '--n', 8, '--out', 'all.png').returncode == 0
    score = lambda f: grader_scorer(torch.stack([from_pil(Image.open(p)) for p in sorted((tmp_path/f).glob('*.png'))]), [prompt]*len(list((tmp_path/f).glob('*.png'))))
    best, every = score('best'), score('all')
    assert len(best) == 4 and best.tolist() == every.sort(descending=True).values[:4].tolist()
    for args, word in ((('--best-of', 2, '--n', 4), '--best-of 2'), (('--best-of', 2, '--scorer', 'taste'), 'no scorer'), (('--best-of', 2, '--scorer', 'digits'), 'names no digit'), (('--best-of', 2, '--scorer', 'clip', '--source', tmp_path), 'it lacks'), (('--scorer', 'grader'), '--best-of'), (('--best-of', 2, '--source', 'x'), 'clip')):
        run = t2i(*draw, *args, '--out', 'x.png')
        assert run.returncode == 2 and run.stderr.count('\n') == 1 and word in run.stderr, (args, run)
    assert not (tmp_path/'x.png').exists()
