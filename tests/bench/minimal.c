/* minimal [promises]
 *
 * The least a program can do: sluice's default rules as a fixed batch, one sendmsg, the acknowledgements read. No
 * options, no checks, no reading back. It is the floor that sluice is measured against.
 *
 * With "promises" it also makes the system calls that sluice's promises take, without looking at the answers: the floor
 * under a program that keeps them. */
#include <arpa/inet.h>
#include <fcntl.h>
#include <libmnl/libmnl.h>
#include <libnftnl/chain.h>
#include <libnftnl/common.h>
#include <libnftnl/expr.h>
#include <libnftnl/rule.h>
#include <libnftnl/table.h>
#include <libnftnl/udata.h>
#include <linux/capability.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_nat.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/rtnetlink.h>
#include <linux/sockios.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum { proxy_port = 15001, proxy_uid = 1337, ct_state_new = 8, ct_status_dnat = 32 };

static char buffer[64 * 1024];
static struct mnl_nlmsg_batch* batch;
static uint32_t sequence;
static unsigned expected_acks;
/* What the following messages ask for. */
static uint16_t acknowledgement = NLM_F_ACK;

static void fail(const char* what) {
  perror(what);
  exit(1);
}

static struct nlmsghdr* message(uint16_t type, uint16_t flags) {
  if (acknowledgement != 0) {
    ++expected_acks;
  }
  return nftnl_nlmsg_build_hdr(mnl_nlmsg_batch_current(batch), type, NFPROTO_INET, flags | acknowledgement, ++sequence);
}

static void send_table(void) {
  struct nftnl_table* table = nftnl_table_alloc();
  nftnl_table_set_u32(table, NFTNL_TABLE_FAMILY, NFPROTO_INET);
  nftnl_table_set_str(table, NFTNL_TABLE_NAME, "sluice");
  nftnl_table_nlmsg_build_payload(message(NFT_MSG_NEWTABLE, NLM_F_CREATE), table);
  mnl_nlmsg_batch_next(batch);
  nftnl_table_free(table);
}

static void send_chain(const char* name, const char* type, uint32_t hook, int32_t priority) {
  struct nftnl_chain* chain = nftnl_chain_alloc();
  nftnl_chain_set_str(chain, NFTNL_CHAIN_TABLE, "sluice");
  nftnl_chain_set_str(chain, NFTNL_CHAIN_NAME, name);
  nftnl_chain_set_str(chain, NFTNL_CHAIN_TYPE, type);
  nftnl_chain_set_u32(chain, NFTNL_CHAIN_HOOKNUM, hook);
  nftnl_chain_set_s32(chain, NFTNL_CHAIN_PRIO, priority);
  nftnl_chain_set_u32(chain, NFTNL_CHAIN_POLICY, NF_ACCEPT);
  nftnl_chain_nlmsg_build_payload(message(NFT_MSG_NEWCHAIN, NLM_F_CREATE), chain);
  mnl_nlmsg_batch_next(batch);
  nftnl_chain_free(chain);
}

static struct nftnl_rule* new_rule(const char* chain, const char* comment) {
  struct nftnl_rule* rule = nftnl_rule_alloc();
  nftnl_rule_set_u32(rule, NFTNL_RULE_FAMILY, NFPROTO_INET);
  nftnl_rule_set_str(rule, NFTNL_RULE_TABLE, "sluice");
  nftnl_rule_set_str(rule, NFTNL_RULE_CHAIN, chain);
  struct nftnl_udata_buf* data = nftnl_udata_buf_alloc(64);
  nftnl_udata_put_strz(data, NFTNL_UDATA_RULE_COMMENT, comment);
  nftnl_rule_set_data(rule, NFTNL_RULE_USERDATA, nftnl_udata_buf_data(data), nftnl_udata_buf_len(data));
  nftnl_udata_buf_free(data);
  return rule;
}

static void send_rule(struct nftnl_rule* rule) {
  nftnl_rule_nlmsg_build_payload(message(NFT_MSG_NEWRULE, NLM_F_CREATE | NLM_F_APPEND), rule);
  mnl_nlmsg_batch_next(batch);
  nftnl_rule_free(rule);
}

static struct nftnl_expr* expression(struct nftnl_rule* rule, const char* name) {
  struct nftnl_expr* made = nftnl_expr_alloc(name);
  nftnl_rule_add_expr(rule, made);
  return made;
}

static void compare(struct nftnl_rule* rule, uint32_t operation, const void* data, uint32_t size) {
  struct nftnl_expr* cmp = expression(rule, "cmp");
  nftnl_expr_set_u32(cmp, NFTNL_EXPR_CMP_SREG, NFT_REG_1);
  nftnl_expr_set_u32(cmp, NFTNL_EXPR_CMP_OP, operation);
  nftnl_expr_set_data(cmp, NFTNL_EXPR_CMP_DATA, data, size);
}

static void meta(struct nftnl_rule* rule, uint32_t key, const void* data, uint32_t size) {
  struct nftnl_expr* load = expression(rule, "meta");
  nftnl_expr_set_u32(load, NFTNL_EXPR_META_KEY, key);
  nftnl_expr_set_u32(load, NFTNL_EXPR_META_DREG, NFT_REG_1);
  compare(rule, NFT_CMP_EQ, data, size);
}

static void meta_byte(struct nftnl_rule* rule, uint32_t key, uint8_t value) { meta(rule, key, &value, 1); }

static void interface_is_lo(struct nftnl_rule* rule, uint32_t key) {
  const char name[16] = "lo";
  meta(rule, key, name, sizeof name);
}

static void payload(struct nftnl_rule* rule, uint32_t base, uint32_t offset, const void* data, uint32_t size) {
  struct nftnl_expr* load = expression(rule, "payload");
  nftnl_expr_set_u32(load, NFTNL_EXPR_PAYLOAD_DREG, NFT_REG_1);
  nftnl_expr_set_u32(load, NFTNL_EXPR_PAYLOAD_BASE, base);
  nftnl_expr_set_u32(load, NFTNL_EXPR_PAYLOAD_OFFSET, offset);
  nftnl_expr_set_u32(load, NFTNL_EXPR_PAYLOAD_LEN, size);
  compare(rule, NFT_CMP_EQ, data, size);
}

static void tcp_to_proxy_port(struct nftnl_rule* rule) {
  const uint16_t port = htons(proxy_port);
  meta_byte(rule, NFT_META_L4PROTO, IPPROTO_TCP);
  payload(rule, NFT_PAYLOAD_TRANSPORT_HEADER, 2, &port, sizeof port);
}

static void not_local(struct nftnl_rule* rule) {
  const uint32_t local = RTN_LOCAL;
  struct nftnl_expr* fib = expression(rule, "fib");
  nftnl_expr_set_u32(fib, NFTNL_EXPR_FIB_FLAGS, NFTA_FIB_F_DADDR);
  nftnl_expr_set_u32(fib, NFTNL_EXPR_FIB_RESULT, NFT_FIB_RESULT_ADDRTYPE);
  nftnl_expr_set_u32(fib, NFTNL_EXPR_FIB_DREG, NFT_REG_1);
  compare(rule, NFT_CMP_NEQ, &local, sizeof local);
}

static void conntrack_bit(struct nftnl_rule* rule, uint32_t key, uint32_t bit, uint32_t operation) {
  const uint32_t zero = 0;
  struct nftnl_expr* load = expression(rule, "ct");
  nftnl_expr_set_u32(load, NFTNL_EXPR_CT_KEY, key);
  nftnl_expr_set_u32(load, NFTNL_EXPR_CT_DREG, NFT_REG_1);
  struct nftnl_expr* mask = expression(rule, "bitwise");
  nftnl_expr_set_u32(mask, NFTNL_EXPR_BITWISE_SREG, NFT_REG_1);
  nftnl_expr_set_u32(mask, NFTNL_EXPR_BITWISE_DREG, NFT_REG_1);
  nftnl_expr_set_u32(mask, NFTNL_EXPR_BITWISE_LEN, sizeof bit);
  nftnl_expr_set_data(mask, NFTNL_EXPR_BITWISE_MASK, &bit, sizeof bit);
  nftnl_expr_set_data(mask, NFTNL_EXPR_BITWISE_XOR, &zero, sizeof zero);
  compare(rule, operation, &zero, sizeof zero);
}

static void accept_rule(struct nftnl_rule* rule) {
  expression(rule, "counter");
  struct nftnl_expr* verdict = expression(rule, "immediate");
  nftnl_expr_set_u32(verdict, NFTNL_EXPR_IMM_DREG, NFT_REG_VERDICT);
  nftnl_expr_set_u32(verdict, NFTNL_EXPR_IMM_VERDICT, NF_ACCEPT);
  send_rule(rule);
}

static void redirect_tcp(struct nftnl_rule* rule) {
  const uint16_t port = htons(proxy_port);
  meta_byte(rule, NFT_META_L4PROTO, IPPROTO_TCP);
  expression(rule, "counter");
  struct nftnl_expr* value = expression(rule, "immediate");
  nftnl_expr_set_u32(value, NFTNL_EXPR_IMM_DREG, NFT_REG_1);
  nftnl_expr_set_data(value, NFTNL_EXPR_IMM_DATA, &port, sizeof port);
  struct nftnl_expr* redirect = expression(rule, "redir");
  nftnl_expr_set_u32(redirect, NFTNL_EXPR_REDIR_REG_PROTO_MIN, NFT_REG_1);
  nftnl_expr_set_u32(redirect, NFTNL_EXPR_REDIR_FLAGS, NF_NAT_RANGE_PROTO_SPECIFIED);
  send_rule(rule);
}

static void reset_rule(struct nftnl_rule* rule) {
  expression(rule, "counter");
  struct nftnl_expr* reject = expression(rule, "reject");
  nftnl_expr_set_u32(reject, NFTNL_EXPR_REJECT_TYPE, NFT_REJECT_TCP_RST);
  nftnl_expr_set_u8(reject, NFTNL_EXPR_REJECT_CODE, 0);
  send_rule(rule);
}

/* tcp flags != syn / fin,syn,rst,ack */
static void running_connections_pass(const char* chain) {
  const uint8_t flags = 0x17;
  const uint8_t none = 0;
  const uint8_t syn = 0x02;
  struct nftnl_rule* rule = new_rule(chain, "established");
  meta_byte(rule, NFT_META_L4PROTO, IPPROTO_TCP);
  struct nftnl_expr* load = expression(rule, "payload");
  nftnl_expr_set_u32(load, NFTNL_EXPR_PAYLOAD_DREG, NFT_REG_1);
  nftnl_expr_set_u32(load, NFTNL_EXPR_PAYLOAD_BASE, NFT_PAYLOAD_TRANSPORT_HEADER);
  nftnl_expr_set_u32(load, NFTNL_EXPR_PAYLOAD_OFFSET, 13);
  nftnl_expr_set_u32(load, NFTNL_EXPR_PAYLOAD_LEN, sizeof flags);
  struct nftnl_expr* mask = expression(rule, "bitwise");
  nftnl_expr_set_u32(mask, NFTNL_EXPR_BITWISE_SREG, NFT_REG_1);
  nftnl_expr_set_u32(mask, NFTNL_EXPR_BITWISE_DREG, NFT_REG_1);
  nftnl_expr_set_u32(mask, NFTNL_EXPR_BITWISE_LEN, sizeof flags);
  nftnl_expr_set_data(mask, NFTNL_EXPR_BITWISE_MASK, &flags, sizeof flags);
  nftnl_expr_set_data(mask, NFTNL_EXPR_BITWISE_XOR, &none, sizeof none);
  compare(rule, NFT_CMP_NEQ, &syn, sizeof syn);
  accept_rule(rule);
}

static void send_outbound_rules(void) {
  running_connections_pass("outbound");
  const uint32_t uid = proxy_uid;
  struct nftnl_rule* rule = new_rule("outbound", "proxy");
  meta(rule, NFT_META_SKUID, &uid, sizeof uid);
  accept_rule(rule);

  rule = new_rule("outbound", "loopback");
  interface_is_lo(rule, NFT_META_OIFNAME);
  accept_rule(rule);

  const uint8_t loopback_v4 = 127;
  rule = new_rule("outbound", "loopback");
  meta_byte(rule, NFT_META_NFPROTO, NFPROTO_IPV4);
  payload(rule, NFT_PAYLOAD_NETWORK_HEADER, 16, &loopback_v4, sizeof loopback_v4);
  accept_rule(rule);

  const uint8_t loopback_v6[16] = {[15] = 1};
  rule = new_rule("outbound", "loopback");
  meta_byte(rule, NFT_META_NFPROTO, NFPROTO_IPV6);
  payload(rule, NFT_PAYLOAD_NETWORK_HEADER, 24, loopback_v6, sizeof loopback_v6);
  accept_rule(rule);

  redirect_tcp(new_rule("outbound", "outbound"));
}

static void send_inbound_rules(void) {
  running_connections_pass("inbound");
  struct nftnl_rule* rule = new_rule("inbound", "forwarded");
  not_local(rule);
  accept_rule(rule);

  rule = new_rule("inbound", "proxy-port");
  tcp_to_proxy_port(rule);
  accept_rule(rule);

  redirect_tcp(new_rule("inbound", "inbound"));

  running_connections_pass("inbound_guard");
  rule = new_rule("inbound_guard", "loopback");
  interface_is_lo(rule, NFT_META_IIFNAME);
  accept_rule(rule);

  rule = new_rule("inbound_guard", "proxy-port");
  tcp_to_proxy_port(rule);
  conntrack_bit(rule, NFT_CT_STATE, ct_state_new, NFT_CMP_NEQ);
  conntrack_bit(rule, NFT_CT_STATUS, ct_status_dnat, NFT_CMP_EQ);
  /* The last one answers for all of them. */
  acknowledgement = NLM_F_ACK;
  reset_rule(rule);
}

static void read_acknowledgements(struct mnl_socket* socket) {
  char reply[16 * 1024];
  while (expected_acks > 0) {
    ssize_t received = mnl_socket_recvfrom(socket, reply, sizeof reply);
    if (received < 0) {
      fail("recvmsg");
    }
    int left = (int)received;
    for (const struct nlmsghdr* header = (const struct nlmsghdr*)reply; mnl_nlmsg_ok(header, left);
         header = mnl_nlmsg_next(header, &left)) {
      const struct nlmsgerr* answer = mnl_nlmsg_get_payload(header);
      if (header->nlmsg_type != NLMSG_ERROR || answer->error != 0) {
        fprintf(stderr, "message %u: %s\n", header->nlmsg_seq, strerror(-answer->error));
        exit(1);
      }
      --expected_acks;
    }
  }
}

static struct mnl_socket* open_socket(void) {
  struct mnl_socket* socket = mnl_socket_open2(NETLINK_NETFILTER, SOCK_CLOEXEC);
  if (socket == NULL) {
    fail("netlink socket");
  }
  return socket;
}

static void send_batch(struct mnl_socket* socket) {
  sequence = (uint32_t)time(NULL);
  batch = mnl_nlmsg_batch_start(buffer, sizeof buffer);
  nftnl_batch_begin(mnl_nlmsg_batch_current(batch), ++sequence);
  mnl_nlmsg_batch_next(batch);
  send_table();
  send_chain("outbound", "nat", NF_INET_LOCAL_OUT, -105);
  send_chain("inbound", "nat", NF_INET_PRE_ROUTING, -105);
  send_chain("inbound_guard", "nat", NF_INET_LOCAL_IN, 0);
  send_outbound_rules();
  send_inbound_rules();
  nftnl_batch_end(mnl_nlmsg_batch_current(batch), ++sequence);
  mnl_nlmsg_batch_next(batch);
  if (mnl_socket_sendto(socket, mnl_nlmsg_batch_head(batch), mnl_nlmsg_batch_size(batch)) < 0) {
    fail("sendmsg");
  }
  read_acknowledgements(socket);
}

/* A kernel without such tables has no file of their names. */
static void read_file_if_there(const char* path) {
  char contents[4096];
  int file = open(path, O_RDONLY | O_CLOEXEC);
  if (file < 0) {
    return;
  }
  while (read(file, contents, sizeof contents) > 0) {
  }
  close(file);
}

/* A node's own namespace? Another sluice at work? Old tables? Programs of iptables, should they be needed? */
static int look_around(int socket) {
  const int yes = 1;
  uint64_t cookie;
  socklen_t length = sizeof cookie;
  if (setsockopt(socket, SOL_NETLINK, NETLINK_EXT_ACK, &yes, sizeof yes) < 0 ||
      setsockopt(socket, SOL_NETLINK, NETLINK_CAP_ACK, &yes, sizeof yes) < 0 ||
      getsockopt(socket, SOL_SOCKET, SO_NETNS_COOKIE, &cookie, &length) < 0) {
    fail("socket options");
  }
  read_file_if_there("/proc/self/net/dev");
  int lock = ioctl(socket, SIOCGSKNS);
  if (lock < 0 || flock(lock, LOCK_EX | LOCK_NB) < 0) {
    fail("lock");
  }
  read_file_if_there("/proc/self/net/ip_tables_names");
  read_file_if_there("/proc/self/net/ip6_tables_names");
  /* The first folders of the benchmark's PATH, up to the one that has it. */
  const char* const places[] = {"/usr/local/sbin/iptables-legacy-restore", "/usr/local/bin/iptables-legacy-restore",
                                "/usr/sbin/iptables-legacy-restore"};
  for (size_t at = 0; at < sizeof places / sizeof *places && access(places[at], X_OK) < 0; ++at) {
  }
  return lock;
}

static void drop_privileges(void) {
  struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
  struct __user_cap_data_struct sets[_LINUX_CAPABILITY_U32S_3];
  const uint32_t net_admin = 1U << CAP_NET_ADMIN;
  if (syscall(SYS_capget, &header, sets) < 0 || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0) {
    fail("capabilities");
  }
  memset(sets, 0, sizeof sets);
  sets[0].effective = net_admin;
  sets[0].permitted = net_admin;
  if (syscall(SYS_capset, &header, sets) < 0) {
    fail("capset");
  }
}

static void ask(struct mnl_socket* socket, uint16_t type, uint16_t flags, bool of_table) {
  static char answer[32 * 1024];
  struct nlmsghdr* header = nftnl_nlmsg_build_hdr(buffer, type, of_table ? NFPROTO_INET : NFPROTO_UNSPEC, flags, 0);
  if (of_table) {
    /* NFTA_TABLE_NAME, NFTA_CHAIN_TABLE and NFTA_RULE_TABLE are the same number. */
    mnl_attr_put_strz(header, NFTA_TABLE_NAME, "sluice");
  }
  if (mnl_socket_sendto(socket, header, header->nlmsg_len) < 0) {
    fail("question");
  }
  const struct nlmsghdr* reply = (const struct nlmsghdr*)answer;
  do {
    if (mnl_socket_recvfrom(socket, answer, sizeof answer) < 0) {
      fail("answer");
    }
    if (reply->nlmsg_type == NLMSG_ERROR) {
      fprintf(stderr, "question %u was refused\n", type);
      exit(1);
    }
  } while ((flags & NLM_F_DUMP) != 0 && reply->nlmsg_type != NLMSG_DONE);
}

static void keep_promises(struct mnl_socket* socket) {
  int lock = look_around(mnl_socket_get_fd(socket));
  drop_privileges();
  ask(socket, NFT_MSG_GETGEN, 0, false);
  acknowledgement = 0;
  send_batch(socket);
  ask(socket, NFT_MSG_GETTABLE, 0, true);
  ask(socket, NFT_MSG_GETCHAIN, NLM_F_DUMP, true);
  ask(socket, NFT_MSG_GETRULE, NLM_F_DUMP, true);
  dprintf(STDOUT_FILENO, "nftables, rules created\n");
  close(lock);
}

int main(int argc, char** argv) {
  struct mnl_socket* socket = open_socket();
  if (argc == 2 && strcmp(argv[1], "promises") == 0) {
    keep_promises(socket);
    return 0;
  }
  if (mnl_socket_bind(socket, 0, MNL_SOCKET_AUTOPID) < 0) {
    fail("bind");
  }
  send_batch(socket);
  return 0;
}
