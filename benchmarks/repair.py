"""What going on with spoilt pictures among the others is worth: MODEL is trained on for IMAGES pictures twice, once as usual and once with
--set repair=.6, from the same seed; both, and MODEL as it was, draw CAPTIONS validation captions from the same noise, with and without guidance. Prints JSON.
MODEL is `shapes32-base` or another of its architecture.
python benchmarks/repair.py [MODEL] [IMAGES] [CAPTIONS]"""
import json
import sys

import torch

from t2i_nb.core import default_device
from t2i_nb.data.datasets import get_dataset
from t2i_nb.evaluate.grader import accuracy, grade
from t2i_nb.judge import draw_all
from t2i_nb.train.recipes import get_recipe, recipe_learner, recipe_pipeline

CHANGES = dict(weight='uniform', lr=1e-3, cooldown=1., ema=.995, seed=11)


def right(pipe, n):
    "1 or 0 for each caption, and the accuracy by category"
    captions = get_dataset('shapes', 'valid', level=3, n=n, seed=21, size=pipe.size).captions(range(n))
    graded = grade(draw_all(pipe, captions, 5), captions)
    return torch.tensor([float(v['right']) for v in graded]), {k: round(v['acc'], 3) for k, v in accuracy(graded, captions).items() if v['n']}


def trained(model, images, repair):
    "The model after `images` more pictures: guided as the preset says, and without guidance"
    r = get_recipe('shapes32-repair', start=model, images=max(images, 32), repair=repair, **CHANGES)
    learn = recipe_learner(r, device=default_device())
    if images: learn.fit_images(r.images)
    with learn.evaluating() as m: return [right(recipe_pipeline(get_recipe(r, guidance=g), m), n) for g in (r.guidance, 1.)]


model, images, n = [*sys.argv[1:], *('shapes32-base', 8192, 240)[len(sys.argv)-1:]]
images, n = int(images), int(n)
arms = {name: trained(model, k, share) for name, k, share in (('before', 0, 0.), ('as usual', images, 0.), ('repair', images, .6))}
out = dict(model=model, images=images, captions=n)
for k, way in enumerate(('guided', 'unguided')):
    gain = arms['repair'][k][0]-arms['as usual'][k][0]
    out[way] = {**{name: a[k][1] for name, a in arms.items()}, 'gain': round(gain.mean().item(), 3), 'ci': round(1.96*gain.std().item()/n**.5, 3)}
print(json.dumps(out, indent=1))
