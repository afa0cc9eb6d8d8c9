/* SPDX-License-Identifier: MIT
 *
 * WAV files as encoders, streams and broken tools write them: parsed, repaired, joined. */
#include <check.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "audio/wav.h"

#define GUID_REST "\0\0\0\0\x10\0\x80\0\0\xaa\0\x38\x9b\x71"

static struct buf file, other, out;
static struct wav_info info;
static struct error err;

static void setup(void)
{
	file = other = out = BUF_INIT(1 << 20);
	err = (struct error){0};
	srand(1);
}

static void teardown(void)
{
	buf_release(&file);
	buf_release(&other);
	buf_release(&out);
}

/* --- Files are put together here by the letter of the format, not with what is tested. ------------------------------ */

static void le(struct buf *b, uint64_t n, int bytes)
{
	for (; bytes-- > 0; n >>= 8)
		buf_char(b, (char)(n & 0xff));
}

static void set32(struct buf *b, size_t at, uint32_t n)
{
	for (int i = 0; i < 4; i++)
		b->ptr[at + (size_t)i] = (char)(n >> 8 * i & 0xff);
}

static uint32_t at32(const struct buf *b, size_t at)
{
	uint32_t n = 0;

	for (int i = 3; i >= 0; i--)
		n = n << 8 | (unsigned char)b->ptr[at + (size_t)i];
	return n;
}

static void chunk(struct buf *b, const char *id, const char *bytes, size_t n)
{
	buf_add(b, id, 4);
	le(b, n, 4);
	buf_add(b, bytes, n);
	if (n & 1)
		buf_char(b, '\0');
}

static void begin(struct buf *b)
{
	buf_clear(b);
	buf_lit(b, "RIFF\0\0\0\0WAVE");
}

static void fmt(struct buf *b, unsigned tag, unsigned channels, unsigned rate, unsigned bits)
{
	buf_lit(b, "fmt \x10\0\0\0");
	le(b, tag, 2);
	le(b, channels, 2);
	le(b, rate, 4);
	le(b, (uint64_t)rate * channels * bits / 8, 4);
	le(b, (uint64_t)channels * bits / 8, 2);
	le(b, bits, 2);
}

/* The size of the chunk that begins at `at` becomes n. */
static void resize(struct buf *b, size_t at, uint32_t n)
{
	set32(b, at + 4, n);
}

static void end(struct buf *b)
{
	set32(b, 4, (uint32_t)b->len - 8);
}

/* 44 bytes of header, then the samples. */
static void plain(struct buf *b, unsigned tag, unsigned channels, unsigned rate, unsigned bits, const char *data,
		  size_t n)
{
	begin(b);
	fmt(b, tag, channels, rate, bits);
	chunk(b, "data", data, n);
	end(b);
}

/* As the API answers: 18 bytes of fmt, a fact chunk, samples at byte 58. */
static void khaya(struct buf *b, const char *data, size_t n)
{
	begin(b);
	fmt(b, 3, 1, 16000, 32);
	resize(b, 12, 18);
	le(b, 0, 2);
	buf_lit(b, "fact\4\0\0\0");
	le(b, n / 4, 4);
	chunk(b, "data", data, n);
	end(b);
}

static void extensible(struct buf *b, unsigned tag, unsigned bits, const char *guid_rest, const char *data, size_t n)
{
	begin(b);
	fmt(b, 0xfffe, 1, 16000, bits);
	resize(b, 12, 40);
	le(b, 22, 2);
	le(b, bits, 2);
	le(b, 4, 4);
	le(b, tag, 2);
	buf_add(b, guid_rest, 14);
	chunk(b, "data", data, n);
	end(b);
}

/* In a block of exactly its size, so that a sanitizer sees each byte read beyond it. */
static int parse(const struct buf *b)
{
	char *exact = malloc(b->len ? b->len : 1);
	int rc;

	memcpy(exact, buf_cstr(b), b->len);
	rc = wav_parse(exact, b->len, &info, &err);
	free(exact);
	return rc;
}

static void check_error(const char *part)
{
	ck_assert_int_eq(err.code, ERR_INVALID);
	ck_assert_msg(strstr(err.msg, part), "'%s' lacks '%s'", err.msg, part);
}

static void check_same(const struct buf *a, const struct buf *b)
{
	ck_assert_uint_eq(a->len, b->len);
	ck_assert(a->len == 0 || memcmp(a->ptr, b->ptr, a->len) == 0);
}

/* --- Parsing. ----------------------------------------------------------------------------------------------------- */

START_TEST(a_plain_file)
{
	plain(&file, 1, 2, 8000, 16, "abcdefgh", 8);
	ck_assert_int_eq(parse(&file), 0);
	ck_assert_uint_eq(info.tag, WAV_PCM);
	ck_assert_uint_eq(info.channels, 2);
	ck_assert_uint_eq(info.rate_hz, 8000);
	ck_assert_uint_eq(info.bits, 16);
	ck_assert_uint_eq(info.frame_bytes, 4);
	ck_assert_uint_eq(info.data_at, 44);
	ck_assert_uint_eq(info.data_bytes, 8);
	ck_assert_uint_eq(info.frames, 2);
	ck_assert_double_eq(info.seconds, 2.0 / 8000);
	ck_assert_uint_eq(info.fmt_at, 20);
	ck_assert_uint_eq(info.fmt_bytes, 16);
	ck_assert_uint_eq(info.fact_at, 0);
	ck_assert(!info.open && info.valid);
}
END_TEST

START_TEST(a_file_as_the_api_gives_it)
{
	khaya(&file, "abcdefgh", 8);
	ck_assert_int_eq(parse(&file), 0);
	ck_assert_uint_eq(info.tag, WAV_FLOAT);
	ck_assert_uint_eq(info.data_at, 58);
	ck_assert_uint_eq(info.frames, 2);
	ck_assert_uint_eq(info.fact_at, 46);
	ck_assert(info.valid);
}
END_TEST

START_TEST(an_extensible_format_tells_the_real_one)
{
	extensible(&file, 3, 32, GUID_REST, "abcd", 4);
	ck_assert_int_eq(parse(&file), 0);
	ck_assert_uint_eq(info.tag, WAV_FLOAT);
	extensible(&file, 1, 16, GUID_REST, "abcd", 4);
	ck_assert_int_eq(parse(&file), 0);
	ck_assert_uint_eq(info.tag, WAV_PCM);
	ck_assert_uint_eq(info.frames, 2);
	extensible(&file, 1, 16, "another GUID..", "abcd", 4);
	ck_assert_int_eq(parse(&file), -1);
	check_error("extensible");
	extensible(&file, 0xfffe, 16, GUID_REST, "abcd", 4);
	ck_assert_int_eq(parse(&file), -1);
	check_error("65534");
	extensible(&file, 1, 16, GUID_REST, "", 0);
	resize(&file, 12, 24); /* ends inside the GUID */
	ck_assert_int_eq(parse(&file), -1);
	check_error("extensible");
}
END_TEST

START_TEST(other_chunks_are_skipped)
{
	begin(&file);
	chunk(&file, "LIST", "odd", 3);
	chunk(&file, "JUNK", "", 0);
	fmt(&file, 1, 1, 16000, 16);
	chunk(&file, "fact", "xy", 2); /* too short to say anything */
	chunk(&file, "data", "abcd", 4);
	chunk(&file, "LIST", "after", 5);
	end(&file);
	ck_assert_int_eq(parse(&file), 0);
	ck_assert_uint_eq(info.data_at, 12 + 12 + 8 + 24 + 10 + 8);
	ck_assert_uint_eq(info.frames, 2);
	ck_assert_uint_eq(info.fact_at, 0);
	ck_assert(info.valid);
}
END_TEST

START_TEST(the_first_format_counts)
{
	begin(&file);
	fmt(&file, 1, 1, 16000, 16);
	fmt(&file, 1, 2, 8000, 16);
	chunk(&file, "data", "abcd", 4);
	ck_assert_int_eq(parse(&file), 0);
	ck_assert_uint_eq(info.channels, 1);
}
END_TEST

static const uint32_t no_sizes[] = {0xffffffff, 0x7fffffff, 0xffffffff - 36, 0, 9, 1000};

START_TEST(a_size_left_open_means_to_the_end)
{
	plain(&file, 1, 1, 16000, 16, "abcdefg", 7);
	buf_cut(&file, 44 + 7); /* no pad byte: the stream broke off within a sample */
	resize(&file, 36, no_sizes[_i]);
	ck_assert_int_eq(parse(&file), 0);
	ck_assert(info.open && !info.valid);
	ck_assert_uint_eq(info.data_bytes, 6);
	ck_assert_uint_eq(info.frames, 3);
	ck_assert_double_eq(info.seconds, 3.0 / 16000);
}
END_TEST

START_TEST(a_size_that_is_possible_is_believed)
{
	plain(&file, 1, 1, 16000, 16, "abcdefg", 7); /* and a pad byte */
	ck_assert_int_eq(parse(&file), 0);
	ck_assert(!info.open && info.valid);
	ck_assert_uint_eq(info.data_bytes, 6);
	buf_cut(&file, file.len - 1); /* writers that forget the pad byte */
	end(&file);
	ck_assert_int_eq(parse(&file), 0);
	ck_assert(!info.open && info.valid);
	plain(&file, 1, 1, 16000, 16, "", 0);
	ck_assert_int_eq(parse(&file), 0);
	ck_assert(!info.open && info.valid && info.frames == 0 && info.data_at == 44);
	ck_assert_double_eq(info.seconds, 0);
}
END_TEST

START_TEST(the_size_of_the_whole_is_judged)
{
	static const struct {
		uint32_t size;
		bool valid;
	} sizes[] = {{0, false}, {0xffffffff, false}, {39, false}, {40, true}, {45, true}, {46, false}};

	for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
		plain(&file, 1, 1, 16000, 16, "abcd", 4);
		buf_lit(&file, "trash");
		resize(&file, 0, sizes[i].size);
		ck_assert_int_eq(parse(&file), 0);
		ck_assert(!info.open && info.frames == 2);
		ck_assert_int_eq(info.valid, sizes[i].valid);
	}
}
END_TEST

START_TEST(a_beginning_is_enough_for_a_large_file)
{
	plain(&file, 1, 1, 16000, 16, "abcd", 4);
	resize(&file, 36, 3200000000);
	ck_assert_int_eq(wav_parse_head(file.ptr, file.len, 44 + 3200000000, &info, &err), 0);
	ck_assert(!info.open && !info.valid); /* the size of the whole was not told */
	ck_assert_double_eq(info.seconds, 100000);
	resize(&file, 36, 0xffffffff);
	ck_assert_int_eq(wav_parse_head(file.ptr, file.len, 44 + 32000, &info, &err), 0);
	ck_assert(info.open);
	ck_assert_double_eq(info.seconds, 1);
	ck_assert_int_eq(wav_parse_head(file.ptr, file.len, 44 + 6400000001, &info, &err), 0);
	ck_assert(info.open);
	ck_assert_double_eq(info.seconds, 200000);
	ck_assert_uint_eq(info.data_bytes, 6400000000);
	ck_assert_int_eq(wav_parse_head(file.ptr, 44, 1000, &info, &err), 0);
	ck_assert_int_eq(wav_parse_head(file.ptr, 43, 1000, &info, &err), -1);
	check_error("the first 43 bytes");
	ck_assert_int_eq(wav_parse_head(file.ptr, file.len, 43, &info, &err), -1); /* a file that says less */
	check_error("no data");
	begin(&file);
	fmt(&file, 1, 1, 16000, 16);
	chunk(&file, "LIST", "some words", 10);
	ck_assert_int_eq(wav_parse_head(file.ptr, file.len - 1, 1000, &info, &err), -1);
	check_error("the first 53 bytes");
}
END_TEST

static void broken_riff(void)
{
	memcpy(file.ptr, "RIFX", 4);
}

static void broken_wave(void)
{
	memcpy(file.ptr + 8, "AVI ", 4);
}

static void short_riff(void)
{
	buf_cut(&file, 11);
}

static void no_chunks(void)
{
	buf_cut(&file, 12);
}

static void cut_chunk(void)
{
	buf_cut(&file, 12 + 7);
}

static void no_data(void)
{
	buf_cut(&file, 36);
}

static void no_format(void)
{
	memcpy(file.ptr + 12, "fmx ", 4);
}

static void short_format(void)
{
	begin(&file);
	chunk(&file, "fmt ", "123456789012345", 15);
	chunk(&file, "data", "ab", 2);
}

static void long_format(void)
{
	resize(&file, 12, 0xfffffffe);
}

static void mp3_inside(void)
{
	file.ptr[20] = 0x55;
}

static void no_channels(void)
{
	file.ptr[22] = 0;
}

static void no_rate(void)
{
	file.ptr[24] = file.ptr[25] = 0;
}

static void no_bits(void)
{
	file.ptr[34] = 0;
}

static void no_frame(void)
{
	file.ptr[32] = 0;
}

static void small_frame(void)
{
	file.ptr[22] = 2;
}

static const struct {
	void (*breaks)(void);
	const char *says;
} faults[] = {
	{broken_riff, "does not begin with RIFF"},
	{broken_wave, "does not begin with RIFF"},
	{short_riff, "does not begin with RIFF"},
	{no_chunks, "no data chunk"},
	{cut_chunk, "no data chunk"},
	{no_data, "no data chunk"},
	{no_format, "no fmt chunk"},
	{short_format, "fmt chunk has 15 bytes"},
	{long_format, "chunk at byte 12"},
	{mp3_inside, "format tag 85"},
	{no_channels, "0 channels"},
	{no_rate, "at 0 Hz"},
	{no_bits, "0 bits"},
	{no_frame, "frames of 0 bytes"},
	{small_frame, "2 channels of 16 bits do not fit into frames of 2 bytes"},
};

START_TEST(what_is_wrong_is_said)
{
	plain(&file, 1, 1, 16000, 16, "abcd", 4);
	faults[_i].breaks();
	ck_assert_int_eq(parse(&file), -1);
	check_error(faults[_i].says);
	ck_assert_int_eq(wav_repair(&file, &err), -1);
	check_error(faults[_i].says);
}
END_TEST

START_TEST(nothing_is_no_file)
{
	ck_assert_int_eq(wav_parse("", 0, &info, &err), -1);
	check_error("no WAV file");
	ck_assert_int_eq(wav_repair(&file, &err), -1);
	check_error("no WAV file");
}
END_TEST

/* --- Repair. ------------------------------------------------------------------------------------------------------ */

START_TEST(a_valid_file_is_not_touched)
{
	khaya(&file, "abcdefgh", 8);
	chunk(&file, "LIST", "after", 5);
	end(&file);
	buf_lit(&file, "trash");
	buf_add(&other, file.ptr, file.len);
	ck_assert_int_eq(wav_repair(&file, &err), 0);
	check_same(&file, &other);
}
END_TEST

START_TEST(a_stream_becomes_a_file)
{
	khaya(&file, "abcdefghij", 10); /* two frames and a half */
	resize(&file, 0, 0xffffffff);
	set32(&file, 46, 0xffffffff);
	resize(&file, 50, no_sizes[_i] == 9 ? 11 : no_sizes[_i]);
	ck_assert_int_eq(wav_repair(&file, &err), 0);
	khaya(&other, "abcdefgh", 8);
	check_same(&file, &other);
	ck_assert_int_eq(parse(&file), 0);
	ck_assert(info.valid && !info.open);
}
END_TEST

START_TEST(an_odd_stream_gets_its_pad_byte)
{
	plain(&file, 1, 1, 16000, 8, "abc", 3);
	buf_cut(&file, 47);
	resize(&file, 36, 0xffffffff);
	ck_assert_int_eq(wav_repair(&file, &err), 0);
	plain(&other, 1, 1, 16000, 8, "abc", 3);
	check_same(&file, &other);
	buf_cut(&file, 47);
	resize(&file, 36, 0);
	file.max = 47;
	ck_assert_int_eq(wav_repair(&file, &err), -1);
	ck_assert_int_eq(err.code, ERR_MEMORY);
}
END_TEST

START_TEST(the_size_of_the_whole_alone_is_repaired)
{
	plain(&file, 1, 1, 16000, 16, "abcd", 4);
	chunk(&file, "LIST", "x", 1);
	end(&file);
	buf_add(&other, file.ptr, file.len);
	resize(&file, 0, 0);
	ck_assert_int_eq(wav_repair(&file, &err), 0);
	check_same(&file, &other);
}
END_TEST

/* --- Joining. ----------------------------------------------------------------------------------------------------- */

static struct wav_join join;

static int add(const struct buf *part)
{
	char *exact = malloc(part->len ? part->len : 1);
	int rc;

	memcpy(exact, buf_cstr(part), part->len);
	rc = wav_join_add(&join, exact, part->len, &err);
	free(exact);
	return rc;
}

START_TEST(one_part_stays_as_it_is)
{
	khaya(&file, "abcdefgh", 8);
	chunk(&file, "LIST", "after", 5);
	end(&file);
	buf_lit(&out, "of another job");
	wav_join_begin(&join, &out);
	ck_assert_int_eq(add(&file), 0);
	ck_assert_int_eq(wav_join_end(&join, &err), 0);
	check_same(&out, &file);
}
END_TEST

START_TEST(one_streamed_part_is_repaired)
{
	khaya(&file, "abcdefghi", 9);
	resize(&file, 50, 0x7fffffff);
	wav_join_begin(&join, &out);
	ck_assert_int_eq(add(&file), 0);
	ck_assert_int_eq(wav_join_end(&join, &err), 0);
	khaya(&other, "abcdefgh", 8);
	check_same(&out, &other);
}
END_TEST

START_TEST(parts_become_one_file)
{
	khaya(&file, "abcdefgh", 8);
	wav_join_begin(&join, &out);
	ck_assert_int_eq(add(&file), 0);
	khaya(&file, "ijklmnopq", 9); /* streamed, and broken off within a frame */
	resize(&file, 50, 0xffffffff);
	ck_assert_int_eq(add(&file), 0);
	begin(&file);
	chunk(&file, "LIST", "before", 6);
	fmt(&file, 3, 1, 16000, 32);
	chunk(&file, "data", "rstu", 4);
	chunk(&file, "LIST", "after", 5);
	end(&file);
	ck_assert_int_eq(add(&file), 0);
	ck_assert_int_eq(wav_join_end(&join, &err), 0);
	khaya(&other, "abcdefghijklmnoprstu", 20);
	check_same(&out, &other);
}
END_TEST

/* The header in front of the first part's samples may shrink or grow. */
START_TEST(the_header_is_written_anew)
{
	begin(&file);
	chunk(&file, "LIST", "words that stay behind", 22);
	fmt(&file, 1, 1, 16000, 16);
	chunk(&file, "data", "abcd", 4);
	end(&file);
	wav_join_begin(&join, &out);
	ck_assert_int_eq(add(&file), 0);
	plain(&file, 1, 1, 16000, 16, "efgh", 4);
	ck_assert_int_eq(add(&file), 0);
	ck_assert_int_eq(wav_join_end(&join, &err), 0);
	plain(&other, 1, 1, 16000, 16, "abcdefgh", 8);
	check_same(&out, &other);

	plain(&file, 3, 1, 16000, 32, "abcd", 4); /* no fact chunk, but there must be one */
	buf_release(&out);
	wav_join_begin(&join, &out);
	ck_assert_int_eq(add(&file), 0);
	ck_assert_int_eq(add(&file), 0);
	ck_assert_int_eq(wav_join_end(&join, &err), 0);
	begin(&other);
	fmt(&other, 3, 1, 16000, 32);
	chunk(&other, "fact", "\2\0\0\0", 4);
	chunk(&other, "data", "abcdabcd", 8);
	end(&other);
	check_same(&out, &other);
}
END_TEST

START_TEST(the_first_format_is_copied_as_it_is)
{
	begin(&file);
	fmt(&file, 1, 1, 16000, 16);
	resize(&file, 12, 19); /* odd, with words of its own */
	buf_lit(&file, "\1\0x\0");
	chunk(&file, "data", "ab", 2);
	end(&file);
	wav_join_begin(&join, &out);
	ck_assert_int_eq(add(&file), 0);
	extensible(&other, 1, 16, GUID_REST, "cd", 2); /* the same samples in other words */
	ck_assert_int_eq(add(&other), 0);
	ck_assert_int_eq(wav_join_end(&join, &err), 0);
	buf_cut(&file, 40);
	chunk(&file, "data", "abcd", 4);
	end(&file);
	check_same(&out, &file);
}
END_TEST

START_TEST(an_odd_sum_gets_a_pad_byte)
{
	plain(&file, 1, 1, 16000, 8, "abc", 3);
	wav_join_begin(&join, &out);
	for (int i = 0; i < 3; i++)
		ck_assert_int_eq(add(&file), 0);
	ck_assert_int_eq(wav_join_end(&join, &err), 0);
	plain(&other, 1, 1, 16000, 8, "abcabcabc", 9);
	check_same(&out, &other);
	ck_assert_uint_eq(out.len, 44 + 10);
	ck_assert_uint_eq(at32(&out, 40), 9);
	ck_assert_uint_eq(at32(&out, 4), 46);
}
END_TEST

static const struct {
	unsigned tag, channels, rate, bits;
	const char *says;
} others[] = {
	{3, 1, 16000, 16, "16-bit float"},
	{1, 2, 16000, 16, "2 channels,"},
	{1, 1, 24000, 16, "24000 Hz"},
	{1, 1, 16000, 8, "8-bit PCM"},
};

START_TEST(parts_of_another_format_are_refused)
{
	plain(&file, 1, 1, 16000, 16, "abcd", 4);
	plain(&other, others[_i].tag, others[_i].channels, others[_i].rate, others[_i].bits, "abcd", 4);
	wav_join_begin(&join, &out);
	ck_assert_int_eq(add(&file), 0);
	ck_assert_int_eq(add(&file), 0);
	ck_assert_int_eq(add(&other), -1);
	check_error("part 3 ");
	check_error(others[_i].says);
	check_error("part 1 is 16-bit PCM, 1 channel, 16000 Hz, 2 bytes a frame");
}
END_TEST

START_TEST(frames_of_another_size_are_refused)
{
	plain(&file, 1, 1, 16000, 16, "abcd", 4);
	buf_add(&other, file.ptr, file.len);
	other.ptr[32] = 4; /* 16 bits in four bytes */
	wav_join_begin(&join, &out);
	ck_assert_int_eq(add(&file), 0);
	ck_assert_int_eq(add(&other), -1);
	check_error("4 bytes a frame");
}
END_TEST

START_TEST(a_bad_part_is_named)
{
	plain(&file, 1, 1, 16000, 16, "abcd", 4);
	wav_join_begin(&join, &out);
	ck_assert_int_eq(wav_join_add(&join, "ID3", 3, &err), -1);
	check_error("this is no WAV file");
	wav_join_begin(&join, &out);
	ck_assert_int_eq(add(&file), 0);
	ck_assert_int_eq(wav_join_add(&join, "ID3", 3, &err), -1);
	check_error("part 2: this is no WAV file");
}
END_TEST

START_TEST(nothing_cannot_be_joined)
{
	wav_join_begin(&join, &out);
	ck_assert_int_eq(wav_join_end(&join, &err), -1);
	check_error("no audio");
}
END_TEST

START_TEST(the_bound_of_the_buffer_is_kept)
{
	plain(&file, 1, 1, 16000, 16, "abcd", 4);
	out.max = 47;
	wav_join_begin(&join, &out);
	ck_assert_int_eq(add(&file), -1);
	ck_assert_int_eq(err.code, ERR_MEMORY);
	out.max = 48;
	wav_join_begin(&join, &out);
	ck_assert_int_eq(add(&file), 0);
	ck_assert_int_eq(add(&file), -1);
	ck_assert_int_eq(err.code, ERR_MEMORY);
	plain(&file, 3, 1, 16000, 32, "abcd", 4); /* no room for the fact chunk */
	wav_join_begin(&join, &out);
	ck_assert_int_eq(add(&file), 0);
	ck_assert_int_eq(add(&file), -1);
	ck_assert_int_eq(err.code, ERR_MEMORY);
}
END_TEST

/* Pages that nobody reads take no memory. */
START_TEST(four_gib_are_the_limit)
{
	size_t size = ((size_t)1 << 32) + 16;
	char *large = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	ck_assert(large != MAP_FAILED);
	plain(&file, 1, 1, 16000, 16, "abcdefgh", 8);
	memcpy(large, file.ptr, 44);
	memcpy(large + 40, "\xd4\xff\xff\xff", 4);
	out.max = SIZE_MAX / 4;
	wav_join_begin(&join, &out);
	ck_assert_int_eq(add(&file), 0);
	ck_assert_int_eq(wav_join_add(&join, large, size, &err), -1);
	ck_assert_int_eq(err.code, ERR_MEMORY);
	ck_assert_msg(strstr(err.msg, "4 GiB"), "%s", err.msg);
	memcpy(large + 40, "\xff\xff\xff\xff", 4);
	other = (struct buf){.ptr = large, .len = size, .cap = size, .max = size};
	ck_assert_int_eq(wav_repair(&other, &err), -1);
	ck_assert_int_eq(err.code, ERR_MEMORY);
	other = BUF_INIT(1);
	munmap(large, size);
}
END_TEST

START_TEST(frames_add_up)
{
	static const unsigned formats[][2] = {{1, 8}, {1, 16}, {1, 24}, {3, 32}, {3, 64}};
	char data[100];

	for (int round = 0; round < 5000; round++) {
		const unsigned *f = formats[(size_t)rand() % 5];
		unsigned channels = 1 + (unsigned)rand() % 3, frame = channels * f[1] / 8;
		uint64_t frames = 0;
		int parts = 1 + rand() % 4;

		wav_join_begin(&join, &out);
		buf_clear(&other);
		for (int i = 0; i < parts; i++) {
			size_t n = (size_t)rand() % sizeof data;

			for (size_t k = 0; k < n; k++)
				data[k] = (char)rand();
			plain(&file, f[0], channels, 16000, f[1], data, n);
			if (rand() % 2)
				resize(&file, 36, 0xffffffff);
			if (rand() % 2)
				resize(&file, 0, 0xffffffff);
			ck_assert(add(&file) == 0 && parse(&file) == 0);
			frames += info.frames;
			buf_add(&other, file.ptr + info.data_at, info.data_bytes);
			ck_assert(info.data_bytes == info.frames * frame);
		}
		ck_assert_int_eq(wav_join_end(&join, &err), 0);
		ck_assert_int_eq(parse(&out), 0);
		ck_assert(info.valid && info.frames == frames && info.data_bytes == other.len);
		ck_assert(other.len == 0 || memcmp(out.ptr + info.data_at, other.ptr, other.len) == 0);
		ck_assert(parts == 1 || out.len == info.data_at + info.data_bytes + (info.data_bytes & 1));
		ck_assert(info.fact_at == 0 || at32(&out, info.fact_at) == frames);
	}
}
END_TEST

int main(void)
{
	Suite *s = suite_create("wav");
	TCase *t = tcase_create("all");
	SRunner *r;
	int failed;

	tcase_add_checked_fixture(t, setup, teardown);
	tcase_set_timeout(t, 60);
	tcase_add_test(t, a_plain_file);
	tcase_add_test(t, a_file_as_the_api_gives_it);
	tcase_add_test(t, an_extensible_format_tells_the_real_one);
	tcase_add_test(t, other_chunks_are_skipped);
	tcase_add_test(t, the_first_format_counts);
	tcase_add_loop_test(t, a_size_left_open_means_to_the_end, 0, sizeof no_sizes / sizeof *no_sizes);
	tcase_add_test(t, a_size_that_is_possible_is_believed);
	tcase_add_test(t, the_size_of_the_whole_is_judged);
	tcase_add_test(t, a_beginning_is_enough_for_a_large_file);
	tcase_add_loop_test(t, what_is_wrong_is_said, 0, sizeof faults / sizeof *faults);
	tcase_add_test(t, nothing_is_no_file);
	tcase_add_test(t, a_valid_file_is_not_touched);
	tcase_add_loop_test(t, a_stream_becomes_a_file, 0, sizeof no_sizes / sizeof *no_sizes);
	tcase_add_test(t, an_odd_stream_gets_its_pad_byte);
	tcase_add_test(t, the_size_of_the_whole_alone_is_repaired);
	tcase_add_test(t, one_part_stays_as_it_is);
	tcase_add_test(t, one_streamed_part_is_repaired);
	tcase_add_test(t, parts_become_one_file);
	tcase_add_test(t, the_header_is_written_anew);
	tcase_add_test(t, the_first_format_is_copied_as_it_is);
	tcase_add_test(t, an_odd_sum_gets_a_pad_byte);
	tcase_add_loop_test(t, parts_of_another_format_are_refused, 0, sizeof others / sizeof *others);
	tcase_add_test(t, frames_of_another_size_are_refused);
	tcase_add_test(t, a_bad_part_is_named);
	tcase_add_test(t, nothing_cannot_be_joined);
	tcase_add_test(t, the_bound_of_the_buffer_is_kept);
	tcase_add_test(t, four_gib_are_the_limit);
	tcase_add_test(t, frames_add_up);
	suite_add_tcase(s, t);
	r = srunner_create(s);
	srunner_run_all(r, CK_ENV);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed != 0;
}
