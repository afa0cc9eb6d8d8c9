/* SPDX-License-Identifier: MIT
 *
 * The turn script's answer: only one of the right shape may reach the worker. */
#include <check.h>
#include <hiredis/hiredis.h>
#include <string.h>

#include "queue/turn.h"

#define NONE "$0\r\n\r\n"

static const struct {
	const char *reply, *victim;
	size_t nsettle, nslots, nclaimed; /* claimed in vain: another shape */
	enum claim_state state;
} cases[] = {
	{"*3\r\n" NONE NONE ":0\r\n", "", 0, 0, 0, CLAIM_FULL},
	{"*5\r\n$2\r\n1f\r\n$1\r\ne\r\n:1\r\n$1\r\na\r\n" NONE, "", 2, 2, 2, CLAIM_EMPTY},
	{"*3\r\n" NONE "$1\r\na\r\n:0\r\n", "w", 1, 0, 0, CLAIM_VICTIM_ALIVE},
	{"*3\r\n" NONE "$1\r\na\r\n:0\r\n", "", 1, 0, SIZE_MAX, 0},	 /* nobody was named */
	{"*3\r\n$1\r\n1\r\n" NONE ":0\r\n", "", 2, 0, SIZE_MAX, 0},	 /* a letter is missing */
	{"*4\r\n" NONE NONE ":0\r\n$1\r\na\r\n", "", 0, 0, SIZE_MAX, 0}, /* nothing was claimed */
	{"*4\r\n" NONE NONE ":0\r\n:5\r\n", "", 0, 1, SIZE_MAX, 0},	 /* a payload that is no string */
	{"*4\r\n" NONE NONE ":0\r\n$-1\r\n", "", 0, 1, SIZE_MAX, 0},
	{"*3\r\n" NONE "$1\r\nz\r\n:0\r\n", "", 0, 0, SIZE_MAX, 0}, /* no such state */
	{"*3\r\n" NONE "$2\r\nee\r\n:0\r\n", "", 0, 0, SIZE_MAX, 0},
	{"*2\r\n" NONE NONE, "", 0, 0, SIZE_MAX, 0},
	{"+OK\r\n", "", 0, 0, SIZE_MAX, 0},
};

START_TEST(only_the_right_shape_passes)
{
	struct turn_request q = {.victim = cases[_i].victim, .nsettle = cases[_i].nsettle, .nslots = cases[_i].nslots};
	struct turn_answer a = {0};
	struct error err = {0};
	redisReader *reader = redisReaderCreate();
	void *reply = NULL;

	redisReaderFeed(reader, cases[_i].reply, strlen(cases[_i].reply));
	ck_assert_int_eq(redisReaderGetReply(reader, &reply), REDIS_OK);
	ck_assert_ptr_nonnull(reply);
	if (cases[_i].nclaimed == SIZE_MAX) {
		ck_assert_int_eq(turn_read(reply, &q, &a, &err), -1);
		ck_assert_int_eq(err.code, ERR_REFUSED);
	} else {
		ck_assert_int_eq(turn_read(reply, &q, &a, &err), 0);
		ck_assert_int_eq(a.state, cases[_i].state);
		ck_assert_uint_eq(a.nclaimed, cases[_i].nclaimed);
	}
	reply_free(reply);
	redisReaderFree(reader);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("turn");
	TCase *t = tcase_create("all");
	SRunner *r;
	int failed;

	tcase_add_loop_test(t, only_the_right_shape_passes, 0, sizeof cases / sizeof *cases);
	suite_add_tcase(s, t);
	r = srunner_create(s);
	srunner_run_all(r, CK_ENV);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed != 0;
}
