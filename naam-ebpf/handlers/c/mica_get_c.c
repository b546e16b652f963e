// SPDX-License-Identifier: MIT OR Apache-2.0
// mica_get in C: step by step what the Rust handler does; naam_handlers::mica explains why.

#include "mica.h"

// m->state
enum { PHASE, AT, SLOT, ENTRY, HEADER, CHECKSUM, LANES };

enum { START, BUCKET, ITEM, TAIL };

#define VIEW_WORDS 128
// Where the second READ of an item begins that is longer than the view.
#define TAIL_WORD 120
#define TAIL_WORDS 16

NAAM_INLINE enum naam_step read_in_phase(struct naam_msg *m, naam_u64 phase, naam_u64 offset, naam_u64 len)
{
	if (m->step >= NAAM_STEPS_MAX - 1)
		return naam_done(m, MICA_RETRY, 0);
	m->state[PHASE] = phase;
	return naam_read(m, 0, offset, len);
}

NAAM_INLINE enum naam_step read_bucket(struct naam_msg *m)
{
	return read_in_phase(m, BUCKET, m->state[AT], MICA_LINE_BYTES);
}

NAAM_INLINE enum naam_step enter_bucket(struct naam_msg *m, naam_u64 offset)
{
	m->state[AT] = offset;
	m->state[SLOT] = 1;
	m->state[ENTRY] = 0;
	return read_bucket(m);
}

NAAM_INLINE enum naam_step start(struct naam_msg *m)
{
	naam_u64 key_len = m->args[1] & 0xff;
	if (key_len == 0 || key_len > MICA_KEY_MAX || m->arg_len != 16 + mica_words(key_len) * 8)
		return naam_fail(m, MICA_BAD_ARGUMENTS);
	naam_u64 mask = (1ULL << (m->args[1] >> 8 & 63)) - 1;
	return enter_bucket(m, MICA_BUCKETS + (m->args[0] & mask) * MICA_LINE_BYTES);
}

NAAM_INLINE enum naam_step bucket(struct naam_msg *m, const struct naam_view1k *v)
{
	naam_u64 tag = mica_tag_of(m->args[0]);
	for (naam_u64 slot = 1; slot <= MICA_SLOTS; slot++) {
		naam_u64 entry = v->w[slot];
		if ((entry & (MICA_TAG | MICA_TENTATIVE)) != tag || slot < m->state[SLOT] || entry == m->state[ENTRY])
			continue;
		m->state[SLOT] = slot;
		m->state[ENTRY] = entry;
		naam_u64 len = mica_class(entry) * MICA_LINE_BYTES;
		return read_in_phase(m, ITEM, mica_block_offset(entry), len < VIEW_WORDS * 8 ? len : VIEW_WORDS * 8);
	}
	naam_u64 next = mica_block_offset(v->w[0]);
	return next ? enter_bucket(m, next) : naam_done(m, MICA_NOT_FOUND, 0);
}

// Compares the key of an item that stands in the view from its word `skipped` on.
NAAM_INLINE enum naam_step finish(struct naam_msg *m, const struct naam_view1k *v, naam_u64 header, naam_u64 skipped)
{
	naam_u64 key_len = m->args[1] & 0xff;
	if (mica_key_len(header) != key_len)
		return read_bucket(m);
	naam_u64 key = mica_item_words(0, mica_value_len(header)) - skipped;
	for (naam_u64 i = 0; i < MICA_KEY_MAX / 8 && i < mica_words(key_len); i++) {
		naam_u64 at = naam_opaque(key + i);
		if (at >= VIEW_WORDS || v->w[at] != m->args[2 + i])
			return read_bucket(m);
	}
	return naam_done(m, MICA_OK, 8 + mica_value_len(header));
}

NAAM_INLINE enum naam_step item(struct naam_msg *m, const struct naam_view1k *v)
{
	naam_u64 entry = m->state[ENTRY], header = v->w[0];
	naam_u64 key_len = mica_key_len(header), value_len = mica_value_len(header);
	naam_u64 words = mica_item_words(key_len, value_len);
	if (header >> 44 != mica_generation(entry) || key_len == 0 || key_len > MICA_KEY_MAX ||
	    value_len > MICA_VALUE_MAX || words > mica_class(entry) * 8)
		return read_bucket(m);
	naam_u64 here = words <= VIEW_WORDS ? words : TAIL_WORD;

	struct mica_lanes lanes = { { 1, 2, 3, 4 } };
	mica_take(&lanes, header, v->w[1], 0, v->w[3]);
	m->reply[0] = v->w[1];
	m->reply[1] = v->w[3];
	for (naam_u64 at = 4; at < VIEW_WORDS && at < here; at += 4) {
		naam_u64 a = naam_opaque(v->w[at]), b = naam_opaque(v->w[at + 1]);
		naam_u64 c = naam_opaque(v->w[at + 2]), d = naam_opaque(v->w[at + 3]);
		mica_take(&lanes, a, b, c, d);
		m->reply[at - 2] = a;
		m->reply[at - 1] = b;
		m->reply[at] = c;
		m->reply[at + 1] = d;
	}
	if (words > VIEW_WORDS) {
		m->state[HEADER] = header;
		m->state[CHECKSUM] = v->w[2];
		for (int i = 0; i < 4; i++)
			m->state[LANES + i] = lanes.lane[i];
		m->reply_len = (TAIL_WORD - 2) * 8; /* a cut message keeps its reply so far, and no more */
		return read_in_phase(m, TAIL, mica_block_offset(entry) + TAIL_WORD * 8, TAIL_WORDS * 8);
	}
	return mica_checksum(&lanes) == v->w[2] ? finish(m, v, header, 0) : read_bucket(m);
}

// The rest of an item that is longer than the view.
NAAM_INLINE enum naam_step tail(struct naam_msg *m, const struct naam_view1k *v)
{
	naam_u64 header = m->state[HEADER];
	naam_u64 words = mica_item_words(mica_key_len(header), mica_value_len(header));
	struct mica_lanes lanes = { { m->state[LANES], m->state[LANES + 1], m->state[LANES + 2], m->state[LANES + 3] } };
	for (naam_u64 at = 0; at < TAIL_WORDS && at + TAIL_WORD < words; at += 4)
		mica_take(&lanes, v->w[at], v->w[at + 1], v->w[at + 2], v->w[at + 3]);
	if (mica_checksum(&lanes) != m->state[CHECKSUM])
		return read_bucket(m);
	for (naam_u64 at = 0; at < VIEW_WORDS - TAIL_WORD; at++)
		m->reply[TAIL_WORD - 2 + at] = naam_opaque(v->w[at]);
	return finish(m, v, header, TAIL_WORD);
}

NAAM_HANDLER(mica_get_c, naam_view1k, NAAM_READS, 8 + MICA_VALUE_MAX, 80)
{
	switch (m->state[PHASE]) {
	case BUCKET:
		return bucket(m, v);
	case ITEM:
		return item(m, v);
	case TAIL:
		return tail(m, v);
	default:
		return start(m);
	}
}
