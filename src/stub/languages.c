/* SPDX-License-Identifier: MIT
 *
 * See languages.h. */
#include "stub/languages.h"

#include <stdbool.h>
#include <string.h>

/* An older spelling that every service knows which offers the language. */
#define LEGACY(code)                                                                                                   \
	{                                                                                                              \
		code, code, code                                                                                       \
	}
#define NO_LEGACY                                                                                                      \
	{                                                                                                              \
		NULL, NULL, NULL                                                                                       \
	}
/* Names in the catalogues of translation, recognition and synthesis. */
#define SAME(name)                                                                                                     \
	{                                                                                                              \
		name, name, name                                                                                       \
	}
#define SPEECH(name)                                                                                                   \
	{                                                                                                              \
		NULL, name, name                                                                                       \
	}

static const struct language languages[] = {
	{"eng", {"en", NULL, NULL}, "en_gh", {"English", "African English", "English"}},
	{"fra", NO_LEGACY, NULL, {NULL, "African French", "French"}},
	{"atw", NO_LEGACY, NULL, SPEECH("Akuapem Twi")},
	{"twi", LEGACY("tw"), NULL, {"Twi", "Twi", "Asante Twi"}},
	{"fat", NO_LEGACY, NULL, SAME("Fante")},
	{"ewe", LEGACY("ee"), NULL, SAME("Ewe")},
	{"gaa", NO_LEGACY, NULL, SAME("Ga")},
	{"ada", NO_LEGACY, NULL, SPEECH("Dangme")},
	{"dag", NO_LEGACY, NULL, SAME("Dagbani")},
	{"dga", NO_LEGACY, NULL, SPEECH("Dagaare")},
	{"gur", NO_LEGACY, NULL, {"Gurene", "Gurune", "Gurune"}},
	{"kus", NO_LEGACY, NULL, SAME("Kusaal")},
	{"maw", NO_LEGACY, "mam", SPEECH("Mampruli")},
	{"wlx", NO_LEGACY, "wal", SPEECH("Wali")},
	{"bwu", NO_LEGACY, NULL, {NULL, "Buli", NULL}},
	{"xsm", NO_LEGACY, "kas", SPEECH("Kasem")},
	{"gjn", NO_LEGACY, "gon", SPEECH("Gonja")},
	{"xon_likoonli", NO_LEGACY, "kon_k", {NULL, "Konkomba, Likoonli", NULL}},
	{"xon_likpakpaanl", NO_LEGACY, "kon_l", {NULL, "Konkomba, Likpakpaanl", NULL}},
	{"lxn", NO_LEGACY, NULL, {NULL, NULL, "Konkomba, Likoonli"}},
	{"xon", NO_LEGACY, NULL, {NULL, NULL, "Konkomba, Likpakpaanl"}},
	{"nzi", NO_LEGACY, NULL, SPEECH("Nzema")},
	{"hau", LEGACY("ha"), NULL, SPEECH("Hausa")},
	{"ibo", LEGACY("ig"), NULL, SPEECH("Igbo")},
	{"yor", LEGACY("yo"), NULL, SAME("Yoruba")},
	{"pcm", NO_LEGACY, "pid", {NULL, "Naija Pidgin", "Pidgin"}},
	{"kri", NO_LEGACY, NULL, SPEECH("Krio")},
	{"men", NO_LEGACY, NULL, SPEECH("Mende")},
	{"tem", NO_LEGACY, NULL, SPEECH("Temne")},
	{"wol", NO_LEGACY, "wo", SPEECH("Wolof")},
	{"swa", LEGACY("sw"), NULL, SPEECH("Swahili")},
	{"kik", LEGACY("ki"), NULL, SAME("Kikuyu")},
	{"luo", NO_LEGACY, NULL, SAME("Luo")},
	{"mer", NO_LEGACY, NULL, {"Kimeru", "Meru", "Meru"}},
	{"kin", NO_LEGACY, NULL, {NULL, "Kinyarwanda", NULL}},
	{"sna", LEGACY("sn"), NULL, SPEECH("Shona")},
};

static bool is(const char *spelling, const char *code, size_t n)
{
	return spelling && strlen(spelling) == n && memcmp(spelling, code, n) == 0;
}

const struct language *language_find(enum service service, const char *code, size_t n, enum spelling *spelling)
{
	for (const struct language *l = NULL; (l = language_next(service, l));) {
		*spelling = is(l->code, code, n)	    ? SPELLING_NOW
			  : is(l->legacy[service], code, n) ? SPELLING_LEGACY
							    : SPELLING_WRONG;
		if (*spelling != SPELLING_WRONG || is(l->wrong, code, n))
			return l;
	}
	return NULL;
}

const struct language *language_next(enum service service, const struct language *l)
{
	const struct language *end = languages + sizeof languages / sizeof *languages;

	for (l = l ? l + 1 : languages; l < end; l++)
		if (l->name[service])
			return l;
	return NULL;
}
