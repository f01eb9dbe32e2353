"""A training that was stopped, however rudely, goes on bit for bit. Run as a script this file is the training that gets killed."""
import os, random, resource, signal, subprocess, sys, time, warnings
from pathlib import Path

import numpy as np, pytest, torch
from fastai.callback.core import Callback
from torch import nn

from t2i_nb.core import UserError, seeded
from t2i_nb.data.loaders import get_dls
from t2i_nb.models.unet import UNet
from t2i_nb.text.encoders import WordsEncoder
from t2i_nb.train.checkpoint import (CheckpointCB, checkpoints, newest_readable, pack, read_checkpoint, resume, state_of,
                                     write_checkpoint)
from t2i_nb.train.diffusion import diffusion_learner
from t2i_nb.train.optimise import AccumulateCB, ClipCB, EMACB, GuardCB, LRScheduleCB

TOTAL,BS,N = 304,8,100 # 38 batches, 12 a pass


class Data:
    def __init__(self, n, seed): self.x,self.c = torch.rand(n, 3, 8, 8, generator=seeded('data', seed))*2-1, ['a ring','two stars']
    def __len__(self): return len(self.x)
    def __getitem__(self, i): return self.x[i],self.c[i%2]
    def get_batch(self, idxs, epoch=0): return self.x[idxs],[self.c[i%2] for i in idxs]


class Model(nn.Module):
    "Has dropout, so that the global random stream matters"
    def __init__(self, width=8):
        super().__init__()
        self.width,self.drop = width,nn.Dropout(.1)
        self.encoder = WordsEncoder(['a','ring','two','stars'], d=16, depth=1, nh=2)
        self.unet = UNet(16, channels=(width,16), blocks=1, patch=1, nh=2)
    def forward(self, xt, t, cond): return self.drop(self.unet(xt, t, cond))
    def encode(self, captions): return self.encoder(captions)
    def null(self, b): return self.encoder.null(b)
    def config(self): return {'width':self.width, 'encoder':self.encoder.config()}


def learner(k=1, cbs=(), width=8, n=N, channels_last=False, lr=2e-3):
    random.seed(0); np.random.seed(0); torch.manual_seed(0)
    model = Model(width)
    if channels_last: model = model.to(memory_format=torch.channels_last)
    dls = get_dls(Data(n, 0), Data(20, 1), bs=BS, device='cpu')
    return diffusion_learner(dls, model, lr=lr, cbs=[AccumulateCB(k), EMACB(.99), ClipCB(), GuardCB(), LRScheduleCB(warmup=40), *cbs])


class Stop(Callback):
    "Ends a training without a word, as a power cut would, as far as the learner can tell"
    order = 100
    def __init__(self, at): self.at = at
    def after_batch(self):
        if self.training and self.images_seen>=self.at: raise RuntimeError('power cut')


class Slow(Callback):
    order = 97
    def after_batch(self): time.sleep(.05)


def same(a, b):
    "Two trainings have the same state to the last bit"
    ta,tb = {},{}
    a,b = pack(a, ta),pack(b, tb)
    assert a==b
    assert ta.keys()==tb.keys()
    for k in ta: assert torch.equal(ta[k], tb[k]), k


@pytest.fixture(autouse=True)
def one_thread():
    n = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(n)


@pytest.mark.parametrize('k,stop,channels_last', [(1,120,False), (1,96,False), (3,112,False), (3,112,True)])
def test_n_plus_n(tmp_path, k, stop, channels_last):
    "Mid-pass, at the end of a pass, and in the middle of an accumulation"
    whole = learner(k, channels_last=channels_last)
    whole.fit_images(TOTAL)
    ck = tmp_path/'checkpoints'
    with pytest.raises(RuntimeError): learner(k, [CheckpointCB(ck, BS), Stop(stop)], channels_last=channels_last).fit_images(TOTAL)
    torch.randn(7) # the new process has drawn other numbers
    learn = learner(k, channels_last=channels_last)
    assert resume(learn, tmp_path)==ck/f'{stop:08d}'
    torch.randn(3)
    learn.fit_images(TOTAL)
    same(state_of(whole), state_of(learn))
    assert (learn.images_seen,learn.micro_step)==(TOTAL,TOTAL//BS)


def child(folder):
    "The training of this file's end, listening to Ctrl-C even where tests run in the background"
    return subprocess.Popen([sys.executable, '-W', 'ignore', __file__, str(folder)], stderr=subprocess.PIPE,
                            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))

def wait_for(folder, images, proc, seconds=300):
    end = time.time()+seconds
    while not any(int(p.name)>=images for p in checkpoints(folder)):
        assert proc.poll() is None, proc.stderr.read().decode()
        assert time.time()<end
        time.sleep(.01)


def test_kill_and_ctrl_c(tmp_path):
    "kill -9, then Ctrl-C, then to the end: the same as never stopped"
    ck = tmp_path/'checkpoints'
    p = child(tmp_path); wait_for(ck, 72, p); p.send_signal(signal.SIGKILL); p.wait()
    assert not (tmp_path/'end').exists()
    p = child(tmp_path); wait_for(ck, 152, p); p.send_signal(signal.SIGINT); err = p.communicate()[1].decode()
    assert p.returncode==130 and 'with a checkpoint' in err, err
    assert not (tmp_path/'end').exists()
    p = child(tmp_path); err = p.communicate()[1].decode()
    assert p.returncode==0, err
    whole = learner(3)
    whole.fit_images(TOTAL)
    end = read_checkpoint(tmp_path/'end')
    same(state_of(whole), end)
    assert not [p for p in ck.iterdir() if p.name.startswith('.')]


@pytest.fixture
def stopped(tmp_path):
    "A folder with checkpoints at 64, 72 and 80 pictures"
    ck = tmp_path/'checkpoints'
    with pytest.raises(RuntimeError): learner(cbs=[CheckpointCB(ck, BS), Stop(80)]).fit_images(TOTAL)
    assert [int(p.name) for p in checkpoints(ck)]==[80,72,64]
    return ck


@pytest.mark.parametrize('damage', ['cut','flip','no json','half json','empty'])
def test_damaged(stopped, damage):
    "A checkpoint that cannot be read whole is passed over with a warning"
    p = stopped/'00000080'
    t,j = p/'tensors.safetensors',p/'state.json'
    if damage=='cut': t.write_bytes(t.read_bytes()[:-100])
    if damage=='flip': b = bytearray(t.read_bytes()); b[-50] ^= 1; t.write_bytes(bytes(b))
    if damage=='no json': j.unlink()
    if damage=='half json': j.write_text(j.read_text()[:500])
    if damage=='empty': t.unlink(); j.unlink()
    learn = learner(cbs=[CheckpointCB(stopped, BS, keep=1)])
    with pytest.warns(UserWarning, match='00000080'): assert resume(learn, stopped).name=='00000072'
    learn.fit_images(88)
    assert [int(p.name) for p in checkpoints(stopped)]==[88]


def test_another_training(stopped, tmp_path):
    with pytest.raises(UserError, match='model.width is 8 against 16'): resume(learner(width=16), stopped)
    with pytest.raises(UserError, match='pictures is 100 against 64'): resume(learner(n=64), stopped)
    with pytest.raises(UserError, match='accumulate.k is 1 against 2'): resume(learner(2), stopped)
    with pytest.raises(UserError, match='no readable checkpoint'): resume(learner(), tmp_path/'elsewhere')
    with pytest.raises(UserError, match='take another folder'): learner(cbs=[CheckpointCB(stopped)]).fit_images(TOTAL)


def test_pickle_is_never_opened(tmp_path, monkeypatch):
    "Not even looked into: loading a pickle runs whatever is in it"
    f = tmp_path/'model.pth'
    torch.save({'a':torch.zeros(1)}, f)
    real,opened = open,[]
    monkeypatch.setattr('builtins.open', lambda p, *a, **k: (opened.append(str(p)), real(p, *a, **k))[1])
    with pytest.raises(UserError, match='never opened'): newest_readable(f)
    with pytest.raises(UserError, match='no readable checkpoint'): newest_readable(tmp_path)
    assert str(f) not in opened


def test_full_disk(stopped):
    "No room for a checkpoint: one clear line, and the older ones are as they were"
    learn = learner(cbs=[CheckpointCB(stopped, BS)])
    resume(learn, stopped)
    before = {p:p.read_bytes() for p in stopped.rglob('*') if p.is_file()}
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limit[1]))
    try:
        with pytest.raises(UserError, match='free some space') as e: learn.fit_images(TOTAL)
    finally: resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    assert '\n' not in str(e.value) and '00000080' in str(e.value)
    assert {p:p.read_bytes() for p in stopped.rglob('*') if p.is_file()}==before
    learn.fit_images(TOTAL)


def test_second_ctrl_c(tmp_path):
    "The second Ctrl-C does not wait, and puts Python's own handler back"
    class Press(Callback):
        order = 5
        def after_pred(self):
            if self.training and self.images_seen==40:
                os.kill(os.getpid(), signal.SIGINT); time.sleep(.01)
                os.kill(os.getpid(), signal.SIGINT); time.sleep(.01)
                assert False, 'not reached'
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    learn = learner(cbs=[CheckpointCB(tmp_path, 16), Press()])
    try:
        with pytest.raises(KeyboardInterrupt): learn.fit_images(TOTAL)
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally: signal.signal(signal.SIGINT, before)
    assert [int(p.name) for p in checkpoints(tmp_path)]==[32,16]
    assert not learn.ema.on


def test_lr_find_writes_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    learn = learner(cbs=[CheckpointCB(tmp_path/'checkpoints', BS)])
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        learn.lr_find(num_it=12, show_plot=False)
    assert not list(tmp_path.iterdir())
    learn.fit_images(48)
    other = learner()
    other.fit_images(48)
    same(state_of(learn), state_of(other))


if __name__=='__main__':
    folder = Path(sys.argv[1])
    torch.set_num_threads(1)
    learn = learner(3, [CheckpointCB(folder/'checkpoints', BS), Slow()])
    if checkpoints(folder/'checkpoints'): resume(learn, folder)
    try: learn.fit_images(TOTAL)
    except KeyboardInterrupt: sys.exit(130)
    write_checkpoint(state_of(learn), folder/'end')
