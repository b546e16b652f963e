/* Reads and writes a region of NAAM by rdma-core alone.
 *
 *   peer GID read OFFSET WORDS     prints the words
 *   peer GID write OFFSET VALUE    writes one
 *   peer GID watch OFFSET END      reads a word until it is END; it must never go back; prints how many values it had
 *
 * GID: the address here, 32 hexadecimal digits. The ends of the connection are exchanged over standard output and input:
 * a line `QPN PSN GID` of ours, a line `QPN PSN GID ADDRESS RKEY` of the other end.
 */
#include <endian.h>
#include <infiniband/verbs.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { PORT = 1, BYTES = 4096, WAIT_S = 240 };

static struct ibv_cq *queue;
static struct ibv_qp *pair;
static struct ibv_mr *local;
static uint64_t remote;
static uint32_t rkey;
static volatile uint64_t *words;

static void fail(const char *what)
{
	perror(what);
	exit(1);
}

static void parse_gid(const char *text, union ibv_gid *gid)
{
	for (int at = 0; at < 16; at++) {
		unsigned byte;
		if (sscanf(text + 2 * at, "%2x", &byte) != 1)
			fail("no GID");
		gid->raw[at] = byte;
	}
}

static int index_of(struct ibv_context *context, const union ibv_gid *wanted)
{
	union ibv_gid gid;
	for (int index = 0; index < 256; index++)
		if (!ibv_query_gid(context, PORT, index, &gid) && !memcmp(&gid, wanted, sizeof gid))
			return index;
	fail("no such GID here");
	return -1;
}

static void request(enum ibv_wr_opcode opcode, uint64_t offset, uint32_t len)
{
	struct ibv_sge element = { .addr = (uintptr_t)words, .length = len, .lkey = local->lkey };
	struct ibv_send_wr work = { .sg_list = &element, .num_sge = 1, .opcode = opcode, .send_flags = IBV_SEND_SIGNALED };
	struct ibv_send_wr *bad;
	struct ibv_wc done;
	int count;

	work.wr.rdma.remote_addr = remote + offset;
	work.wr.rdma.rkey = rkey;
	if (ibv_post_send(pair, &work, &bad))
		fail("post");
	do
		count = ibv_poll_cq(queue, 1, &done);
	while (!count);
	if (count < 0 || done.status != IBV_WC_SUCCESS) {
		fprintf(stderr, "request: %s\n", count < 0 ? "poll" : ibv_wc_status_str(done.status));
		exit(1);
	}
}

static void connect_pair(int gid_index)
{
	char text[33];
	uint32_t qpn, psn;
	if (scanf("%" SCNu32 " %" SCNu32 " %32s %" SCNu64 " %" SCNu32, &qpn, &psn, text, &remote, &rkey) != 5)
		fail("the other end");
	struct ibv_qp_attr receive = {
		.qp_state = IBV_QPS_RTR, .path_mtu = IBV_MTU_1024, .dest_qp_num = qpn, .rq_psn = psn,
		.max_dest_rd_atomic = 1, .min_rnr_timer = 12,
		.ah_attr = { .is_global = 1, .port_num = PORT, .grh = { .sgid_index = gid_index, .hop_limit = 64 } },
	};
	parse_gid(text, &receive.ah_attr.grh.dgid);
	if (ibv_modify_qp(pair, &receive, IBV_QP_STATE | IBV_QP_AV | IBV_QP_PATH_MTU | IBV_QP_DEST_QPN | IBV_QP_RQ_PSN |
				      IBV_QP_MAX_DEST_RD_ATOMIC | IBV_QP_MIN_RNR_TIMER))
		fail("ready to receive");
	struct ibv_qp_attr send = { .qp_state = IBV_QPS_RTS, .timeout = 18, .retry_cnt = 6, .rnr_retry = 6, .max_rd_atomic = 1 };
	if (ibv_modify_qp(pair, &send, IBV_QP_STATE | IBV_QP_SQ_PSN | IBV_QP_TIMEOUT | IBV_QP_RETRY_CNT | IBV_QP_RNR_RETRY |
				   IBV_QP_MAX_QP_RD_ATOMIC))
		fail("ready to send");
}

static void watch(uint64_t offset, uint64_t end)
{
	uint64_t last = 0, values = 0;
	time_t deadline = time(NULL) + WAIT_S;
	do {
		request(IBV_WR_RDMA_READ, offset, 8);
		uint64_t now = le64toh(words[0]);
		if (now < last) {
			fprintf(stderr, "it was %" PRIu64 ", and then %" PRIu64 "\n", last, now);
			exit(1);
		}
		values += now != last;
		last = now;
		if (time(NULL) > deadline) {
			fprintf(stderr, "it is still %" PRIu64 "\n", last);
			exit(1);
		}
	} while (last != end);
	printf("%" PRIu64 "\n", values);
}

int main(int count, char **args)
{
	if (count != 5)
		return 2;
	uint64_t offset = strtoull(args[3], NULL, 0), number = strtoull(args[4], NULL, 0);
	struct ibv_device **devices = ibv_get_device_list(NULL);
	struct ibv_context *context = devices && devices[0] ? ibv_open_device(devices[0]) : NULL;
	if (!context)
		fail("no device");
	union ibv_gid own;
	parse_gid(args[1], &own);
	int gid_index = index_of(context, &own);
	struct ibv_pd *domain = ibv_alloc_pd(context);
	words = aligned_alloc(BYTES, BYTES);
	local = domain && words ? ibv_reg_mr(domain, (void *)words, BYTES, IBV_ACCESS_LOCAL_WRITE) : NULL;
	queue = ibv_create_cq(context, 1, NULL, NULL, 0);
	if (!local || !queue)
		fail("memory or queue");
	struct ibv_qp_init_attr attributes = {
		.send_cq = queue, .recv_cq = queue, .qp_type = IBV_QPT_RC,
		.cap = { .max_send_wr = 1, .max_recv_wr = 1, .max_send_sge = 1, .max_recv_sge = 1 },
	};
	pair = ibv_create_qp(domain, &attributes);
	struct ibv_qp_attr begin = { .qp_state = IBV_QPS_INIT, .port_num = PORT };
	if (!pair || ibv_modify_qp(pair, &begin, IBV_QP_STATE | IBV_QP_PKEY_INDEX | IBV_QP_PORT | IBV_QP_ACCESS_FLAGS))
		fail("queue pair");
	printf("%" PRIu32 " 0 %s\n", pair->qp_num, args[1]);
	fflush(stdout);
	connect_pair(gid_index);
	if (!strcmp(args[2], "read") && number * 8 <= BYTES) {
		request(IBV_WR_RDMA_READ, offset, number * 8);
		for (uint64_t at = 0; at < number; at++)
			printf("%" PRIu64 "%c", (uint64_t)le64toh(words[at]), at + 1 < number ? ' ' : '\n');
	} else if (!strcmp(args[2], "write")) {
		words[0] = htole64(number);
		request(IBV_WR_RDMA_WRITE, offset, 8);
	} else if (!strcmp(args[2], "watch")) {
		watch(offset, number);
	} else {
		return 2;
	}
	ibv_destroy_qp(pair);
	ibv_destroy_cq(queue);
	ibv_dereg_mr(local);
	ibv_dealloc_pd(domain);
	ibv_close_device(context);
	return 0;
}
