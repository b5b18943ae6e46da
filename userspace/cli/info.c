// SPDX-License-Identifier: MIT
/* weir info: metadata, tensors, sizes, extents. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"
#include "text/utf8.h"

#define SHOWN 6 /* elements of an array, and bytes of a string x 16, that are printed */

static const struct argp_child children[] = {{&model_argp, 0, NULL, 0}, {0}};

static error_t parse(int key, char *arg, struct argp_state *st)
{
	(void)arg;
	if (key != ARGP_KEY_INIT)
		return ARGP_ERR_UNKNOWN;
	st->child_inputs[0] = st->input;
	return 0;
}

static const struct argp argp = {
	NULL,	  parse,
	"MODEL",  "Shows metadata, tensors, sizes and extents. Works on a vocabulary alone.",
	children, NULL,
	NULL};

/* ---- as JSON ---- */

static json_t *str_json(const struct gguf_str *s)
{
	return json_text(s->p, s->len);
}

static json_t *num_json(const struct gguf_array *a, uint64_t i)
{
	int64_t v;

	switch (a->type) {
	case GGUF_F32:
		return json_number(((const float *)a->num)[i]);
	case GGUF_F64:
		return json_number(((const double *)a->num)[i]);
	case GGUF_U64:
		return json_u64(((const uint64_t *)a->num)[i]);
	case GGUF_BOOL:
		return json_boolean(((const uint8_t *)a->num)[i]);
	default:
		return gguf_array_int(a, i, &v) ? json_integer(v) : json_null();
	}
}

static json_t *array_json(const struct gguf_array *a)
{
	json_t *j = json_array();
	int r = 0;

	for (uint64_t i = 0; !r && i < a->n; i++) {
		if (a->type == GGUF_STRING)
			r = json_array_append_new(j, str_json(&a->str[i]));
		else if (a->type == GGUF_ARRAY)
			r = json_array_append_new(j, array_json(&a->arr[i]));
		else
			r = json_array_append_new(j, num_json(a, i));
	}
	if (!r)
		return j;
	json_decref(j);
	return NULL;
}

static json_t *kv_json(const struct gguf_kv *kv)
{
	switch (kv->type) {
	case GGUF_STRING:
		return str_json(&kv->str);
	case GGUF_ARRAY:
		return array_json(&kv->arr);
	case GGUF_BOOL:
		return json_boolean(kv->b);
	case GGUF_F32:
	case GGUF_F64:
		return json_number(kv->f64);
	case GGUF_I8:
	case GGUF_I16:
	case GGUF_I32:
	case GGUF_I64:
		return json_integer(kv->i64);
	default:
		return json_u64(kv->u64);
	}
}

/* A key as the object has it; without it the object is not whole. */
static int add_kv(json_t *o, const struct gguf_kv *kv)
{
	json_t *key = str_json(&kv->key);
	int r = key ? json_object_set_new(o, json_string_value(key), kv_json(kv)) : -1;

	json_decref(key);
	return r;
}

static int print_json(const struct gguf *g, struct err *err)
{
	int r = 0;
	json_t *kv = json_object(), *tensors = json_array(), *files = json_array();

	for (uint64_t i = 0; i < g->n_kv; i++)
		r |= add_kv(kv, &g->kv[i]);
	for (uint64_t i = 0; i < g->n_tensor; i++) {
		const struct gguf_tensor *t = &g->tensor[i];
		json_t *ne = json_array();

		for (uint32_t d = 0; d < t->n_dims; d++)
			json_array_append_new(ne, json_integer((json_int_t)t->ne[d]));
		r |= json_array_append_new(
			tensors,
			json_pack("{s:o, s:s, s:b, s:o, s:i, s:I, s:I}", "name", str_json(&t->name),
				  "type", wtype_info(t->type)->name, "packed", t->packed, "shape",
				  ne, "file", (int)t->file, "offset", (json_int_t)t->off,
				  "size_bytes", (json_int_t)t->size));
	}
	for (uint32_t i = 0; i < g->n_file; i++)
		r |= json_array_append_new(
			files, json_pack("{s:o, s:I, s:I}", "path",
					 json_text(g->file[i].path, strlen(g->file[i].path)),
					 "size_bytes", (json_int_t)g->file[i].size,
					 "alignment_bytes", (json_int_t)g->file[i].alignment));
	if (r) {
		json_decref(kv);
		json_decref(tensors);
		json_decref(files);
		return cli_print_json(NULL, err);
	}
	return cli_print_json(json_pack("{s:i, s:o, s:o, s:o}",
					g->packed_file ? "packed_version" : "gguf_version",
					(int)g->version, "files", files, "metadata", kv, "tensors",
					tensors),
			      err);
}

/* ---- as text ---- */

/* A name in a column */
static void print_name(const struct gguf_str *s, size_t width)
{
	for (size_t n = print_clean(s->p, s->len); n < width; n++)
		putchar(' ');
}

static void print_str(const struct gguf_str *s, uint64_t most)
{
	uint64_t n = MIN(s->len, most);

	if (n < s->len)
		n -= utf8_open_tail(s->p, n);
	putchar('"');
	print_clean(s->p, n);
	printf("\"%s", n < s->len ? "..." : "");
}

static void print_scalar(const struct gguf_kv *kv)
{
	switch (kv->type) {
	case GGUF_STRING:
		print_str(&kv->str, 16 * SHOWN);
		break;
	case GGUF_BOOL:
		fputs(kv->b ? "true" : "false", stdout);
		break;
	case GGUF_F32:
	case GGUF_F64:
		printf("%g", kv->f64);
		break;
	case GGUF_I8:
	case GGUF_I16:
	case GGUF_I32:
	case GGUF_I64:
		printf("%" PRId64, kv->i64);
		break;
	default:
		printf("%" PRIu64, kv->u64);
	}
}

static void print_element(const struct gguf_array *a, uint64_t i)
{
	int64_t v = 0;

	switch (a->type) {
	case GGUF_STRING:
		print_str(&a->str[i], 32);
		break;
	case GGUF_F32:
		printf("%g", (double)((const float *)a->num)[i]);
		break;
	case GGUF_F64:
		printf("%g", ((const double *)a->num)[i]);
		break;
	case GGUF_BOOL:
		fputs(((const uint8_t *)a->num)[i] ? "true" : "false", stdout);
		break;
	case GGUF_U64:
		printf("%" PRIu64, ((const uint64_t *)a->num)[i]);
		break;
	default:
		gguf_array_int(a, i, &v);
		printf("%" PRId64, v);
	}
}

static void print_array(const struct gguf_array *a)
{
	printf("[%" PRIu64 " x %s]", a->n, gguf_type_name(a->type));
	for (uint64_t i = 0; i < MIN(a->n, (uint64_t)SHOWN) && a->type != GGUF_ARRAY; i++) {
		putchar(' ');
		print_element(a, i);
	}
	if (a->n > SHOWN)
		fputs(" ...", stdout);
}

static void print_tensor(const struct gguf *g, const struct gguf_tensor *t)
{
	char shape[96], size[32];
	int at = 0;

	for (uint32_t d = 0; d < t->n_dims; d++)
		at += snprintf(shape + at, sizeof(shape) - (size_t)at, "%s%" PRIu64, d ? " x " : "",
			       t->ne[d]);
	fputs("  ", stdout);
	print_name(&t->name, 32);
	printf(" %-7s %-22s %10s  %s%" PRIu64 "%s\n", wtype_info(t->type)->name, shape,
	       format_bytes(t->size, size), g->n_file > 1 ? "in its file at " : "at ", t->off,
	       t->packed ? ", packed" : "");
}

/* How the sizes add up by type, and what one pass reads. */
static void print_sizes(const struct gguf *g)
{
	uint64_t by_type[WT_COUNT] = {0}, n_weight = 0, total = 0;
	struct model *m = NULL;
	struct plan *plan;
	struct err err = {""};
	char x[32], y[32];

	for (uint64_t i = 0; i < g->n_tensor; i++) {
		by_type[g->tensor[i].type] += g->tensor[i].size;
		total += g->tensor[i].size;
		n_weight += g->tensor[i].ne[0] * g->tensor[i].n_rows;
	}
	printf("sizes: %" PRIu64 " weights in %s, %.2f bits a weight\n", n_weight,
	       format_bytes(total, x), n_weight ? 8.0 * (double)total / (double)n_weight : 0.0);
	for (uint32_t t = 0; t < WT_COUNT; t++)
		if (by_type[t])
			printf("  %-7s %s\n", wtype_info(t)->name, format_bytes(by_type[t], x));
	if (model_open(g, &m, &err)) {
		printf("weir cannot run it: %s\n", err.text);
		return;
	}
	if (!session_plan(m, "100%", false, 0, &plan, &err)) {
		printf("a token reads %s in %u tensors; held whole they are %u extents of %s\n",
		       format_bytes(plan->sweep_bytes, x), plan->n_tensor, plan->n_extent,
		       format_bytes(plan->pinned_bytes, y));
		plan_free(plan);
	}
	model_close(m);
}

static void print_text(const struct gguf *g)
{
	char x[32];

	for (uint32_t i = 0; i < g->n_file; i++) {
		print_clean(g->file[i].path, strlen(g->file[i].path));
		printf(": %s version %u, %s, alignment %u, data at %" PRIu64 "\n",
		       g->packed_file ? "packed for weir," : "GGUF", g->version,
		       format_bytes(g->file[i].size, x), g->file[i].alignment, g->file[i].data_off);
	}
	printf("metadata: %" PRIu64 " keys\n", g->n_kv);
	for (uint64_t i = 0; i < g->n_kv; i++) {
		fputs("  ", stdout);
		print_name(&g->kv[i].key, 42);
		putchar(' ');
		if (g->kv[i].type == GGUF_ARRAY)
			print_array(&g->kv[i].arr);
		else
			print_scalar(&g->kv[i]);
		putchar('\n');
	}
	printf("tensors: %" PRIu64 "\n", g->n_tensor);
	for (uint64_t i = 0; i < g->n_tensor; i++)
		print_tensor(g, &g->tensor[i]);
	if (g->n_tensor)
		print_sizes(g);
	else
		puts("this file holds only a vocabulary: tokenize works on it, run does not");
}

int cmd_info(int argc, char **argv)
{
	struct common c = common_defaults();
	struct gguf *g = NULL;
	struct err err = {""};
	int r;

	argp_parse(&argp, argc, argv, 0, NULL, &c);
	r = gguf_open(c.model, &g, &err);
	if (r)
		return cli_fail(r, &err);
	if (c.json)
		r = print_json(g, &err);
	else
		print_text(g);
	if (r)
		r = cli_fail(r, &err);
	gguf_close(g);
	return r;
}
