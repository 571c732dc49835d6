"""The user's own retrieval: an object with semantic_enhanced_search(query, analysis, top_k), used first where it
is there, or search(query, top_k, category_filter=None); either may be a coroutine."""
import asyncio
import functools
import inspect
import logging

from .errors import InvalidRequestError

log = logging.getLogger("llm_manager")


def check(reference):
    if reference is None:
        return
    for name in ("semantic_enhanced_search", "search"):
        if callable(getattr(reference, name, None)):
            return
    raise InvalidRequestError("a RAG system has semantic_enhanced_search(query, analysis, top_k) or "
                              "search(query, top_k, category_filter=None)", "bad_rag_system")


async def search(reference, query, top_k):
    """Its passages as dicts with content, source and similarity; none where it fails, which is logged: a question
    is answered without passages rather than not at all."""
    enhanced = getattr(reference, "semantic_enhanced_search", None)
    if callable(enhanced):
        function = functools.partial(enhanced, query, {"query": query}, top_k)
    else:
        enhanced = reference.search
        function = functools.partial(enhanced, query, top_k, category_filter=None)
    try:
        if inspect.iscoroutinefunction(enhanced):
            found = await function()
        else:
            # It may ask a database: not on the loop's thread.
            found = await asyncio.get_running_loop().run_in_executor(None, function)
            if inspect.isawaitable(found):
                found = await found
        return [_passage(item) for item in found or ()][:top_k]
    except Exception:
        log.exception("the RAG system failed; the question is answered without it")
        return []


def _passage(item):
    def of(name, otherwise):
        value = item.get(name) if isinstance(item, dict) else getattr(item, name, None)
        return otherwise if value is None else value

    metadata = of("metadata", {})
    source = ""
    if isinstance(metadata, dict):
        source = next((str(metadata[key]) for key in ("source", "title", "file", "name") if metadata.get(key)), "")
    return {"content": str(of("content", "")), "source": source, "similarity": float(of("similarity", 0.0))}
