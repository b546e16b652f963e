/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * NAAM handlers in C: the declarations of the Rust crate naam-handler, and nothing else.
 *
 * A handler is a pure function. It sees its message and a window of memory (the view), and answers
 * with a step: done, failed, or a memory operation that the runtime performs before it calls again.
 * What has to survive until then stands in m->state. A whole handler, lookup.c:
 *
 *	#include "naam.h"
 *
 *	// Replies with the word at the offset that is the first argument.
 *	NAAM_HANDLER(lookup, naam_view64, NAAM_READS, 8, 0)
 *	{
 *		if (m->step == 0)
 *			return naam_read(m, 0, m->args[0], 8);
 *		m->reply[0] = v->w[0];
 *		return naam_done(m, 0, 8);
 *	}
 *
 * Build: clang -target bpf -mcpu=v3 -O2 -g -I naam-ebpf/handler/include -c lookup.c -o lookup.o
 *
 * What the kernel and NAAM's admission want: no helpers, no maps, no globals, no static tables; no
 * calls but to functions of this file; loops with a constant bound; array indices that are
 * constants or were compared in a form that the compiler cannot move (naam_opaque).
 */
#ifndef NAAM_H
#define NAAM_H

/* The system's headers need not be fit for the BPF target. */
typedef __UINT32_TYPE__ naam_u32;
typedef __UINT64_TYPE__ naam_u64;

#define NAAM_STATE_BYTES 128
#define NAAM_ARGS_BYTES 1088
#define NAAM_REPLY_BYTES 1024
/* Longest reply of a handler that writes: it is kept for retries. */
#define NAAM_SLOT_REPLY_BYTES 240
/* Steps of one visit to a site. */
#define NAAM_STEPS_MAX 32

/* A message as its handler sees it; naam_abi::handler::NaamMsg tells what each field means. */
struct naam_msg {
	naam_u64 op_offset;
	naam_u64 op_value;
	naam_u64 op_expect;
	naam_u32 op_region;
	naam_u32 op_len;
	naam_u32 op_source;
	naam_u32 op_done;
	naam_u32 step;
	naam_u32 code;
	naam_u32 arg_len;
	naam_u32 reply_len;
	naam_u32 reply_max;
	naam_u32 shard;
	naam_u64 state[NAAM_STATE_BYTES / 8];
	naam_u64 args[NAAM_ARGS_BYTES / 8];
	naam_u64 reply[NAAM_REPLY_BYTES / 8];
};

/* What a READ gave; zero before the first. Read-only. Words are never torn, the whole may be. */
struct naam_view64 {
	naam_u64 w[8];
};

/* The large view. Words behind the READ's length are unspecified. */
struct naam_view1k {
	naam_u64 w[128];
};

/* A handler's answer. */
enum naam_step {
	NAAM_DONE = 0,
	NAAM_READ = 1,
	NAAM_WRITE = 2,
	NAAM_CAS = 3,
	NAAM_FAA = 4,
	NAAM_FAIL = 5,
};

/* Flags of a handler. The runtime refuses WRITE, CAS and FAA to one that only reads. */
#define NAAM_READS 0
#define NAAM_WRITES 1

/* An object's description of itself, in section .naam. */
struct naam_meta {
	naam_u64 magic;
	naam_u32 flags;
	naam_u32 reply_max;
	naam_u32 state_len;
	naam_u32 reserved;
	char name[32];
};

/* "NAAMHDL1" */
#define NAAM_META_MAGIC 0x314c44484d41414eULL

#define NAAM_INLINE static inline __attribute__((always_inline, unused))

/*
 * Begins a handler: its description, its function, and the head of its step, whose body follows.
 *
 * name       1 to 31 bytes; the function and the object's name
 * view       naam_view64 or naam_view1k
 * flags      NAAM_READS or NAAM_WRITES
 * reply_max  longest reply in bytes, a multiple of 8
 * state_len  bytes of m->state in use between steps, a multiple of 8
 *
 * In the body, m is the message and v the view.
 */
#define NAAM_HANDLER(handler, view, handler_flags, reply_bytes, state_bytes)                                           \
	_Static_assert(sizeof(#handler) <= 32, "a handler's name has at most 31 bytes");                               \
	_Static_assert((reply_bytes) % 8 == 0 && (state_bytes) % 8 == 0, "lengths are multiples of 8");                \
	_Static_assert((reply_bytes) <= ((handler_flags) & NAAM_WRITES ? NAAM_SLOT_REPLY_BYTES : NAAM_REPLY_BYTES),    \
		       "the reply is too long");                                                                       \
	_Static_assert((state_bytes) <= NAAM_STATE_BYTES, "the state is too long");                                    \
	__attribute__((section(".naam"), used)) static const struct naam_meta naam_meta = {                            \
		.magic = NAAM_META_MAGIC,                                                                              \
		.flags = (handler_flags),                                                                              \
		.reply_max = (reply_bytes),                                                                            \
		.state_len = (state_bytes),                                                                            \
		.name = #handler,                                                                                      \
	};                                                                                                             \
	NAAM_INLINE enum naam_step naam_step_of_##handler(struct naam_msg *m, const struct view *v);                   \
	naam_u32 handler(struct naam_msg *m, const struct view *v)                                                     \
	{                                                                                                              \
		return m && v ? naam_step_of_##handler(m, v) : NAAM_FAIL;                                              \
	}                                                                                                              \
	NAAM_INLINE enum naam_step naam_step_of_##handler(struct naam_msg *m, const struct view *v)

/*
 * The value itself; the compiler can assume nothing about it. Between a compare and its use it
 * keeps both on one register, as the verifier needs; in a copy loop it keeps the loop from becoming
 * a call of memcpy.
 */
NAAM_INLINE naam_u64 naam_opaque(naam_u64 value)
{
	__asm__("" : "+r"(value));
	return value;
}

/* Argument word `index`; 0 behind the last. */
NAAM_INLINE naam_u64 naam_arg(const struct naam_msg *m, naam_u64 index)
{
	index = naam_opaque(index);
	return index < NAAM_ARGS_BYTES / 8 ? m->args[index] : 0;
}

/* Asks for `len` bytes at `offset`; they stand in the view at the next step. */
NAAM_INLINE enum naam_step naam_read(struct naam_msg *m, naam_u32 region, naam_u64 offset, naam_u32 len)
{
	m->op_region = region;
	m->op_offset = offset;
	m->op_len = len;
	return NAAM_READ;
}

/* Asks for `len` bytes of the arguments, from byte `source` on, to be put at `offset`. */
NAAM_INLINE enum naam_step naam_write(struct naam_msg *m, naam_u32 region, naam_u64 offset, naam_u32 source,
				      naam_u32 len)
{
	m->op_region = region;
	m->op_offset = offset;
	m->op_source = source;
	m->op_len = len;
	return NAAM_WRITE;
}

/* The same of the reply. */
NAAM_INLINE enum naam_step naam_write_reply(struct naam_msg *m, naam_u32 region, naam_u64 offset, naam_u32 source,
					    naam_u32 len)
{
	return naam_write(m, region, offset, NAAM_ARGS_BYTES + source, len);
}

/* Asks for the word at `offset` to become `word` if it is `expect`. At the next step m->op_done says
 * whether it did, and m->op_value is the word found. */
NAAM_INLINE enum naam_step naam_cas(struct naam_msg *m, naam_u32 region, naam_u64 offset, naam_u64 expect,
				    naam_u64 word)
{
	m->op_region = region;
	m->op_offset = offset;
	m->op_expect = expect;
	m->op_value = word;
	return NAAM_CAS;
}

/* Asks for `addend` to be added to the word at `offset`. At the next step m->op_value is the word
 * found. */
NAAM_INLINE enum naam_step naam_faa(struct naam_msg *m, naam_u32 region, naam_u64 offset, naam_u64 addend)
{
	m->op_region = region;
	m->op_offset = offset;
	m->op_value = addend;
	return NAAM_FAA;
}

/* Ends the message: the client gets `code` and the first `reply_len` bytes of the reply. */
NAAM_INLINE enum naam_step naam_done(struct naam_msg *m, naam_u32 code, naam_u32 reply_len)
{
	m->code = code;
	m->reply_len = reply_len;
	return NAAM_DONE;
}

/* Ends the message as failed; the client gets `code`. */
NAAM_INLINE enum naam_step naam_fail(struct naam_msg *m, naam_u32 code)
{
	m->code = code;
	m->reply_len = 0;
	return NAAM_FAIL;
}

#endif
