/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* What a reader needs of a MICA store's memory; naam_handlers::mica::layout documents it. */
#ifndef NAAM_MICA_H
#define NAAM_MICA_H

#include "naam.h"

enum mica_code {
	MICA_OK = 0,
	MICA_NOT_FOUND = 1,
	MICA_RETRY = 5,
	MICA_BAD_ARGUMENTS = 6,
};

#define MICA_KEY_MAX 64
#define MICA_VALUE_MAX 1000
#define MICA_LINE_BYTES 64
#define MICA_BUCKETS (18 * 8 * MICA_LINE_BYTES)
#define MICA_SLOTS 7

/* Entries: bits 0-25 block, 26-30 class, 31-50 generation, 51 tentative, 52-63 tag. */
#define MICA_TENTATIVE (1ULL << 51)
#define MICA_TAG (~0ULL << 52)

NAAM_INLINE naam_u64 mica_block_offset(naam_u64 entry)
{
	return (entry & 0x3ffffff) * MICA_LINE_BYTES;
}

NAAM_INLINE naam_u64 mica_class(naam_u64 entry)
{
	return entry >> 26 & 31;
}

NAAM_INLINE naam_u64 mica_generation(naam_u64 entry)
{
	return entry >> 31 & 0xfffff;
}

NAAM_INLINE naam_u64 mica_tag_of(naam_u64 hash)
{
	naam_u64 tag = hash & MICA_TAG;
	return tag ? tag : 1ULL << 52;
}

/* Word 0 of an item: generation in bits 44-63, value length in 16-31, key length in 0-15. */
NAAM_INLINE naam_u64 mica_key_len(naam_u64 header)
{
	return header & 0xffff;
}

NAAM_INLINE naam_u64 mica_value_len(naam_u64 header)
{
	return header >> 16 & 0xffff;
}

NAAM_INLINE naam_u64 mica_words(naam_u64 bytes)
{
	return (bytes + 7) / 8;
}

/* Words of an item, without the zeros behind its key. */
NAAM_INLINE naam_u64 mica_item_words(naam_u64 key_len, naam_u64 value_len)
{
	return 3 + mica_words(value_len) + mica_words(key_len);
}

NAAM_INLINE naam_u64 mica_round(naam_u64 state, naam_u64 word)
{
	naam_u64 product = (state ^ word) * 0x9e3779b97f4a7c15ULL;
	return product ^ product >> 29;
}

/* A checksum at work. */
struct mica_lanes {
	naam_u64 lane[4];
};

NAAM_INLINE void mica_take(struct mica_lanes *lanes, naam_u64 a, naam_u64 b, naam_u64 c, naam_u64 d)
{
	lanes->lane[0] = mica_round(lanes->lane[0], a);
	lanes->lane[1] = mica_round(lanes->lane[1], b);
	lanes->lane[2] = mica_round(lanes->lane[2], c);
	lanes->lane[3] = mica_round(lanes->lane[3], d);
}

NAAM_INLINE naam_u64 mica_checksum(const struct mica_lanes *lanes)
{
	naam_u64 sum = mica_round(lanes->lane[0], 0);
	sum = mica_round(sum, lanes->lane[1]);
	sum = mica_round(sum, lanes->lane[2]);
	return mica_round(sum, lanes->lane[3]);
}

#endif
