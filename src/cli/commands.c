/* SPDX-License-Identifier: MIT
 *
 * The tables of commands, one for each group. A new command is a row here, a function in the file of its group, and rows
 * in options.c for what options it brings. */
#include <stdint.h>
#include <string.h>

#include "cli/cli.h"

#define WAITING (TAKES(OPT_DIRECT) | TAKES(OPT_QUEUE) | TAKES(OPT_TIMEOUT) | TAKES(OPT_NO_WAIT) | TAKES(OPT_JSON))
#define IN_QUEUE (TAKES(OPT_QUEUE) | LOOKS)
#define CHOICE                                                                                                         \
	(IN_QUEUE | TAKES(OPT_TYPE) | TAKES(OPT_ERROR) | TAKES(OPT_OLDER_THAN) | TAKES(OPT_NEWER_THAN) |               \
	 TAKES(OPT_LIMIT))

static const struct command jobs[] = {
	{"translate", "TEXT...", "translate texts", WAITING | TAKES(OPT_PAIR), 1, SIZE_MAX, cli_translate,
	 "Each TEXT is one job; - is all of standard input as one text, without its last line break. All\n"
	 "are submitted, then their translations are printed in this order: one text as it is; of\n"
	 "several each on one line, with its line breaks as \\n and its backslashes as \\\\, and an empty\n"
	 "line where a job failed.\n\n"
	 "With --direct the API is called from here, one text after the other, with the API keys of this\n"
	 "machine's settings: no Redis, no worker, no queue; results and errors are the same.\n\n"
	 "Failures are told on standard error. Exit code: 0 all succeeded, 1 a job failed, 69 Redis, or with\n"
	 "--direct the API, cannot be reached, 75 a result did not come in time (the job goes on; see adwuma\n"
	 "result).",
	 "  adwuma translate 'Good morning' 'How are you?'\n"
	 "  adwuma translate --pair en-ee --json 'Thank you'\n"
	 "  adwuma translate - < letter.txt > letter.tw.txt"},
	{"transcribe", "FILE...", "turn speech in audio files into text",
	 WAITING | TAKES(OPT_LANGUAGE) | TAKES(OPT_TIMESTAMPS) | TAKES(OPT_FORMAT) | TAKES(OPT_OUTPUT_DIR), 1, SIZE_MAX,
	 cli_transcribe,
	 "Each FILE is one job; - is standard input. The files travel through Redis, so the worker may\n"
	 "be on any machine; they expire there with the time that results live (result_ttl_s). All are\n"
	 "submitted, then the texts are printed in this order: one text as it is; of several each on one\n"
	 "line, with its line breaks as \\n and its backslashes as \\\\, and an empty line where a job\n"
	 "failed.\n\n"
	 "With -d each goes into a file in DIR instead, named like FILE with its ending replaced: speech.txt\n"
	 "of speech.wav; .json, .srt or .vtt with that --format. A file appears whole or not at all, and\n"
	 "replaces one of its name; a failed job leaves it untouched. Two FILEs that would get one name are\n"
	 "refused. Subtitles of several FILEs need -d.\n\n"
	 "With --direct the API is called from here, as adwuma help translate says.\n\n"
	 "Failures are told on standard error. Exit code: 0 all succeeded, 1 a job failed, 2 a file\n"
	 "cannot be used (then nothing was submitted), 75 a result did not come in time (the job goes\n"
	 "on; see adwuma result).",
	 "  adwuma transcribe speech.wav\n"
	 "  adwuma transcribe --language twi --timestamps word --format json speech.wav\n"
	 "  adwuma transcribe --format srt speech.wav > speech.srt\n"
	 "  adwuma transcribe -d texts recordings/*.wav"},
	{"synthesize", "TEXT...", "turn text into speech",
	 WAITING | TAKES(OPT_LANGUAGE) | TAKES(OPT_SPEAKER) | TAKES(OPT_AUDIO_FORMAT) | TAKES(OPT_OUTPUT) |
		 TAKES(OPT_OUTPUT_DIR),
	 1, SIZE_MAX, cli_synthesize,
	 "Each TEXT is one job; - is all of standard input as one text, without its last line break.\n"
	 "Without -o the names of the keys are printed that hold the audio in Redis, until their results\n"
	 "expire. With -o (one TEXT only) the audio is fetched, checked against its checksum, and put in\n"
	 "FILE's place in one step; a failed job leaves FILE untouched. With -d that of each TEXT is put\n"
	 "into DIR, by number: 1.wav, 2.wav; 01.wav, 02.wav where there are ten. -o - is refused where\n"
	 "standard output is a terminal.\n\n"
	 "With --direct the API is called from here, as adwuma help translate says.\n\n"
	 "Failures are told on standard error. Exit code: 0 all succeeded, 1 a job failed, 2 FILE cannot\n"
	 "be written (then nothing was submitted), 75 a result did not come in time (the job goes on;\n"
	 "see adwuma result).",
	 "  adwuma synthesize 'Maakye' -o maakye.wav\n"
	 "  adwuma synthesize --language ewe 'Akpe' -o - | aplay\n"
	 "  adwuma synthesize --speaker female -d texts 'Maakye' 'Maaha'"},
	{"chat", "TEXT...", "ask a model of TaskingAI, and see its answer come",
	 WAITING | TAKES(OPT_MODEL) | TAKES(OPT_SYSTEM) | TAKES(OPT_NO_STREAM), 1, SIZE_MAX, cli_chat,
	 "Each TEXT is one job, a chat completion; - is all of standard input as one text. Answers are\n"
	 "printed piece by piece as they come, in the order of the TEXTs; where an attempt breaks off and is\n"
	 "made again, standard error says so, and the answer begins anew on a line of its own. An answer that\n"
	 "calls functions is printed as JSON.\n\n"
	 "Ctrl-C cancels what has not ended; standard error says which jobs. With --direct the API is called\n"
	 "from here, with the TASKINGAI_API_KEY of this machine's settings: no Redis, no worker.\n\n"
	 "Exit code: 0 all succeeded, 1 a job failed, 69 Redis, or with --direct the API, cannot be\n"
	 "reached, 75 an answer did not come in time (the job goes on; see adwuma result).",
	 "  adwuma chat --model TpAb12Cd 'What is waakye?'\n"
	 "  adwuma chat -m TpAb12Cd --system 'Answer in Twi.' - < question.txt\n"
	 "  adwuma chat -m TpAb12Cd --no-stream --json 'Maakye' > answer.json"},
	{"call", "TYPE", "any operation of TaskingAI, with its parameters",
	 WAITING | TAKES(OPT_PARAMS) | TAKES(OPT_FILE) | TAKES(OPT_IF_UNSURE), 1, 1, cli_call,
	 "TYPE is taskingai.OPERATION; adwuma operations lists them with their parameters. The parameters\n"
	 "are checked before anything is submitted. Prints the operation's result as one line of JSON, as\n"
	 "the API gave it; with --json the whole result.\n\n"
	 "With --direct the API is called from here, as adwuma help chat says. Exit code: 0 it succeeded,\n"
	 "1 it failed, 2 TYPE or a parameter is wrong (then nothing was submitted), 75 no result came in\n"
	 "time (the job goes on).",
	 "  adwuma call taskingai.list_assistants --params '{\"limit\":5}'\n"
	 "  adwuma call taskingai.upload_file --file notes.txt\n"
	 "  adwuma call taskingai.create_record --params @record.json"},
	{"submit", "[FILE]", "hand in jobs, one JSON object a line", TAKES(OPT_QUEUE), 0, 1, cli_submit,
	 "Reads jobs from FILE, or from standard input without it or with -, one JSON object on each\n"
	 "line; empty lines are skipped. Prints the id of each, in order; a job without \"id\" gets one.\n"
	 "Without --queue a job goes to the queue named like its \"type\" up to the first dot.\n\n"
	 "A line that is no job is told on standard error with its number, and the others go on; so is a\n"
	 "queue that no living worker serves: its name may be misspelt. Exit code: 0 all were accepted,\n"
	 "1 some lines were not, 2 FILE cannot be read, 69 Redis could not be reached (the ids printed so\n"
	 "far were accepted).",
	 "  adwuma submit jobs.jsonl > ids\n"
	 "  echo '{\"type\":\"translate\",\"text\":\"Good morning\"}' | adwuma submit"},
	{"batch", "IN", "a file of jobs into a file of results, however often it is stopped",
	 TAKES(OPT_QUEUE) | TAKES(OPT_INTO) | TAKES(OPT_RETRY_FAILED) | TAKES(OPT_STALL) | TAKES(OPT_CSV) |
		 TAKES(OPT_TEXT_COLUMN) | TAKES(OPT_OUT_COLUMN) | TAKES(OPT_DELIMITER) | TAKES(OPT_PAIR) |
		 TAKES(OPT_LANGUAGE) | TAKES(OPT_TIMESTAMPS) | TAKES(OPT_FORMAT),
	 1, 1, cli_batch,
	 "Reads jobs from IN, one JSON object a line (- is standard input), and writes their results to OUT, a\n"
	 "line for each in the same order; empty lines are skipped, and a line that is no job gets a failed\n"
	 "result. A few thousand jobs are under way at a time, whatever the size of IN.\n\n"
	 "With --csv IN is a table with a header: the texts of --text-column are translated into --out-column,\n"
	 "which is filled where it is there and appended where not. A column is named by its header, or where\n"
	 "none is so named by its number from 1. All other cells, quotes and line breaks stay byte for byte. A row\n"
	 "whose text is blank gets an empty cell and no job. A row that fails gets an empty cell, and its error in\n"
	 "a column of errors, OUT-COLUMN_error; so does one with another number of cells than the header. The last\n"
	 "row gets a line break where it had none.\n\n"
	 "Where IN is a folder its recordings (not those of folders in it) are transcribed, 16 at a time, and OUT\n"
	 "is a folder of their transcripts, made where it is missing: speech.txt of speech.wav, or .json, .srt,\n"
	 ".vtt by --format. Recordings are files that end in .wav .mp3 .ogg .oga .opus .flac .m4a .mp4 .aac .webm\n"
	 ".wma .amr .aif .aiff .3gp; others are passed over. Two whose names differ in their endings alone keep\n"
	 "them: a.wav.txt, a.mp3.txt. One that fails leaves its result in speech.error.json.\n\n"
	 "Stopped at any moment, also by kill -9, the same command goes on where OUT ends: what was done or\n"
	 "submitted is neither sent nor paid again, as long as its result lives (result_ttl_s). Only one batch\n"
	 "writes an OUT at a time. --retry-failed does what failed in OUT once more: of a file it goes over all\n"
	 "of OUT and replaces it at the end. It goes on after a stop, too.\n\n"
	 "Progress and a summary by kind of error are told on standard error. Exit code: 0 all succeeded, 1 some\n"
	 "failed, 2 a file cannot be used, 69 Redis cannot be reached, 75 no result came for too long.",
	 "  adwuma batch jobs.jsonl -o results.jsonl\n"
	 "  adwuma batch --retry-failed jobs.jsonl -o results.jsonl\n"
	 "  adwuma batch words.csv -o words.tw.csv --csv --text-column english --out-column twi --pair en-tw\n"
	 "  adwuma batch recordings -o subtitles --format srt --language twi"},
};

static const struct command views[] = {
	{"result", "ID...", "print results, or say where their jobs are", IN_QUEUE | TAKES(OPT_WAIT) | TAKES(OPT_JSON),
	 1, SIZE_MAX, cli_result,
	 "Prints the result of each ID, in order: its text, the key of its audio, or what else its type\n"
	 "returns; the whole object with --json. Of several IDs each prints one line, with line breaks\n"
	 "as \\n and backslashes as \\\\, and an empty line where there is nothing to print. For an ID\n"
	 "without a result standard error says where the job is: waiting, delayed, running (on which\n"
	 "worker), dead, or unknown; --json prints that as an object, too: id, queue, state, due_at_ms\n"
	 "and worker, null where they are not known. Looks in all `queues`, or in --queue. A connection\n"
	 "that breaks is made anew while --wait lasts.\n\n"
	 "Exit code: 0 all results are there and succeeded, 1 a job failed, 75 none failed but a result\n"
	 "is not there: its job is under way, or unknown; 69 one is not there, and a queue did not answer.",
	 "  adwuma result --wait 60 0193580be2c41f0c9a5d7e3b4a86c2f1\n"
	 "  adwuma result --json 42 43 44"},
	{"stats", "", "counts of jobs and outcomes per queue", IN_QUEUE | TAKES(OPT_WATCH) | TAKES(OPT_JSON), 0, 0,
	 cli_stats,
	 "One line for each of `queues` (or of --queue): whether it is running, paused, and for how long yet,\n"
	 "or has no worker, so that nobody takes from it; jobs that are ready, delayed, running and dead now,\n"
	 "live workers, and how many jobs ended in which way since the queue exists. On a terminal the columns\n"
	 "are aligned, elsewhere they are separated by tabs; with --json each queue is one object.\n\n"
	 "With --watch the same again and again, with rates per second (from the second time on), until\n"
	 "Ctrl-C: on a terminal in place, elsewhere a block with an empty line behind it, with --json an\n"
	 "object for each queue. It goes on through a lost connection; standard error tells.\n\n"
	 "Running are jobs that are in a worker's hands, those that wait there for a thread, too.\n\n"
	 "Exit code: 0, or 69 where a queue has a key of a wrong type, or its node of a cluster is away: it\n"
	 "has no line then, and standard error says why.",
	 "  adwuma stats\n"
	 "  adwuma stats --json --queue translate\n"
	 "  adwuma stats --watch 5"},
	{"workers", "", "who works where on what", IN_QUEUE | TAKES(OPT_JSON), 0, 0, cli_workers,
	 "One line for each worker of each of `queues` (or of --queue): where it runs, how many threads it\n"
	 "has, how many jobs keep it busy (those that it has taken ahead of its threads, too, so there may\n"
	 "be more), how long it is up, whether its lease holds (alive, or dead since when), and the jobs it\n"
	 "has in hand. With --json each is one object; lease_ms is how long the lease still holds, below\n"
	 "zero how long it has run out.\n\n"
	 "Exit code: 0, or 69 where a queue could not be looked at, as adwuma help stats says.",
	 "  adwuma workers\n"
	 "  adwuma workers --json --queue translate"},
	{"doctor", "", "what is wrong, and what mends it", IN_QUEUE | TAKES(OPT_JSON), 0, 0, cli_doctor,
	 "Looks at the settings, who may read files of secrets, and limits of this machine; at Redis: version,\n"
	 "role, persistence, eviction, memory, latency, clock, TLS, and whether its ACL lets our user do what\n"
	 "producers and workers need; at `queues` (or --queue): types of keys, a write that is deleted at once,\n"
	 "pauses, workers, jobs of dead workers, failed jobs; and calls each API with its key for what costs\n"
	 "nothing. Run it where and as whom workers run.\n\n"
	 "With sentinels: whether each answers, all name one master, and the next failover would happen; Redis\n"
	 "is that master. In a cluster: its slots and failing nodes; then each node that has queues of ours is\n"
	 "looked at, which the line names. Where redis_url is of the wrong kind, the right one is told. What\n"
	 "our user may not ask is said to be that, and no more; Redis notes it in ACL LOG.\n\n"
	 "A line for each: ok, warn or BAD, and what was found. Below what is not ok stands what mends it, a\n"
	 "line for the shell; … is for you to fill in, ADMIN a user of Redis who may do that. It changes nothing\n"
	 "itself, and goes on after what is BAD.\n"
	 "With --json one line: an array of objects with check, state (ok, warn, bad), message and mend, which\n"
	 "is null where all is well; in a cluster also node, which is null where it is not about one.\n\n"
	 "Exit code: 0 nothing is BAD, 1 something is, 69 Redis or an API cannot be reached.",
	 "  adwuma doctor\n"
	 "  adwuma doctor --queue translate\n"
	 "  adwuma doctor --json --config /etc/adwuma/adwumad.conf"},
	{"health", "", "whether the worker of this machine is well", TAKES(OPT_READY) | ASKS_WORKER, 0, 0, cli_health,
	 "Asks the worker at admin_listen for its /healthz, with --ready for its /readyz, and prints the\n"
	 "answer. For the health check of a container or a service manager: it says no more than these pages\n"
	 "do, and a worker that waits for Redis is alive.\n\n"
	 "Exit code: 0 it is well, 1 it is not (standard error says why), 69 nobody answers within 5 seconds,\n"
	 "78 admin_listen is off.",
	 "  adwuma health\n"
	 "  adwuma health --ready --admin-listen 127.0.0.1:9465"},
};

static const struct command offers[] = {
	{"operations", "[NAME]", "what operations TaskingAI has, and their parameters", ASKS_API | TAKES(OPT_JSON), 0,
	 1, cli_operations,
	 "Lists the operations that are job types, taskingai.NAME: method and path, whether one is held (not\n"
	 "sent again where nobody knows if it was carried out), whether it can stream, and its parameters,\n"
	 "those that are needed with a *. With NAME one operation, a parameter on each line with its kind and\n"
	 "default. With --json each is one object. Asks nobody.\n\n"
	 "Exit code: 0, or 2 where there is no operation of that name.",
	 "  adwuma operations\n"
	 "  adwuma operations create_record\n"
	 "  adwuma operations --json"},
	{"languages", "[SERVICE]", "what languages the API knows, and their codes", ASKS_API | TAKES(OPT_JSON), 0, 1,
	 cli_languages,
	 "Asks the API itself; no worker and no Redis is needed. SERVICE is translate, asr (recognition) or\n"
	 "tts (synthesis): its codes and their names, by code. Without it one table of all three, by name,\n"
	 "with the code of each language in each service, - where the service does not offer it; the\n"
	 "services spell some codes in their own ways. Pairs for translate are made of two codes, one of\n"
	 "which is English. With --json each language is one object.\n\n"
	 "What fails for a while is tried again, khaya_retry_attempts times in all [3]. Exit code: 0, or 1\n"
	 "where the API answered with an error (what the others answered is printed); without a key 78.",
	 "  adwuma languages\n"
	 "  adwuma languages tts\n"
	 "  adwuma languages asr --json"},
	{"speakers", "", "what voices the API has for synthesize", ASKS_API | TAKES(OPT_JSON), 0, 0, cli_speakers,
	 "Asks the API itself, as adwuma languages does: the voices of each group. With --json each is one\n"
	 "object.\n\n"
	 "Exit code: 0, or 1 where the API answered with an error; without a key 78.",
	 "  adwuma speakers\n"
	 "  adwuma speakers --json"},
};

static const struct command mending[] = {
	{"dead list", "[ID...]", "failed jobs", CHOICE | TAKES(OPT_JSON), 0, SIZE_MAX, cli_dead_list,
	 "The jobs that failed and are kept for a second try, newest first: queue, id, type, error with\n"
	 "its status, when, and its message. All that fit the IDs and filters, in all `queues` or in\n"
	 "--queue. On a terminal the columns are aligned, elsewhere they are separated by tabs; with\n"
	 "--json each is the whole entry as one object.\n\n"
	 "Exit code: 0, 1 where an ID is not among them, or 69 where a queue could not be looked at, as adwuma\n"
	 "help stats says.",
	 "  adwuma dead list --newer-than 1h\n"
	 "  adwuma dead list --error APIError --json --limit 100 > dead.jsonl"},
	{"dead show", "[ID...]", "all that is known of failed jobs", CHOICE | TAKES(OPT_ALL) | TAKES(OPT_JSON), 0,
	 SIZE_MAX, cli_dead_show,
	 "Everything about the failed jobs that fit the IDs and filters, newest first: the error in full\n"
	 "and the job itself; with --json each is one object. A job that is not JSON is shown as a\n"
	 "string, one that is not even UTF-8 in base64; they have no id, so filters find them.\n\n"
	 "Exit code: as of adwuma dead list.",
	 "  adwuma dead show 42\n"
	 "  adwuma dead show --error InvalidJobError --limit 3 --json"},
	{"dead retry", "[ID...]", "put failed jobs back into their queues", CHOICE | TAKES(OPT_ALL), 0, SIZE_MAX,
	 cli_dead_retry,
	 "Puts the failed jobs that fit the IDs and filters back, oldest first, behind all that wait, with\n"
	 "their tries counted anew (an expires_at_ms that has passed is left out); prints their ids.\n"
	 "The old result of each is deleted in the same step, so that there can be a new one. Each job\n"
	 "moves in one step: it may be stopped at any point and run again, also several at once, and no job\n"
	 "is lost or doubled. Jobs that fail meanwhile are not taken twice.\n\n"
	 "What cannot run again (no JSON object, or no usable id) is told and stays. Exit code: 0, 1 where an\n"
	 "ID was not there or something stayed, or 69 where a queue could not be looked at, as adwuma help\n"
	 "stats says.",
	 "  adwuma dead retry 43\n"
	 "  adwuma dead retry --error APIError --newer-than 2h\n"
	 "  adwuma dead retry --older-than 7d --queue bulk --limit 100 > ids"},
	{"dead purge", "[ID...]", "delete failed jobs for good", CHOICE | TAKES(OPT_ALL), 0, SIZE_MAX, cli_dead_purge,
	 "Deletes the failed jobs that fit the IDs and filters, oldest first, and says how many they were.\n"
	 "Their results stay until they expire.\n\n"
	 "Exit code: as of adwuma dead list.",
	 "  adwuma dead purge 44\n"
	 "  adwuma dead purge --older-than 30d\n"
	 "  adwuma dead purge --all --queue translate"},
	{"cancel", "ID...", "take jobs back", IN_QUEUE, 1, SIZE_MAX, cli_cancel,
	 "Tells the workers that these jobs are no longer wanted, in the queues where they are: one that\n"
	 "waits is not begun, one that is delayed is due at once, a call that runs is aborted. Each then\n"
	 "has a failed result with CancelledError; adwuma result --wait S waits for it. A queue without\n"
	 "workers writes no results.\n\n"
	 "With --queue an id that is not there yet is cancelled in advance, for as long as results live\n"
	 "(result_ttl_s). Where Redis does not let us look where jobs are, it takes --queue. Exit code: 0,\n"
	 "1 where a job has ended already or is unknown, or 69 where one is unknown and a queue could not be\n"
	 "looked at, as adwuma help stats says.",
	 "  adwuma cancel 45\n"
	 "  adwuma cancel --queue translate 7 8 9"},
	{"pause", "Q...", "let no worker begin jobs of a queue", TAKES(OPT_FOR) | TAKES(OPT_REASON), 1, SIZE_MAX,
	 cli_pause,
	 "From a second on no worker begins a job of these queues; what runs comes to its end. It holds\n"
	 "until adwuma resume, or for the time of --for. A pause that is there already is replaced. Who\n"
	 "paused, when, and the --reason are kept beside it: adwuma stats --json shows them.\n\n"
	 "Exit code: 0, or 69 where Redis refused for one of them, or its node of a cluster is away; the\n"
	 "others are paused.",
	 "  adwuma pause translate --for 10m --reason 'the API is in maintenance'\n"
	 "  adwuma pause transcribe synthesize"},
	{"resume", "Q...", "let workers go on after a pause", 0, 1, SIZE_MAX, cli_resume,
	 "Ends the pause of these queues, and says of each whether there was one.\n\n"
	 "Exit code: as of adwuma pause.",
	 "  adwuma resume translate transcribe synthesize"},
};

static const struct group {
	const char *title;
	const struct command *commands;
	size_t n;
} groups[] = {
	{"Jobs", jobs, sizeof jobs / sizeof *jobs},
	{"Look", views, sizeof views / sizeof *views},
	{"Offers of the API", offers, sizeof offers / sizeof *offers},
	{"Mend", mending, sizeof mending / sizeof *mending},
};
#define GROUPS (sizeof groups / sizeof *groups)

/* How many words of a command's name stand there: all, or none. */
static size_t match(const char *name, char *const *words)
{
	size_t first = strcspn(name, " ");

	if (!words[0] || strlen(words[0]) != first || strncmp(words[0], name, first) != 0)
		return 0;
	if (!name[first])
		return 1;
	return words[1] && strcmp(words[1], name + first + 1) == 0 ? 2 : 0;
}

const struct command *command_find(char *const *words, size_t *nwords)
{
	for (size_t g = 0; g < GROUPS; g++) {
		for (size_t i = 0; i < groups[g].n; i++) {
			*nwords = match(groups[g].commands[i].name, words);
			if (*nwords > 0)
				return &groups[g].commands[i];
		}
	}
	return NULL;
}

const struct command *command_of_group(const char *word, const struct command *after)
{
	size_t n = strlen(word);

	for (size_t g = 0; g < GROUPS; g++) {
		for (size_t i = 0; i < groups[g].n; i++) {
			const struct command *command = &groups[g].commands[i];

			if (!after && strncmp(command->name, word, n) == 0 && command->name[n] == ' ')
				return command;
			if (command == after)
				after = NULL;
		}
	}
	return NULL;
}

void commands_print(FILE *to)
{
	for (size_t g = 0; g < GROUPS; g++) {
		fprintf(to, "%s%s:\n", g ? "\n" : "", groups[g].title);
		for (size_t i = 0; i < groups[g].n; i++) {
			const struct command *command = &groups[g].commands[i];

			fprintf(to, "  %-11s %-9s %s\n", command->name, command->operands, command->summary);
		}
	}
}
