"""Schedules, conversions and samplers against diffusers' schedulers, step for step, with the same noise."""
from functools import partial
import diffusers, pytest, torch
from t2i_nb.diffusion.guidance import Denoiser, clamp_x0
from t2i_nb.diffusion.points import MixtureDenoiser
from t2i_nb.diffusion.objectives import noisify, target
from t2i_nb.diffusion.samplers import sample_ddim, sample_ddpm, sample_euler, time_grid
from t2i_nb.diffusion.schedules import Schedule, betas, get_schedule
from t2i_nb.diffusion.solvers import sample_2m, sample_2s, sample_heun, sample_lms, sample_unipc

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


def apart(ours, theirs): return ((ours-theirs).abs().max()/theirs.abs().max()).item()


@pytest.mark.parametrize('variance', ['small', 'large'])
@pytest.mark.parametrize('prediction', NAMES)
def test_ddpm_is_diffusers(prediction, variance):
    sch = diffusers.DDPMScheduler(**KW, variance_type=f'fixed_{variance}', prediction_type=NAMES[prediction])
    sch.set_timesteps(25)
    network,denoiser = problem(prediction, sch.alphas_cumprod)
    x = x_T = randn(*SHAPE)
    ts = grid(sch.timesteps)
    g = torch.Generator().manual_seed(7)
    for i,t in enumerate(sch.timesteps): x = sch.step(network(x, ts[i].expand(3)), t, x, generator=g).prev_sample
    g = torch.Generator().manual_seed(7)
    ours = sample_ddpm(denoiser, x_T, ts, variance=variance, noise=lambda i: torch.randn(SHAPE, generator=g, dtype=torch.float64))
    assert apart(ours, x) < 1e-5


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
    assert apart(sample_ddim(denoiser, x_T, ts, eta=eta, noise=lambda i: z[i]), x) < 1e-5


def test_zero_terminal_snr_is_diffusers():
    "Rescaled to end at pure noise, and started there, which only a spacing that trails does"
    sch = diffusers.DDIMScheduler(**KW, rescale_betas_zero_snr=True, timestep_spacing='trailing', prediction_type='v_prediction')
    sch.set_timesteps(20)
    network, denoiser = problem('v', sch.alphas_cumprod)
    x = x_T = randn(*SHAPE)
    ts = grid(sch.timesteps)
    assert denoiser.schedule(ts[:1])[0] < 1e-6 and ts[0] == 1
    for i, t in enumerate(sch.timesteps): x = sch.step(network(x, ts[i].expand(3)), t, x).prev_sample
    assert apart(sample_ddim(denoiser, x_T, ts), x) < 1e-5
    ours, theirs = get_schedule('linear-zero'), sch.alphas_cumprod.double()
    assert (ours(ours.grid(1000))[0]**2-theirs).abs().max() < 2e-3


@pytest.mark.parametrize('percentile', [None, .9, .995])
@pytest.mark.parametrize('prediction', NAMES)
def test_thresholds_are_diffusers(prediction, percentile):
    "Static and dynamic; theirs moves the noise along when asked to"
    kw = dict(clip_sample=True) if percentile is None else dict(clip_sample=False, thresholding=True, dynamic_thresholding_ratio=percentile, sample_max_value=1e6)
    sch = diffusers.DDIMScheduler(**KW | kw, prediction_type=NAMES[prediction])
    sch.set_timesteps(20)
    network, denoiser = problem(prediction, sch.alphas_cumprod)
    x = x_T = randn(*SHAPE)
    ts = grid(sch.timesteps)
    for i, t in enumerate(sch.timesteps): x = sch.step(network(x, ts[i].expand(3)), t, x, use_clipped_model_output=True).prev_sample
    assert apart(sample_ddim(clamp_x0(denoiser, percentile), x_T, ts), x) < 1e-5


@pytest.mark.parametrize('ours, theirs', [('trailing', 'trailing'), ('leading', 'leading'), ('linspace', 'linspace')])
@pytest.mark.parametrize('steps', [1, 4, 20, 50])
def test_spacings_are_diffusers(ours, theirs, steps):
    "Their steps are whole, so a time may differ by one step of a thousand"
    sch = diffusers.DDIMScheduler(**KW, timestep_spacing=theirs)
    sch.set_timesteps(steps)
    ts = time_grid(steps, get_schedule('linear'), ours)
    assert (ts[:-1]-(sch.timesteps+1)/1000).abs().max() < 1.001e-3 or (ours, steps) == ('linspace', 1) # of one step they make t=0


def test_karras_spacing_is_diffusers():
    sch = diffusers.EulerDiscreteScheduler(**{k: KW[k] for k in ('beta_start', 'beta_end')}, use_karras_sigmas=True, sigma_min=.002, sigma_max=80.)
    sch.set_timesteps(12)
    linear = get_schedule('linear')
    ts = time_grid(12, linear, 'karras')
    a, s = linear(ts[1:-1].double())
    assert apart(s/a, sch.sigmas[1:-1].double()) < 1e-4


@pytest.mark.parametrize('shift', [1., 3.])
def test_euler_is_diffusers_flow_matching(shift):
    sch = diffusers.FlowMatchEulerDiscreteScheduler(shift=shift)
    sch.set_timesteps(15)
    flow = get_schedule('flow')
    exact = MixtureDenoiser(randn(4, *SHAPE[1:], seed=1).float(), .2, flow)
    network = lambda xt,t,cond=None: target(*exact(xt, t), t, flow, 'flow')
    x = x_T = randn(*SHAPE).float()
    for i,t in enumerate(sch.timesteps): x = sch.step(network(x, sch.sigmas[i].expand(3)), t, x).prev_sample
    assert apart(sample_euler(Denoiser(network, flow, 'flow'), x_T, sch.sigmas), x) < 1e-5


def test_heun_is_diffusers_flow_matching():
    sch = diffusers.FlowMatchHeunDiscreteScheduler(shift=3.)
    sch.set_timesteps(10)
    flow = get_schedule('flow')
    exact = MixtureDenoiser(randn(4, *SHAPE[1:], seed=1).float(), .2, flow)
    x = x_T = randn(*SHAPE).float()
    for t in sch.timesteps:
        k = sch.step_index if sch.step_index is not None else 0
        x = sch.step(target(*exact(x, sch.sigmas[k].expand(3)), sch.sigmas[k].expand(3), flow, 'flow'), t, x).prev_sample
    assert apart(sample_heun(exact, x_T, torch.cat([sch.sigmas[:1], sch.sigmas[1:-1:2], sch.sigmas[-1:]])), x) < 1e-5


@pytest.mark.parametrize('name,beta_schedule,tol', [('linear','linear',2e-3), ('quadratic','scaled_linear',2e-3), ('scaled-linear','scaled_linear',2e-3), ('cosine','squaredcos_cap_v2',5e-4)])
def test_schedules_are_diffusers_tables(name, beta_schedule, tol):
    ends = dict(beta_start=.00085, beta_end=.012) if name=='scaled-linear' else dict(beta_start=1e-4, beta_end=.02)
    sch = diffusers.DDPMScheduler(**ends, beta_schedule=beta_schedule)
    schedule = get_schedule(name)
    alpha,_ = schedule(schedule.grid(1000))
    assert (alpha**2 - sch.alphas_cumprod.double()).abs().max() < tol
    if name!='cosine': assert (betas(schedule, 1000) - sch.betas.double()).abs().max() < 1e-3


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


def walk(scheduler, steps, variance_exploding, ours, pick=lambda s: s, prediction='eps', **each):
    "Relative difference of diffusers' last picture and ours, from the same noise"
    scheduler.set_timesteps(steps)
    sigmas = scheduler.sigmas.double()
    exact = MixtureDenoiser(randn(4, *SHAPE[1:], seed=1), .2, SIGMOID)
    start, first = randn(*SHAPE), (1+sigmas[0]**2).sqrt()
    x = start*sigmas[0]/(1 if variance_exploding else first)
    for i,t in enumerate(scheduler.timesteps):
        k = scheduler.step_index or 0
        xt = scheduler.scale_model_input(x, t) if variance_exploding else x
        now = times(sigmas[k:k+1]).expand(3)
        answer = target(*exact(xt.double(), now), now, SIGMOID, prediction)
        x = scheduler.step(answer, t, x, **{n: f(i) for n,f in each.items()}).prev_sample
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
@pytest.mark.parametrize('prediction', NAMES)
def test_solvers_are_diffusers(prediction, name, scheduler, exploding, ours, pick, steps):
    if (name, prediction) == ('heun', 'x0'): pytest.skip('diffusers: "prediction_type not implemented yet: sample"')
    assert walk(scheduler(**BETAS, prediction_type=NAMES[prediction]), steps, exploding, ours, pick, prediction) < 1e-6


@pytest.mark.parametrize('eta', [0., 1.])
def test_two_answers_a_step_are_diffusers(eta, monkeypatch):
    "Their singlestep solver of order 2, on levels even in log-SNR, whose middles then are ours"
    kind = 'sde-dpmsolver++' if eta else 'dpmsolver++'
    scheduler = diffusers.DPMSolverSinglestepScheduler(**BETAS, solver_order=2, lower_order_final=True, final_sigmas_type='zero', algorithm_type=kind, use_exponential_sigmas=True)
    drawn = iter(Z)
    monkeypatch.setattr('diffusers.schedulers.scheduling_dpmsolver_singlestep.randn_tensor', lambda *args, **kwargs: next(drawn))
    ours = partial(sample_2s, eta=eta, noise=lambda step: Z[int(2*step)-1 if step % 1 else 2*step+1]) # halves come first
    assert walk(scheduler, 11, False, ours, lambda s: torch.cat([s[:11:2], s[-1:]])) < 1e-6



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
