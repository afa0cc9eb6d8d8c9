/* SPDX-License-Identifier: MIT
 *
 * operations: the table of TaskingAI's operations, for people and as JSON. */
#include "job/operation.h"

#include <stdio.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/out.h"

#define WIDTH 100 /* columns */
#define NAME_WIDTH 22

static const char *bare_name(const struct operation *op)
{
	return op->type.name + sizeof OPERATION_PREFIX - 1;
}

static const char *repeat_name(const struct operation *op)
{
	static const char *const names[] = {[REPEAT_FREELY] = "rerun",
					    [REPEAT_DELETE] = "rerun",
					    [REPEAT_NOT_BY_ASSISTANT] = "hold with an assistant's id",
					    [REPEAT_NEVER] = "hold"};

	return names[op->repeat];
}

static const char *place_name(const struct param *p)
{
	static const char *const names[] = {
		[PARAM_PATH] = "path", [PARAM_QUERY] = "query", [PARAM_BODY] = "body", [PARAM_FILE] = "form"};

	return names[p->place];
}

/* Names with a * where they are needed, wrapped under each other. */
static void list_params(const struct operation *op)
{
	size_t column = NAME_WIDTH + 2;

	out_printf("%*s", (int)column, "");
	for (const struct param *p = op->params; p->name; p++) {
		size_t n = strlen(p->name) + p->required + 1;

		if (column + n > WIDTH) {
			out_printf("\n%*s", NAME_WIDTH + 2, "");
			column = NAME_WIDTH + 2;
		}
		out_printf("%s%s%s", p->name, p->required ? "*" : "", p[1].name ? " " : "");
		column += n;
	}
	out_printf("\n");
}

static void list_one(const struct operation *op)
{
	bool held = op->repeat == REPEAT_NEVER || op->repeat == REPEAT_NOT_BY_ASSISTANT;

	out_printf("%-*s  %s %s%s%s%s\n", NAME_WIDTH, bare_name(op), op->method, op->path, held ? "  " : "",
		   held ? repeat_name(op) : "", op->streams ? "  streams" : "");
	list_params(op);
}

static void show_one(const struct operation *op)
{
	out_printf("%s\n  %s %s\n  where nobody knows whether it was carried out: %s\n", op->type.name, op->method,
		   op->path, repeat_name(op));
	if (op->streams)
		out_printf("  streams, with \"stream\": true\n");
	for (const struct param *p = op->params; p->name; p++)
		out_printf("  %-24s %s%s%s%s\n", p->name, operation_kind_name(p->kind), p->required ? ", needed" : "",
			   p->otherwise ? ", default " : "", p->otherwise ? p->otherwise : "");
}

static void print_json(const struct operation *op)
{
	out_printf(
		"{\"name\":\"%s\",\"type\":\"%s\",\"method\":\"%s\",\"path\":\"%s\",\"streams\":%s,\"if_unsure\":\"%s\",\"params\":[",
		bare_name(op), op->type.name, op->method, op->path, op->streams ? "true" : "false", repeat_name(op));
	for (const struct param *p = op->params; p->name; p++)
		out_printf("%s{\"name\":\"%s\",\"in\":\"%s\",\"kind\":\"%s\",\"required\":%s,\"default\":%s}",
			   p == op->params ? "" : ",", p->name, place_name(p), operation_kind_name(p->kind),
			   p->required ? "true" : "false", p->otherwise ? p->otherwise : "null");
	out_printf("]}\n");
}

int cli_operations(const struct cli *cli)
{
	const char *name = cli->noperands > 0 ? cli->operands[0] : NULL;
	const struct operation *op;
	bool found = !name;

	if (name && strncmp(name, OPERATION_PREFIX, sizeof OPERATION_PREFIX - 1) == 0)
		name += sizeof OPERATION_PREFIX - 1;
	for (size_t i = 0; (op = operation_at(i)); i++) {
		if (name && strcmp(bare_name(op), name) != 0)
			continue;
		found = true;
		if (cli->option[OPT_JSON])
			print_json(op);
		else if (name)
			show_one(op);
		else
			list_one(op);
	}
	out_flush();
	return found ? CLI_DONE : cli_misused(cli->command, "there is no operation '%.100s'", cli->operands[0]);
}
