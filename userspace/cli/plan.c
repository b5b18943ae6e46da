// SPDX-License-Identifier: MIT
/* weir plan: what would be pinned and streamed, and how fast, on this machine or another. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "cli/cli.h"
#include "stream/predict.h"

struct plan_args {
	struct common c;
	const char *machine;
};

enum { OPT_MACHINE = OPT_OWN };

static const struct argp_option options[] = {
	{"budget", OPT_BUDGET, "SIZE", 0,
	 "DRAM for weights: 512M, 2G, 50% (as 'weir run' would choose)", 0},
	{"machine", OPT_MACHINE, "NAME", 0,
	 "Another machine: orin-64, iphone-15-pro, ... ('help' lists them); MODEL may be left out",
	 0},
	{NULL, 'c', "N", 0,
	 "Context length whose KV cache is counted (the model's, capped by memory)", 0},
	{"json", OPT_JSON, NULL, 0, "Print one JSON object", 0},
	{0},
};

static void list_machines(void)
{
	for (unsigned int i = 0; machine_at(i); i++)
		printf("%-16s DRAM %6.1f GB/s, flash %.1f GB/s\n", machine_at(i)->name,
		       machine_at(i)->dram_gb_s, machine_at(i)->flash_gb_s);
}

static error_t parse(int key, char *arg, struct argp_state *st)
{
	struct plan_args *a = st->input;

	switch (key) {
	case OPT_BUDGET:
		a->c.budget = arg_budget(st, arg);
		return 0;
	case OPT_MACHINE:
		a->machine = arg;
		return 0;
	case OPT_JSON:
		a->c.json = true;
		return 0;
	case 'c':
		a->c.n_ctx = (uint32_t)arg_uint(st, "-c", arg, 1, INT32_MAX);
		return 0;
	case ARGP_KEY_ARG:
		if (a->c.model)
			argp_error(st, "one MODEL is enough: '%s' is one too many", arg);
		a->c.model = arg;
		return 0;
	case ARGP_KEY_END:
		if (a->machine && strcmp(a->machine, "help") && !machine_by_name(a->machine))
			argp_error(st, "--machine: '%s' is not known; 'help' lists them",
				   a->machine);
		if (!a->c.model && !a->machine)
			argp_error(st, "MODEL is missing: give a GGUF file, or --machine NAME");
		return 0;
	default:
		return ARGP_ERR_UNKNOWN;
	}
}

static const struct argp argp = {
	options,
	parse,
	"[MODEL]",
	"Shows what would be pinned and streamed, the speed that follows, and its "
	"bound.",
	NULL,
	NULL,
	NULL};

/* What a session with these options would find here. */
static int make_plan(const struct plan_args *a, struct gguf **g, struct model **m,
		     struct plan **plan, uint64_t *kv, struct err *err)
{
	const struct session_params sp = {.n_ctx = a->c.n_ctx, .kv_type = KV_AUTO};
	struct forward_params fp;
	uint64_t buffers;
	int r = gguf_open(a->c.model, g, err);

	if (!r)
		r = model_open(*g, m, err);
	if (r)
		return r;
	session_choose(&sp, *m, &fp);
	forward_bytes(&fp, &buffers, kv);
	/* another machine's free memory is not known: without a budget everything is pinned */
	return session_plan(*m,
			    a->c.budget	 ? a->c.budget
			    : a->machine ? "100%"
					 : NULL,
			    false, buffers + *kv, plan, err);
}

/* ---- as text ---- */

static void print_plan(const struct plan *p, const struct model *m, const struct machine *mc,
		       uint64_t kv)
{
	struct prediction now, resident;
	char x[32], y[32];

	predict(mc, (double)p->sweep_bytes, (double)p->stream_bytes, 0, 2.0 * (double)m->n_weight,
		&now);
	predict(mc, (double)p->sweep_bytes, 0, 0, 2.0 * (double)m->n_weight, &resident);
	printf("model      %s, %.2f billion weights, %s read per token\n", m->arch,
	       (double)m->n_weight * 1e-9, format_bytes(p->sweep_bytes, x));
	printf("machine    %s: DRAM %.1f GB/s, flash %.2f GB/s\n", mc->name, mc->dram_gb_s,
	       mc->flash_gb_s);
	printf("pinned     %s in %u extents\n", format_bytes(p->pinned_bytes, x), p->n_pin);
	printf("ring       %u slots of %s\n", p->n_slot, format_bytes(p->slot_bytes, x));
	printf("pool       %s; beside it up to %s of KV cache\n", format_bytes(p->pool_bytes, x),
	       format_bytes(kv, y));
	printf("streamed   %s per token in %u extents (alpha %.4f)\n",
	       format_bytes(p->stream_bytes, x), p->n_extent - p->n_pin, p->alpha);
	printf("expected   %.2f tokens/s, bound by %s (flash %.1f ms, DRAM %.1f ms, compute %.1f "
	       "ms)\n",
	       now.tok_s, bound_name(now.bound), 1e3 * now.t_flash, 1e3 * now.t_dram,
	       1e3 * now.t_compute);
	printf("resident   %.2f tokens/s, bound by %s, if everything were pinned\n", resident.tok_s,
	       bound_name(resident.bound));
	printf("balance    alpha %.4f: a smaller share on flash costs nothing\n",
	       now.alpha_balance);
}

static void print_post(const struct machine *m)
{
	const struct machine_unit *u;

	printf("\nThe edge post's figures for %s and LLaMA3-8B (16 Gflop a token, 4 GB at 4 "
	       "bits):\n",
	       m->name);
	for (unsigned int i = 0; (u = machine_unit_at(m, i)); i++)
		printf("  compute-bound   %8.1f tokens/s on %s (%.2f Tflop/s)\n",
		       post_compute_tok_s(u->ops_s), u->name, u->ops_s * 1e-12);
	printf("  memory-bound    %8.2f tokens/s at %.0f GB, %.2f at %.0f GB with activations\n",
	       post_memory_tok_s(m->dram_gb_s, POST_WEIGHT_GB), POST_WEIGHT_GB,
	       post_memory_tok_s(m->dram_gb_s, POST_TRAFFIC_GB), POST_TRAFFIC_GB);
	printf("  largest alpha without loss   %.4f (DRAM to flash %.1f); %.4f at a ratio of 50\n",
	       post_alpha_max(m->flash_gb_s, m->dram_gb_s), m->dram_gb_s / m->flash_gb_s,
	       post_alpha_max(1, 50));
	printf("  effective DRAM at alpha 0.5  %.2f GB/s, %.1f times less than the machine has\n",
	       post_dram_effective_gb_s(m->flash_gb_s, 0.5),
	       m->dram_gb_s / post_dram_effective_gb_s(m->flash_gb_s, 0.5));
}

/* ---- as JSON ---- */

static json_t *plan_json(const struct plan *p, const struct model *m, const struct machine *mc,
			 uint64_t kv)
{
	struct prediction now;

	predict(mc, (double)p->sweep_bytes, (double)p->stream_bytes, 0, 2.0 * (double)m->n_weight,
		&now);
	return json_pack(
		"{s:s, s:I, s:I, s:I, s:I, s:I, s:i, s:I, s:o, s:o, s:s, s:o, s:o, s:o, s:o, s:I}",
		"arch", m->arch, "weights", (json_int_t)m->n_weight, "sweep_bytes",
		(json_int_t)p->sweep_bytes, "pinned_bytes", (json_int_t)p->pinned_bytes,
		"stream_bytes", (json_int_t)p->stream_bytes, "pool_bytes",
		(json_int_t)p->pool_bytes, "ring_slots", (int)p->n_slot, "slot_bytes",
		(json_int_t)p->slot_bytes, "alpha", json_number(p->alpha), "predicted_tok_s",
		json_number(now.tok_s), "bound", bound_name(now.bound), "flash_s",
		json_number(now.t_flash), "dram_s", json_number(now.t_dram), "compute_s",
		json_number(now.t_compute), "alpha_balance", json_number(now.alpha_balance),
		"kv_bytes", (json_int_t)kv);
}

static json_t *post_json(const struct machine *m)
{
	const struct machine_unit *u;
	json_t *units = json_array();

	for (unsigned int i = 0; (u = machine_unit_at(m, i)); i++)
		json_array_append_new(units, json_pack("{s:s, s:o}", "unit", u->name,
						       "compute_bound_tok_s",
						       json_number(post_compute_tok_s(u->ops_s))));
	return json_pack(
		"{s:s, s:o, s:o, s:o, s:o, s:o, s:o}", "machine", m->name, "units", units,
		"memory_bound_tok_s", json_number(post_memory_tok_s(m->dram_gb_s, POST_WEIGHT_GB)),
		"memory_bound_with_activations_tok_s",
		json_number(post_memory_tok_s(m->dram_gb_s, POST_TRAFFIC_GB)), "alpha_without_loss",
		json_number(post_alpha_max(m->flash_gb_s, m->dram_gb_s)),
		"alpha_without_loss_at_ratio_50", json_number(post_alpha_max(1, 50)),
		"effective_dram_gb_s_at_alpha_0_5",
		json_number(post_dram_effective_gb_s(m->flash_gb_s, 0.5)));
}

static int show(const struct plan_args *a, const struct plan *plan, const struct model *m,
		const struct machine *mc, uint64_t kv, struct err *err)
{
	json_t *o;

	if (a->c.json) {
		o = plan ? plan_json(plan, m, mc, kv) : json_object();
		if (a->machine && json_object_set_new(o, "post", post_json(mc))) {
			json_decref(o);
			o = NULL;
		}
		return cli_print_json(o, err);
	}
	if (plan)
		print_plan(plan, m, mc, kv);
	if (a->machine)
		print_post(mc);
	return 0;
}

int cmd_plan(int argc, char **argv)
{
	struct plan_args a = {.c = common_defaults()};
	struct plan *plan = NULL;
	struct model *m = NULL;
	struct gguf *g = NULL;
	struct machine mc;
	uint64_t kv = 0;
	struct err err = {""};
	int r = 0;

	argp_parse(&argp, argc, argv, 0, NULL, &a);
	if (a.machine && !strcmp(a.machine, "help")) {
		list_machines();
		return 0;
	}
	if (a.c.model)
		r = make_plan(&a, &g, &m, &plan, &kv, &err);
	if (!r && a.machine)
		mc = *machine_by_name(a.machine);
	else if (!r)
		r = cli_machine(&mc, a.c.model, a.c.json, &err);
	if (!r)
		r = show(&a, plan, m, &mc, kv, &err);
	if (r)
		r = cli_fail(r, &err);
	plan_free(plan);
	model_close(m);
	gguf_close(g);
	return r;
}
