"""What a picture costs: our pipeline at STEPS steps against diffusers' DDIMScheduler at 50, both with classifier-free guidance and the same network, prompts and noise.
diffusers knows variance-preserving tables, so the network is asked at the same log-SNR, its input scaled accordingly. LOWEST is the time below which ours does not guide. Interleaved runs, medians and their ratio. Prints JSON.
python benchmarks/diffusers_ddim.py [MODEL] [SAMPLER] [STEPS] [LOWEST] [RUNS] [PICTURES]"""
import json
import statistics
import sys
import time

import diffusers
import torch

from t2i_nb.core import picture_noise
from t2i_nb.data.datasets import get_dataset
from t2i_nb.diffusion.objectives import to_x0_eps
from t2i_nb.evaluate.grader import grade
from t2i_nb.pipeline import T2IPipeline
from t2i_nb.text.encoders import TextCond


@torch.no_grad()
def by_diffusers(pipe, captions, noise, guidance, steps=50):
    "diffusers' loop, as its pipelines write it"
    scheduler = diffusers.DDIMScheduler(beta_start=1e-4, beta_end=.02, prediction_type='sample', clip_sample=True, timestep_spacing='trailing')
    scheduler.set_timesteps(steps)
    bar, b = scheduler.alphas_cumprod.double(), len(captions)
    cond, x = TextCond.cat([pipe.model.encode(captions), pipe.model.null(b)]), noise
    for step in scheduler.timesteps:
        t = pipe.schedule.t(torch.logit(bar[step]).expand(2*b)).float()
        scale = (pipe.schedule(t[:1])[0]/bar[step].sqrt()).float()
        xt = torch.cat([x, x])*scale
        x0, _ = to_x0_eps(pipe.model(xt, t, cond), xt, t, pipe.schedule, pipe.prediction)
        x = scheduler.step(torch.lerp(x0[b:], x0[:b], guidance), step, x, use_clipped_model_output=True).prev_sample
    return x.clamp(-1, 1)


def main(model='shapes32', sampler='dpm++2m', steps=8, lowest=0., runs=7, pictures=16, guidance=3.):
    pipe = T2IPipeline.from_pretrained(model, 'cpu')
    captions = get_dataset('shapes', 'seen', level=pipe.train.get('level', 3), n=pictures, seed=1).captions(range(pictures))
    noise = picture_noise(0, range(pictures), (3, pipe.size, pipe.size))
    ways = {'ours': lambda: pipe.draw(list(zip(captions, range(pictures))), sampler=sampler, steps=steps, restarts=0, guidance=guidance, interval=(lowest, 1.)),
            'diffusers DDIM 50': lambda: by_diffusers(pipe, captions, noise, guidance)}
    seconds, right = {n: [] for n in ways}, {}
    for n, f in ways.items(): right[n] = sum(v['right'] for v in grade(f(), captions))/pictures   # and warm up
    for _ in range(runs):
        for n, f in ways.items():
            t = time.perf_counter(); f(); seconds[n].append(time.perf_counter()-t)
    med = {n: statistics.median(v) for n, v in seconds.items()}
    print(json.dumps(dict(model=model, sampler=sampler, steps=steps, guidance=guidance, guided_from=lowest, pictures=pictures, runs=runs, threads=torch.get_num_threads(),
        median_seconds={n: round(v, 3) for n, v in med.items()}, spread={n: [round(min(v), 3), round(max(v), 3)] for n, v in seconds.items()},
        right=right, ratio=round(med['diffusers DDIM 50']/med['ours'], 2), torch=torch.__version__, diffusers=diffusers.__version__), indent=1))


if __name__ == '__main__':
    a = sys.argv[1:]
    main(*a[:2], *map(int, a[2:3]), *map(float, a[3:4]), *map(int, a[4:]))
