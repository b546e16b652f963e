/* What corpus handlers need of the handler ABI; naam_abi::handler documents it. */
#pragma once
typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;
typedef int s32;
typedef long long s64;

struct naam_msg {
	u64 op_offset, op_value, op_expect;
	u32 op_region, op_len, op_source, op_done, step, code, arg_len, reply_len, reply_max, shard;
	u64 state[16];
	u64 args[136];
	u64 reply[128];
};
struct naam_view64 { u64 w[8]; };
struct naam_view1k { u64 w[128]; };
enum naam_step { DONE, READ, WRITE, CAS, FAA, FAIL };

struct naam_meta { u64 magic; u32 flags, reply_max, state_len, reserved; char name[32]; };
#define META(handler, writes, reply, state) \
	__attribute__((section(".naam"), used)) static const struct naam_meta naam_meta = { \
		0x314c44484d41414eULL, writes, reply, state, 0, #handler }
#define NOINLINE static __attribute__((noinline))
/* Keeps the compiler from seeing through a value. */
#define OPAQUE(x) asm volatile("" : "+r"(x))
/* A handler in assembly: r1 is the message, r2 the view. */
#define RAW(name) META(name, 0, 1024, 0); \
	__attribute__((naked)) u32 name(struct naam_msg *m, const struct naam_view64 *v)
#define A(text) asm volatile(text)
/* One instruction slot that clang's assembler does not know. */
#define SLOT(opcode, regs, offset, imm) \
	asm volatile(".byte " #opcode ", " #regs "\n.2byte " #offset "\n.4byte " #imm)
