"""The models of the stand-in: which there are, which are in memory, and who may use them.

One generation model at a time, as a small machine has it (--max-loaded changes that); embedding models stay
beside it. A model is busy while it generates and is never ended then. What is told to it by `liar` makes it
misbehave; see server.py."""
import datetime
import hashlib
import subprocess
import sys
import pathlib
import threading
import time

FOR_EVER = (1 << 63) / 1e9  # Go's longest duration, in seconds
UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}
RESIDENT = str(pathlib.Path(__file__).with_name("resident.py"))
ORPHANS_LIVE = 60.0


class Refused(Exception):
    """An answer that is an error: status and sentence."""

    def __init__(self, status, message):
        super().__init__(message)
        self.status, self.message = status, message


def timestamp(seconds):
    """As Go prints it; Python's own clock ends in 9999, Go's longest keep_alive in 2319."""
    whole = datetime.datetime(1970, 1, 1) + datetime.timedelta(seconds=int(seconds))
    return f"{whole:%Y-%m-%dT%H:%M:%S}.{int(seconds % 1 * 1e9):09d}Z"


def amount(text):
    unit = text[-1].upper() if text[-1:].isalpha() else ""
    return int(float(text[:-1] if unit else text) * UNITS[unit])


class Model:
    def __init__(self, name, size=0, memory=32 << 20, kind="completion", family="llama", load=0.05, rate=200.0,
                 context=2048, parameters="1.1B", quantization="Q4_0", dimensions=8, vram=0.0):
        self.name = name if ":" in name else name + ":latest"
        self.memory, self.capabilities, self.family = memory, [kind], family
        self.size = size or memory
        self.load, self.rate, self.context = load, rate, context
        self.parameters, self.quantization, self.dimensions = parameters, quantization, dimensions
        self.vram = vram  # share of its memory that it says is the accelerator's
        self.digest = hashlib.sha256(self.name.encode()).hexdigest()
        self.modified = time.time()

    @property
    def generates(self):
        return "completion" in self.capabilities

    @staticmethod
    def parse(text):
        """NAME[,memory=64M][,kind=embedding][,load=SECONDS][,rate=TOKENS_A_SECOND]…"""
        name, *parts = text.split(",")
        given = dict(part.split("=", 1) for part in parts)
        for key in ("memory", "size"):
            if key in given:
                given[key] = amount(given[key])
        for key in ("load", "rate", "vram"):
            if key in given:
                given[key] = float(given[key])
        for key in ("context", "dimensions"):
            if key in given:
                given[key] = int(given[key])
        return Model(name, **given)

    def details(self, with_context=False):
        out = {"parent_model": "", "format": "gguf", "family": self.family, "families": [self.family],
               "parameter_size": self.parameters, "quantization_level": self.quantization}
        if with_context:
            out |= {"context_length": self.context, "embedding_length": self.dimensions}
        return out


class Resident:
    def __init__(self, model, context, child):
        self.model, self.context, self.child = model, context, child
        self.busy = 0
        self.keep = 0.0  # seconds that it stays after its last request
        self.expires = time.time()
        self.going = False


class House:
    def __init__(self, models, max_loaded=1, keep_alive=300.0, stop_seconds=0.035):
        self.models = {model.name: model for model in models}
        self.max_loaded, self.keep_alive, self.stop_seconds = max_loaded, keep_alive, stop_seconds
        self.lock = threading.Condition()
        self.loader = threading.Lock()  # one load at a time
        self.residents = {}
        self.kept = []  # children whose memory was not given back although it was said so
        self.liar = {}
        self.loads = self.unloads = self.revivals = 0
        threading.Thread(target=self._expire, daemon=True).start()

    # ---- names

    def find(self, name):
        full = name if ":" in name else name + ":latest"
        return self.models.get(full)

    def need(self, name, shown=None):
        model = self.find(name)
        if model is None:
            raise Refused(404, f"model '{shown or name}' not found")
        return model

    # ---- what /api/ps shows

    def shown(self):
        with self.lock:
            return [{"name": r.model.name, "model": r.model.name,
                     "size": 0 if self.liar.get("size_zero") else r.model.memory, "digest": r.model.digest,
                     "details": r.model.details(), "expires_at": timestamp(r.expires),
                     "size_vram": 0 if self.liar.get("size_zero") else int(r.model.memory * r.model.vram),
                     "context_length": r.context}
                    for r in self.residents.values()]

    def children(self):
        with self.lock:
            return [r.child.pid for r in self.residents.values()] + [child.pid for child in self.kept]

    # ---- using a model

    def enter(self, model, keep_alive, context=None):
        """Loads the model where it is not, and makes it busy; leave() ends that."""
        seconds = self.keep_alive if keep_alive is None else keep_alive
        while True:
            with self.lock:
                resident = self.residents.get(model.name)
                if resident and not resident.going and context in (None, resident.context):
                    resident.busy += 1
                    resident.keep = seconds
                    resident.expires = time.time() + seconds
                    return resident
            with self.loader:
                self._load(model, context)

    def leave(self, resident):
        with self.lock:
            resident.busy -= 1
            if not resident.going:
                resident.expires = time.time() + resident.keep
            self.lock.notify_all()

    def unload(self, model):
        """keep_alive: 0. Answers at once; the model goes when it is idle."""
        with self.lock:
            resident = self.residents.get(model.name)
            if resident:
                resident.keep = 0.0
                resident.expires = time.time()
                self.lock.notify_all()

    def _load(self, model, context):
        with self.lock:
            resident = self.residents.get(model.name)
            if resident and not resident.going and context in (None, resident.context):
                return
            # Itself with another context, one that is on its way out, and whoever it takes the place of.
            going = [r for r in self.residents.values() if r.model is model or r.going]
            if model.generates:
                others = [r for r in self.residents.values() if r.model.generates and r not in going]
                others.sort(key=lambda r: r.expires)
                going += others[:max(0, len(others) - self.max_loaded + 1)]
        for resident in going:
            self._end(resident)
        time.sleep(model.load)
        # Of a session of its own: who ends the server with its whole group still meets the orphan.
        child = subprocess.Popen([sys.executable, "-I", "-S", RESIDENT, str(model.memory), str(ORPHANS_LIVE)],
                                 stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True)
        child.stdout.readline()
        with self.lock:
            resident = Resident(model, context or model.context, child)
            resident.expires = time.time() + self.keep_alive
            self.residents[model.name] = resident
            self.loads += 1
            self.lock.notify_all()

    def _end(self, resident):
        """Waits until it is idle, then ends its process, as far as the liar lets it."""
        with self.lock:
            while resident.busy or (resident.going and self.residents.get(resident.model.name) is resident):
                self.lock.wait(1)
            if self.residents.get(resident.model.name) is not resident:
                return
            resident.going = True
            while self.liar.get("hangs_in_stopping"):
                self.lock.wait(0.05)
        time.sleep(self.stop_seconds)
        keeps = self.liar.get("keeps_memory")
        if not keeps:
            resident.child.kill()
            resident.child.wait()
        with self.lock:
            while keeps == "listed" and self.liar.get("keeps_memory") == "listed":
                self.lock.wait(0.05)
            if keeps == "listed":
                resident.child.kill()
                resident.child.wait()
            elif keeps:
                self.kept.append(resident.child)
            self.unloads += 1
            if self.residents.get(resident.model.name) is resident:
                del self.residents[resident.model.name]
            self.lock.notify_all()
        after = self.liar.get("revives_after_ms")
        if after is not None and self.revivals < self.liar.get("revivals", 1 << 30):
            self.revivals += 1
            threading.Timer(after / 1000, self._revive, [resident.model]).start()

    def _revive(self, model):
        self.leave(self.enter(model, None))

    def _expire(self):
        while True:
            with self.lock:
                now = time.time()
                due = [r for r in self.residents.values() if not r.busy and not r.going and r.expires <= now]
                if not due:
                    following = min((r.expires for r in self.residents.values() if not r.busy and not r.going),
                                    default=now + 60)
                    self.lock.wait(min(max(following - now, 0.001), 60))
                    continue
            for resident in due:
                threading.Thread(target=self._end, args=[resident], daemon=True).start()
            # Until each has begun to go.
            with self.lock:
                while any(not r.going and self.residents.get(r.model.name) is r and not r.busy for r in due):
                    self.lock.wait(0.01)

    # ---- liars

    def set_liar(self, liar):
        with self.lock:
            self.liar = liar
            self.revivals = 0
            if not liar.get("keeps_memory"):
                for child in self.kept:
                    child.kill()
                    child.wait()
                self.kept = []
            self.lock.notify_all()

    def orphan_children(self):
        """Those that run go on when this process dies."""
        with self.lock:
            for resident in self.residents.values():
                resident.child.stdin.write(b"orphan\n")
                resident.child.stdin.flush()
