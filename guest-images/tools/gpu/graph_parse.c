// SPDX-License-Identifier: GPL-2.0
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "args.h"
#include "expect.h"
#include "graph.h"

#define MAX_WORDS 8

struct parser {
	struct graph *graph;
	unsigned int line;
	int count;
	char *words[MAX_WORDS];
};

/* The order of TBGPU_VEC_* that the words "add|mul|xor" stand for. */
#define VECTOR_CHOICES "add|mul|xor"

__attribute__((format(printf, 2, 3))) static bool mistake(unsigned int line, const char *format,
							  ...)
{
	va_list values;

	fprintf(stderr, "line %u: ", line);
	va_start(values, format);
	vfprintf(stderr, format, values);
	va_end(values);
	fputc('\n', stderr);
	return false;
}

static int find_buffer(const struct graph *graph, const char *name)
{
	for (unsigned int i = 0; i < graph->buffer_count; i++)
		if (!strcmp(graph->buffers[i].name, name))
			return i;
	return -1;
}

static int find_job(const struct graph *graph, const char *name)
{
	for (unsigned int i = 0; i < graph->job_count; i++)
		if (!strcmp(graph->jobs[i].name, name))
			return i;
	return -1;
}

static bool take_buffer(struct parser *parser, const char *name, int *index)
{
	*index = find_buffer(parser->graph, name);
	return *index >= 0 || mistake(parser->line, "no buffer '%s' above", name);
}

static bool take_word(struct parser *parser, const char *text, __u32 *word)
{
	__u64 value;

	if (!parse_count(text, &value) || value > 0xffffffffu)
		return mistake(parser->line, "'%s' is not a 32-bit number", text);
	*word = value;
	return true;
}

static bool take_choice(struct parser *parser, const char *choices, const char *text, int *index)
{
	*index = parse_choice(choices, text);
	return *index >= 0 || mistake(parser->line, "'%s' is none of %s", text, choices);
}

static bool take_name(struct parser *parser, const char *text, char *name)
{
	if (strlen(text) >= NAME_SPACE)
		return mistake(parser->line, "name '%s' is too long", text);
	strcpy(name, text);
	return true;
}

static bool parse_buffer(struct parser *parser)
{
	struct graph *graph = parser->graph;
	struct graph_buffer *buffer = &graph->buffers[graph->buffer_count];
	int domain;

	if (graph->buffer_count == MAX_BUFFERS)
		return mistake(parser->line, "more than %d buffers", MAX_BUFFERS);
	if (find_buffer(graph, parser->words[1]) >= 0)
		return mistake(parser->line, "a second buffer '%s'", parser->words[1]);
	if (!take_name(parser, parser->words[1], buffer->name) ||
	    !take_choice(parser, "vram|system", parser->words[2], &domain))
		return false;
	if (!parse_size(parser->words[3], &buffer->size) || !buffer->size || buffer->size % 4)
		return mistake(parser->line, "'%s' is not a size that is a multiple of 4",
			       parser->words[3]);
	buffer->domain = domain ? TBGPU_DOMAIN_SYSTEM : TBGPU_DOMAIN_VRAM;
	graph->buffer_count++;
	return true;
}

static bool parse_job(struct parser *parser)
{
	struct graph *graph = parser->graph;
	struct graph_job *job = &graph->jobs[graph->job_count];
	int engine, publish;

	if (graph->job_count == MAX_JOBS)
		return mistake(parser->line, "more than %d jobs", MAX_JOBS);
	if (find_job(graph, parser->words[1]) >= 0)
		return mistake(parser->line, "a second job '%s'", parser->words[1]);
	if (!take_name(parser, parser->words[1], job->name) ||
	    !take_choice(parser, "copy|compute", parser->words[2], &engine) ||
	    !take_choice(parser, "sync_file|syncobj|timeline", parser->words[3], &publish))
		return false;
	job->engine_type = engine ? TBGPU_ENGINE_COMPUTE : TBGPU_ENGINE_COPY;
	job->publish = publish;
	job->line = parser->line;
	strcpy(job->expect, "ok");
	graph->job_count++;
	return true;
}

static struct graph_job *current_job(struct parser *parser)
{
	if (parser->graph->job_count)
		return &parser->graph->jobs[parser->graph->job_count - 1];
	mistake(parser->line, "'%s' without a job above", parser->words[0]);
	return NULL;
}

static bool parse_after(struct parser *parser)
{
	struct graph_job *job = current_job(parser);

	if (!job)
		return false;
	if (job->after_count == MAX_AFTER)
		return mistake(parser->line, "job '%s' waits for more than %d jobs", job->name,
			       MAX_AFTER);
	return take_name(parser, parser->words[1], job->after_name[job->after_count++]);
}

static bool parse_expect(struct parser *parser)
{
	struct graph_job *job = current_job(parser);

	if (!job)
		return false;
	if (strlen(parser->words[1]) >= sizeof(job->expect) || !expect_valid(parser->words[1]))
		return mistake(parser->line, "'%s' is neither ok nor an errno", parser->words[1]);
	strcpy(job->expect, parser->words[1]);
	return true;
}

static bool parse_copy(struct parser *parser, struct graph_op *op)
{
	const struct graph_buffer *buffers = parser->graph->buffers;

	op->opcode = TBGPU_OP_COPY;
	if (!take_buffer(parser, parser->words[2], &op->src) ||
	    !take_buffer(parser, parser->words[3], &op->dst))
		return false;
	if (buffers[op->src].size > buffers[op->dst].size)
		return mistake(parser->line, "'%s' is larger than '%s'", parser->words[2],
			       parser->words[3]);
	return true;
}

static bool parse_vector(struct parser *parser, struct graph_op *op)
{
	const struct graph_buffer *buffers = parser->graph->buffers;
	int operation;

	op->opcode = TBGPU_OP_VECTOR;
	if (!take_choice(parser, VECTOR_CHOICES, parser->words[2], &operation) ||
	    !take_buffer(parser, parser->words[3], &op->src) ||
	    !take_buffer(parser, parser->words[4], &op->src2) ||
	    !take_buffer(parser, parser->words[5], &op->dst))
		return false;
	if (buffers[op->src].size != buffers[op->dst].size ||
	    buffers[op->src2].size != buffers[op->dst].size)
		return mistake(parser->line, "the buffers of a vector operation differ in size");
	op->arg32 = operation;
	return true;
}

static bool parse_delay(struct parser *parser, struct graph_op *op)
{
	op->opcode = TBGPU_OP_DELAY;
	return parse_time(parser->words[2], &op->delay_ns) ||
	       mistake(parser->line, "'%s' is not a number of milliseconds", parser->words[2]);
}

static bool parse_op(struct parser *parser)
{
	static const int words[] = { 4, 4, 3, 3, 2, 6 };
	struct graph_job *job = current_job(parser);
	struct graph_op *op;
	int kind;

	if (!job ||
	    !take_choice(parser, "fill|copy|checksum|delay|nop|vector", parser->words[1], &kind))
		return false;
	if (parser->count != words[kind])
		return mistake(parser->line, "'op %s' takes %d words", parser->words[1],
			       words[kind] - 2);
	if (job->op_count == MAX_JOB_OPS)
		return mistake(parser->line, "job '%s' has more than %d operations", job->name,
			       MAX_JOB_OPS);
	op = &job->ops[job->op_count++];
	switch (kind) {
	case 0:
		op->opcode = TBGPU_OP_FILL;
		return take_buffer(parser, parser->words[2], &op->dst) &&
		       take_word(parser, parser->words[3], &op->arg32);
	case 1:
		return parse_copy(parser, op);
	case 2:
		op->opcode = TBGPU_OP_CHECKSUM;
		return take_buffer(parser, parser->words[2], &op->src);
	case 3:
		return parse_delay(parser, op);
	case 5:
		return parse_vector(parser, op);
	default:
		op->opcode = TBGPU_OP_NOP;
		return true;
	}
}

static bool parse_check(struct parser *parser)
{
	struct graph *graph = parser->graph;
	struct graph_check *check = &graph->checks[graph->check_count];

	if (graph->check_count == MAX_CHECKS)
		return mistake(parser->line, "more than %d checks", MAX_CHECKS);
	graph->check_count++;
	return take_buffer(parser, parser->words[1], &check->buffer) &&
	       take_word(parser, parser->words[2], &check->word);
}

static bool parse_submit(struct parser *parser)
{
	int choice;

	if (!take_choice(parser, "forward|reverse", parser->words[1], &choice))
		return false;
	parser->graph->reverse = choice;
	return true;
}

static bool parse_timeout(struct parser *parser)
{
	return parse_time(parser->words[1], &parser->graph->timeout_ns) ||
	       mistake(parser->line, "'%s' is not a number of milliseconds", parser->words[1]);
}

struct statement {
	const char *name;
	int least, most; /* words, its name included */
	bool (*parse)(struct parser *parser);
};

static const struct statement statements[] = {
	{ "buffer", 4, 4, parse_buffer }, { "job", 4, 4, parse_job },
	{ "after", 2, 2, parse_after },	  { "op", 2, 6, parse_op },
	{ "expect", 2, 2, parse_expect }, { "check", 3, 3, parse_check },
	{ "submit", 2, 2, parse_submit }, { "timeout", 2, 2, parse_timeout },
};

static bool parse_line(struct parser *parser, char *text)
{
	char *rest = NULL;

	text[strcspn(text, "#\n")] = '\0';
	parser->count = 0;
	for (char *word = strtok_r(text, " \t\r", &rest); word;
	     word = strtok_r(NULL, " \t\r", &rest)) {
		if (parser->count == MAX_WORDS)
			return mistake(parser->line, "too many words");
		parser->words[parser->count++] = word;
	}
	if (!parser->count)
		return true;
	for (size_t i = 0; i < sizeof(statements) / sizeof(*statements); i++) {
		if (strcmp(statements[i].name, parser->words[0]))
			continue;
		if (parser->count < statements[i].least || parser->count > statements[i].most)
			return mistake(parser->line, "wrong number of words for '%s'",
				       parser->words[0]);
		return statements[i].parse(parser);
	}
	return mistake(parser->line, "unknown statement '%s'", parser->words[0]);
}

static bool resolve_names(struct graph *graph)
{
	for (unsigned int i = 0; i < graph->job_count; i++) {
		struct graph_job *job = &graph->jobs[i];

		for (unsigned int k = 0; k < job->after_count; k++) {
			job->after[k] = find_job(graph, job->after_name[k]);
			if (job->after[k] < 0)
				return mistake(job->line, "job '%s' waits for unknown job '%s'",
					       job->name, job->after_name[k]);
		}
	}
	return true;
}

static bool is_ready(const struct graph_job *job, const bool *placed)
{
	for (unsigned int k = 0; k < job->after_count; k++)
		if (!placed[job->after[k]])
			return false;
	return true;
}

/* Each job behind those it waits for, otherwise as written. */
static bool sort_jobs(struct graph *graph)
{
	bool placed[MAX_JOBS] = { false };
	unsigned int count = 0;

	while (count < graph->job_count) {
		unsigned int i = 0;

		while (i < graph->job_count && (placed[i] || !is_ready(&graph->jobs[i], placed)))
			i++;
		if (i == graph->job_count)
			break;
		placed[i] = true;
		graph->order[count++] = i;
	}
	for (unsigned int i = 0; i < graph->job_count; i++)
		if (!placed[i])
			return mistake(graph->jobs[i].line, "job '%s' waits for itself",
				       graph->jobs[i].name);
	return true;
}

bool graph_read(struct graph *graph)
{
	struct parser parser = { .graph = graph };
	char *text = NULL;
	size_t space = 0;
	bool good = true;

	while (good && getline(&text, &space, stdin) > 0) {
		parser.line++;
		good = parse_line(&parser, text);
	}
	free(text);
	if (!good)
		return false;
	if (!graph->job_count)
		return mistake(parser.line, "no job");
	return resolve_names(graph) && sort_jobs(graph);
}
