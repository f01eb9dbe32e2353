"""What the bottom in the transformer's end is worth: the demo's recipe is trained for IMAGES pictures twice, from the same encoder that has read,
as it is and as the transformer was before: four more blocks, six heads and one more residual block in the bottom's place. Error of x0 (x 1e4) by noise level on 512
validation scenes, accuracy on CAPTIONS validation captions, pictures per second of processor time. Prints JSON.
python benchmarks/bottom.py [IMAGES] [CAPTIONS]"""
import json
import sys
import time

import torch

from t2i_nb.core import default_device, seeded
from t2i_nb.data.datasets import get_dataset
from t2i_nb.diffusion.objectives import mse_per_sample, noisify
from t2i_nb.diffusion.schedules import get_schedule
from t2i_nb.evaluate.grader import accuracy, grade
from t2i_nb.judge import draw_all
from t2i_nb.train.auxiliary import read
from t2i_nb.train.recipes import NO_BOTTOM, get_recipe, recipe_learner, recipe_pipeline, recipe_reader

TIMES = (.2, .4, .5, .6, .7, .8, .9)


@torch.no_grad()
def errors(model, schedule):
    "Mean-square error of x0 at each time, from the same noise"
    x0, captions = get_dataset('shapes', 'valid', level=2, n=512, seed=99).get_batch(range(512))
    dev = next(model.parameters()).device
    eps, cond = torch.randn(x0.shape, generator=seeded('bottom')), model.encode(captions)
    def at(t):
        ts = torch.full((len(x0),), t)
        return mse_per_sample(model(noisify(x0, eps, ts, schedule).to(dev), ts.to(dev), cond).cpu(), x0).mean().item()
    return {f't={t}': round(1e4*at(t)) for t in TIMES}


def arm(images, n, encoder, **changes):
    "One training and what came of it"
    r = get_recipe('demo', images=images, schedule='flow', repair=0., precision='fp32', restarts=0, **changes)
    learn = recipe_learner(r, device=default_device())
    learn.model.encoder.load_state_dict(encoder)
    start = time.process_time()
    learn.fit_images(r.images)
    out = dict(per_second=round(r.images/(time.process_time()-start), 1))
    captions = get_dataset('shapes', 'valid', level=2, n=n, seed=21).captions(range(n))
    with learn.evaluating() as m:
        out |= errors(m, get_schedule(r.schedule))
        right = grade(draw_all(recipe_pipeline(r, m), captions, 5), captions)
    out['right'] = {k: round(v['acc'], 3) for k, v in accuracy(right, captions).items() if v['n']}
    return out, torch.tensor([float(v['right']) for v in right])


images, n = map(int, [*sys.argv[1:], *('8192', '240')[len(sys.argv)-1:]])
torch.set_num_threads(1)                                                    # so that processor time is training time
reader = get_recipe('demo', images=images, schedule='flow')
encoder = recipe_learner(reader, device=default_device()).model.encoder
read(recipe_reader(reader, encoder, device=default_device()), reader.read)
arms = {name: arm(images, n, encoder.state_dict(), **kw) for name, kw in (('no bottom', NO_BOTTOM), ('bottom', {}))}
gain = arms['bottom'][1]-arms['no bottom'][1]
print(json.dumps(dict(images=images, captions=n, **{k: v[0] for k, v in arms.items()},
                      gain=round(gain.mean().item(), 3), ci=round(1.96*gain.std().item()/n**.5, 3)), indent=1))
