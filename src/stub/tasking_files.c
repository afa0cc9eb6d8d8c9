/* SPDX-License-Identifier: MIT
 *
 * Uploads: what is taken is a table, one row for each route. */
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "base/digest.h"
#include "base/utf8.h"
#include "stub/tasking.h"

#define MIB (1024UL * 1024)
#define EXTENSION_MAX 8
#define PURPOSE_MAX 40

static const struct upload {
	const char *part;
	const char *purposes, *hosted_purposes;	    /* blanks in between */
	const char *extensions, *hosted_extensions; /* likewise */
	size_t bytes_max;
} file_upload = {"file",
		 "record_file",
		 "record_file qa_record_file",
		 "pdf docx md txt html htm",
		 "pdf docx md txt html htm csv xlsx",
		 15 * MIB},
  image_upload = {"image", "user_message_image", "user_message_image", "jpg jpeg png", "jpg jpeg png", 5 * MIB};

static bool is_among(const char *word, size_t len, const char *words)
{
	while (*words) {
		size_t n = strcspn(words, " ");

		if (n == len && strncasecmp(words, word, n) == 0)
			return true;
		words += n + strspn(words + n, " ");
	}
	return false;
}

static bool is_there(struct tasking *t, const char *name)
{
	char where[40];

	if (form_find(&t->form, name))
		return true;
	snprintf(where, sizeof where, "body/%s", name);
	tasking_invalid(t, where, "Field required");
	return false;
}

static bool check(struct tasking *t, const struct upload *u)
{
	const char *purposes = t->stub->hosted ? u->hosted_purposes : u->purposes;
	const struct form_part *purpose;
	char choices[120];

	if (!is_there(t, "purpose") || !is_there(t, u->part))
		return false;
	purpose = form_find(&t->form, "purpose");
	if (purpose->bytes.len < PURPOSE_MAX && is_among(purpose->bytes.ptr, purpose->bytes.len, purposes)) {
		if (form_find(&t->form, u->part)->file.ptr)
			return true;
		snprintf(choices, sizeof choices, "body/%s", u->part);
		tasking_invalid(t, choices, "Value error, Expected UploadFile, received: <class 'str'>");
		return false;
	}
	schema_choices(purposes, choices, sizeof choices);
	tasking_invalid(t, "body/purpose", "Input should be %s", choices);
	return false;
}

bool tasking_check_file(struct tasking *t)
{
	return check(t, &file_upload);
}

bool tasking_check_image(struct tasking *t)
{
	return check(t, &image_upload);
}

/* In small letters, as it is kept; false: the answer is made. */
static bool read_extension(struct tasking *t, const struct upload *u, char out[EXTENSION_MAX])
{
	struct span name = form_find(&t->form, u->part)->file;
	const char *dot = memrchr(name.ptr, '.', name.len);
	size_t n = dot ? (size_t)(name.ptr + name.len - dot - 1) : 0;

	if (n == 0 || n >= EXTENSION_MAX ||
	    !is_among(dot + 1, n, t->stub->hosted ? u->hosted_extensions : u->extensions)) {
		tasking_refuse(t, "File type is not supported.");
		return false;
	}
	for (size_t i = 0; i < n; i++)
		out[i] = (char)(dot[1 + i] | 0x20);
	out[n] = '\0';
	if (strcmp(out, "htm") == 0)
		memcpy(out, "html", sizeof "html");
	return true;
}

static bool size_fits(struct tasking *t, const struct upload *u)
{
	if (form_find(&t->form, u->part)->bytes.len <= u->bytes_max)
		return true;
	tasking_refuse(t, "File size is too large.");
	return false;
}

/* Bytes that are no text have their size for one. */
static void keep(struct object *o, const struct form_part *part)
{
	struct buf json = BUF_INIT(TASKING_TEXT_MAX * 6);
	char size[24];

	buf_json_string(&json, part->file.ptr, part->file.len);
	tasking_set(o, "name", &json);
	snprintf(size, sizeof size, "%zu", part->bytes.len);
	object_set(o, "size", (struct span){size, strlen(size)});
	buf_clear(&json);
	if (utf8_valid(part->bytes.ptr, part->bytes.len))
		buf_json_string(&json, part->bytes.ptr, part->bytes.len);
	else
		buf_printf(&json, "\"%s bytes\"", size);
	tasking_set(o, "text", &json);
	buf_release(&json);
}

void tasking_upload(struct tasking *t)
{
	char extension[EXTENSION_MAX], id[OBJECT_ID_MAX + 1];
	struct object *o;

	if (!read_extension(t, &file_upload, extension) || !size_fits(t, &file_upload))
		return;
	o = tasking_add(t, UPLOAD, NULL);
	if (!o)
		return;
	snprintf(id, sizeof id, "%s%s", extension, strchr(o->id, '_'));
	memcpy(o->id, id, sizeof id);
	keep(o, form_find(&t->form, file_upload.part));
	tasking_open(t);
	buf_printf(&t->a->body, "{\"file_id\":\"%s\"}", id);
	tasking_close(t);
}

/* It is named for what is in it, and not kept. */
void tasking_upload_image(struct tasking *t)
{
	char extension[EXTENSION_MAX], sum[SHA256_HEX_LEN + 1];
	const char *host = httpd_header(t->r, "Host");
	const struct form_part *part = form_find(&t->form, image_upload.part);

	if (!read_extension(t, &image_upload, extension) || !size_fits(t, &image_upload))
		return;
	sha256_hex(part->bytes.ptr, part->bytes.len, sum);
	tasking_open(t);
	buf_printf(&t->a->body, "{\"url\":\"http://%s/images/%.20s.%s\"}", host ? host : "stub", sum, extension);
	tasking_close(t);
}
