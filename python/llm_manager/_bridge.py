"""Calls of the native module, awaited or waited for. `start(done)` begins one and gives its handle back; it calls
`done(value, error)` once, on the library's own thread."""
import asyncio
import collections
import concurrent.futures
import contextlib
import weakref

# Starting a thousand calls takes the loop's thread less than so long at a time, in seconds.
_TURN_S = 0.005
_starts = weakref.WeakKeyDictionary()  # by loop


def wait(start):
    """For code that is not asynchronous. Ctrl-C interrupts it, and cancels the call."""
    future = concurrent.futures.Future()

    def done(value, error):
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(value)

    call = start(done)
    try:
        return future.result()
    except BaseException:
        call.cancel()  # of a call that has ended this is nothing
        raise


async def ask(start):
    """The event loop goes on meanwhile. Cancelling the awaiting task cancels the call."""
    loop = asyncio.get_running_loop()
    future = loop.create_future()

    def settle(value, error):
        if future.done():
            return
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(value)

    def begin():
        if future.cancelled():
            return
        call = start(lambda value, error: _tell(loop, settle, value, error))
        future.add_done_callback(lambda done: call.cancel() if done.cancelled() else None)

    _begin_soon(loop, begin)
    return await future


def _begin_soon(loop, begin):
    """In the order of their coming, a few in each turn of the loop: many at once do not hold it up."""
    waiting = _starts.get(loop)
    if waiting is None:
        waiting = _starts[loop] = collections.deque()
    waiting.append(begin)
    if len(waiting) == 1:
        loop.call_soon(_begin_some, loop, waiting)


def _begin_some(loop, waiting):
    until = loop.time() + _TURN_S
    while waiting and loop.time() < until:
        waiting[0]()
        waiting.popleft()
    if waiting:
        loop.call_soon(_begin_some, loop, waiting)


async def pieces(start):
    """What `on_text` hears, as it comes; start(on_text, done). Leaving the iteration cancels the call."""
    loop = asyncio.get_running_loop()
    queue = asyncio.Queue()
    call = start(lambda text: _tell(loop, queue.put_nowait, (text, None)),
                 lambda value, error: _tell(loop, queue.put_nowait, (None, error)))
    try:
        while True:
            text, error = await queue.get()
            if error is not None:
                raise error
            if text is None:
                return
            yield text
    finally:
        call.cancel()


def _tell(loop, function, *arguments):
    # A loop that was closed meanwhile has nobody who waits.
    with contextlib.suppress(RuntimeError):
        loop.call_soon_threadsafe(function, *arguments)
