#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Times llama.cpp on a model, as its users get it: prints one JSON object.

Run with the Python of build/bench-venv. Repacking is a choice: it is llama.cpp's fastest layout
where the model is resident, but it copies the weights to anonymous memory, which does not fit a
memory cgroup that is smaller than the model.
"""
import argparse
import json
import resource
import time

import llama_cpp as lc


def main():
    ap = argparse.ArgumentParser(description=__doc__)
    ap.add_argument("model")
    ap.add_argument("-p", type=int, default=0, help="prompt tokens")
    ap.add_argument("-n", type=int, default=4, help="decoded tokens that count")
    ap.add_argument("-t", type=int, default=2, help="threads")
    ap.add_argument("--repack", action="store_true", help="let llama.cpp repack the weights")
    a = ap.parse_args()

    quiet = lc.llama_log_callback(lambda *_: None)  # must live as long as the library may log
    lc.llama_log_set(quiet, None)
    mp = lc.llama_model_default_params()
    mp.n_gpu_layers = 0
    mp.load_mode = lc.LLAMA_LOAD_MODE_MMAP
    mp.use_extra_bufts = a.repack
    start = time.monotonic()
    model = lc.llama_model_load_from_file(a.model.encode(), mp)
    if not model:
        raise SystemExit(f"llama.cpp cannot load {a.model}")
    load_s = time.monotonic() - start
    n_vocab = lc.llama_vocab_n_tokens(lc.llama_model_get_vocab(model))
    cp = lc.llama_context_default_params()
    cp.n_ctx = max(256, a.p + a.n + 8)
    cp.n_batch = cp.n_ubatch = max(512, a.p)
    cp.n_threads = cp.n_threads_batch = a.t
    start = time.monotonic()
    ctx = lc.llama_init_from_model(model, cp)
    context_s = time.monotonic() - start

    def run(tokens):
        buf = (lc.llama_token * len(tokens))(*tokens)
        start = time.monotonic()
        if lc.llama_decode(ctx, lc.llama_batch_get_one(buf, len(tokens))):
            raise SystemExit("llama_decode failed")
        lc.llama_synchronize(ctx)
        return time.monotonic() - start

    prompt = [(i * 7919 + 13) % n_vocab for i in range(max(a.p, 1))]
    prompt_s = run(prompt)
    if a.n:
        run([17])  # warms up, as in weir bench
    times = [run([(i * 31 + 7) % n_vocab]) for i in range(a.n)]
    print(json.dumps({
        "load_s": load_s,
        "first_token_s": load_s + context_s + prompt_s,
        "prompt_tok_s": a.p / prompt_s if a.p else 0.0,
        "decode_tok_s": len(times) / sum(times) if times else 0.0,
        "peak_rss_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    }))


if __name__ == "__main__":
    main()
