"""Schedules, conversions and samplers against diffusers' schedulers, step for step, with the same noise."""
from functools import partial
import diffusers, pytest, torch
from t2i_nb.diffusion.guidance import Denoiser
from t2i_nb.diffusion.points import MixtureDenoiser
from t2i_nb.diffusion.objectives import noisify, target
from t2i_nb.diffusion.samplers import sample_ddim, sample_ddpm, sample_euler
from t2i_nb.diffusion.solvers import sample_2m, sample_heun, sample_lms, sample_unipc
from t2i_nb.diffusion.schedules import Schedule, get_schedule

SHAPE = (3,2,4,4)


class Table(Schedule):
    "diffusers' discrete table as a schedule: step i of 1000 stands at t = (i+1)/1000, and t = 0 is the data"
    def __init__(self, alphas_cumprod):
        super().__init__('table')
        self.ab = torch.cat([torch.ones(1), alphas_cumprod]).double()
    def logsnr(self, t): return torch.logit(self.ab[(t*1000).round().long()]).to(t)


def randn(*shape, seed=0): return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)

def problem(prediction, alphas_cumprod):
    "An exact network for data of four blurred points, asking `prediction`, and its denoiser"
    schedule = Table(alphas_cumprod)
    exact = MixtureDenoiser(randn(4, *SHAPE[1:], seed=1), .2, schedule)
    network = lambda xt,t,cond=None: target(*exact(xt, t), t, schedule, prediction)
    return network,Denoiser(network, schedule, prediction)

def grid(timesteps): return torch.cat([(timesteps.double()+1)/1000, torch.zeros(1, dtype=torch.float64)])

NAMES = {'eps':'epsilon', 'x0':'sample', 'v':'v_prediction'}
KW = dict(beta_start=1e-4, beta_end=.02, clip_sample=False)


@pytest.mark.parametrize('prediction', NAMES)
def test_ddpm_is_diffusers(prediction):
    sch = diffusers.DDPMScheduler(**KW, variance_type='fixed_small', prediction_type=NAMES[prediction])
    sch.set_timesteps(25)
    network,denoiser = problem(prediction, sch.alphas_cumprod)
    x = x_T = randn(*SHAPE)
    ts = grid(sch.timesteps)
    g = torch.Generator().manual_seed(7)
    for i,t in enumerate(sch.timesteps): x = sch.step(network(x, ts[i].expand(3)), t, x, generator=g).prev_sample
    g = torch.Generator().manual_seed(7)
    ours = sample_ddpm(denoiser, x_T, ts, noise=lambda i: torch.randn(SHAPE, generator=g, dtype=torch.float64))
    torch.testing.assert_close(ours, x, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize('eta', [0., .5, 1.])
@pytest.mark.parametrize('prediction', NAMES)
def test_ddim_is_diffusers(prediction, eta):
    sch = diffusers.DDIMScheduler(**KW, set_alpha_to_one=True, prediction_type=NAMES[prediction])
    sch.set_timesteps(20)
    network,denoiser = problem(prediction, sch.alphas_cumprod)
    x = x_T = randn(*SHAPE)
    ts,z = grid(sch.timesteps),randn(20, *SHAPE, seed=2)
    for i,t in enumerate(sch.timesteps):
        x = sch.step(network(x, ts[i].expand(3)), t, x, eta=eta, variance_noise=z[i] if eta else None).prev_sample
    ours = sample_ddim(denoiser, x_T, ts, eta=eta, noise=lambda i: z[i])
    torch.testing.assert_close(ours, x, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize('shift', [1., 3.])
def test_euler_is_diffusers_flow_matching(shift):
    sch = diffusers.FlowMatchEulerDiscreteScheduler(shift=shift)
    sch.set_timesteps(15)
    flow = get_schedule('flow')
    exact = MixtureDenoiser(randn(4, *SHAPE[1:], seed=1).float(), .2, flow)
    network = lambda xt,t,cond=None: target(*exact(xt, t), t, flow, 'flow')
    x = x_T = randn(*SHAPE).float()
    for i,t in enumerate(sch.timesteps): x = sch.step(network(x, sch.sigmas[i].expand(3)), t, x).prev_sample
    ours = sample_euler(Denoiser(network, flow, 'flow'), x_T, sch.sigmas)
    torch.testing.assert_close(ours, x, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize('name,beta_schedule,tol', [('linear','linear',2e-3), ('quadratic','scaled_linear',2e-3), ('cosine','squaredcos_cap_v2',5e-4)])
def test_schedules_are_diffusers_tables(name, beta_schedule, tol):
    sch = diffusers.DDPMScheduler(beta_start=1e-4, beta_end=.02, beta_schedule=beta_schedule)
    schedule = get_schedule(name)
    alpha,_ = schedule(schedule.grid(1000).double())
    assert (alpha**2 - sch.alphas_cumprod.double()).abs().max() < tol


def test_noise_and_velocity_are_diffusers():
    sch = diffusers.DDPMScheduler(beta_start=1e-4, beta_end=.02)
    schedule,steps = Table(sch.alphas_cumprod),torch.tensor([0,500,999])
    t,x0,eps = (steps+1)/1000,randn(*SHAPE).float(),randn(*SHAPE, seed=3).float()
    torch.testing.assert_close(noisify(x0, eps, t, schedule), sch.add_noise(x0, eps, steps), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(target(x0, eps, t, schedule, 'v'), sch.get_velocity(x0, eps, steps), atol=1e-5, rtol=1e-5)

# The solvers below are compared on noise levels of diffusers' own choosing, between the levels of its table too. So the exact network is
# asked at the level that the scheduler says it stands at, on a schedule that is defined at every level.

SIGMOID = get_schedule('sigmoid')


def times(sigmas):
    "The times at which sigma/alpha has these values"
    ts = SIGMOID.t(-2*sigmas.double().clamp(min=1e-300).log())
    ts[sigmas == 0] = 0.
    return ts


def walk(scheduler, steps, variance_exploding, ours, pick=lambda s: s, **each):
    "Relative difference of diffusers' last picture and ours, from the same noise"
    scheduler.set_timesteps(steps)
    sigmas = scheduler.sigmas.double()
    exact = MixtureDenoiser(randn(4, *SHAPE[1:], seed=1), .2, SIGMOID)
    start, first = randn(*SHAPE), (1+sigmas[0]**2).sqrt()
    x = start*sigmas[0]/(1 if variance_exploding else first)
    for i,t in enumerate(scheduler.timesteps):
        k = scheduler.step_index or 0
        xt = scheduler.scale_model_input(x, t) if variance_exploding else x
        x = scheduler.step(exact(xt.double(), times(sigmas[k:k+1]).expand(3))[1], t, x, **{n: f(i) for n,f in each.items()}).prev_sample
    y = ours(exact, start*sigmas[0]/first, times(pick(sigmas)))
    return ((x-y).abs().max()/x.abs().max()).item()


Z = randn(64, *SHAPE, seed=5)
BETAS = dict(beta_start=1e-4, beta_end=.02)


@pytest.mark.parametrize('steps', [5, 12])
@pytest.mark.parametrize('name, scheduler, exploding, ours, pick', [
    ('ddim', diffusers.EulerDiscreteScheduler, True, sample_ddim, lambda s: s),
    ('heun', diffusers.HeunDiscreteScheduler, True, partial(sample_heun, path='edm'), lambda s: torch.cat([s[:1], s[1:-1:2], s[-1:]])),
    ('lms', diffusers.LMSDiscreteScheduler, True, sample_lms, lambda s: s),
    ('dpm++2m', partial(diffusers.DPMSolverMultistepScheduler, final_sigmas_type='zero'), False, sample_2m, lambda s: s),
    ('unipc', partial(diffusers.UniPCMultistepScheduler, final_sigmas_type='zero'), False, sample_unipc, lambda s: s)], ids=lambda v: v if isinstance(v, str) else '')
def test_solvers_are_diffusers(name, scheduler, exploding, ours, pick, steps):
    assert walk(scheduler(**BETAS), steps, exploding, ours, pick) < 1e-6


@pytest.mark.parametrize('order', [1, 2])
def test_stochastic_solvers_are_diffusers(order):
    noise = lambda i: Z[i]
    scheduler = diffusers.DPMSolverMultistepScheduler(**BETAS, solver_order=order, final_sigmas_type='zero', algorithm_type='sde-dpmsolver++')
    ours = partial(sample_ddpm, noise=noise) if order == 1 else partial(sample_2m, eta=1., noise=noise)
    assert walk(scheduler, 10, False, ours, variance_noise=noise) < 1e-6


def test_euler_ancestral_is_ddim_with_all_noise_fresh(monkeypatch):
    drawn = iter(Z)
    monkeypatch.setattr('diffusers.schedulers.scheduling_euler_ancestral_discrete.randn_tensor', lambda *args, **kwargs: next(drawn))
    assert walk(diffusers.EulerAncestralDiscreteScheduler(**BETAS), 10, True, partial(sample_ddim, eta=1., noise=lambda i: Z[i])) < 1e-6
