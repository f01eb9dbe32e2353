"The same code on a GPU: the same pictures, the same batches, training in each precision, a resumed run. Skipped where PyTorch sees none"
import json
import shutil

import pytest
import torch

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


def losses(kind, steps, *without):
    "The losses of a short training, without the callbacks of these names"
    from t2i_nb.train.diffusion import TrainCB
    from t2i_nb.train.recipes import get_recipe, recipe_learner

    class LossesCB(TrainCB):
        order, run_valid = 80, False
        def after_batch(self): seen.append(self.learn.loss.item())

    seen, r = [], get_recipe('shapes32', images=64*steps, batch=64, precision=kind, warmup=0, read=0)
    learn = recipe_learner(r, [LossesCB()], 'cuda')
    learn.remove_cbs([cb for cb in learn.cbs if cb.name in without])
    learn.fit_images(64*steps)
    assert next(learn.model.parameters()).is_cuda and 'forward' not in vars(learn.model.net)
    return torch.tensor(seen)


@pytest.mark.parametrize('kind', ['fp32', 'bf16', 'fp16'])
def test_it_learns_in_each_precision(kind):
    seen = losses(kind, 60)
    assert seen[-10:].mean() < .7*seen[:10].mean(), seen


def test_a_recorded_step_does_what_the_step_did():
    a, b = losses('fp32', 12), losses('fp32', 12, 'graph')
    assert len(a) == 12 and torch.allclose(a, b, rtol=.02), (a, b)


def test_a_run_goes_on_from_its_checkpoint(t2i, tmp_path):
    sets = ['--device', 'cuda', '--n', 12, '--set', 'steps=3', '--set', 'sample_every=4096']
    p = t2i('train', 'shapes-tiny', '--images', 8192, '--out', 'run', *sets)
    assert p.returncode == 0, p.stderr
    run = tmp_path/'run'
    for f in ('model', 'checkpoints/00008192', 'metrics.json', 'report.html'): shutil.rmtree(run/f) if (run/f).is_dir() else (run/f).unlink()
    p = t2i('train', '--resume', '--out', 'run', '--device', 'cuda', '--n', 12)
    assert p.returncode == 0, p.stderr
    assert json.loads((run/'metrics.json').read_text())['train']['images'] == 8192
    assert t2i('sample', 'run', 'a red circle', '--device', 'cuda', '--out', 'x.png').returncode == 0
