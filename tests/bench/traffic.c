/* traffic: what connections and packets cost. All in the network namespace that it is started in.
 *
 *   traffic serve tcp|udp|tproxy PORT      echoes; a new TCP connection is kept until its peer closes it
 *   traffic connect ADDRESS PORT COUNT     opens and resets COUNT TCP connections, one after the other
 *   traffic echo tcp|udp ADDRESS PORT COUNT  sends one byte COUNT times and waits for each to come back
 *
 * connect and echo print the wall time of each turn in nanoseconds. IPv4. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "clock.h"

enum { patience_s = 5 };

static void fail(const char* what) {
  perror(what);
  exit(1);
}

static struct sockaddr_in endpoint(const char* address, const char* port) {
  struct sockaddr_in result = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(port))};
  if (inet_pton(AF_INET, address, &result.sin_addr) != 1) {
    fprintf(stderr, "%s is no IPv4 address\n", address);
    exit(2);
  }
  return result;
}

static int listener(const char* kind, const char* port) {
  const int datagrams = strcmp(kind, "udp") == 0;
  const int on = 1;
  int fd = socket(AF_INET, (datagrams ? SOCK_DGRAM : SOCK_STREAM) | SOCK_CLOEXEC, 0);
  struct sockaddr_in any = endpoint("0.0.0.0", port);
  setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  if (strcmp(kind, "tproxy") == 0 && setsockopt(fd, IPPROTO_IP, IP_TRANSPARENT, &on, sizeof on) < 0) {
    fail("IP_TRANSPARENT");
  }
  if (fd < 0 || bind(fd, (struct sockaddr*)&any, sizeof any) < 0 || (!datagrams && listen(fd, 4096) < 0)) {
    fail("listen");
  }
  return fd;
}

/* Answers from the address that was asked (ip(7), IP_PKTINFO), or conntrack would not know the answer. */
static void echo_datagrams(int fd) {
  const int on = 1;
  setsockopt(fd, IPPROTO_IP, IP_PKTINFO, &on, sizeof on);
  for (;;) {
    char byte;
    struct sockaddr_in peer;
    char control[CMSG_SPACE(sizeof(struct in_pktinfo))];
    struct iovec data = {.iov_base = &byte, .iov_len = 1};
    struct msghdr message = {.msg_name = &peer,
                             .msg_namelen = sizeof peer,
                             .msg_iov = &data,
                             .msg_iovlen = 1,
                             .msg_control = control,
                             .msg_controllen = sizeof control};
    if (recvmsg(fd, &message, 0) >= 0) {
      ((struct in_pktinfo*)CMSG_DATA(CMSG_FIRSTHDR(&message)))->ipi_ifindex = 0;
      sendmsg(fd, &message, 0);
    }
  }
}

static void echo_streams(int fd) {
  const int on = 1;
  int poll = epoll_create1(EPOLL_CLOEXEC);
  struct epoll_event wanted = {.events = EPOLLIN, .data.fd = fd};
  epoll_ctl(poll, EPOLL_CTL_ADD, fd, &wanted);
  for (;;) {
    struct epoll_event events[64];
    int ready = epoll_wait(poll, events, 64, -1);
    for (int at = 0; at < ready; ++at) {
      int from = events[at].data.fd;
      if (from == fd) {
        int peer = accept4(fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
        setsockopt(peer, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        struct epoll_event each = {.events = EPOLLIN, .data.fd = peer};
        epoll_ctl(poll, EPOLL_CTL_ADD, peer, &each);
        continue;
      }
      char byte;
      if (read(from, &byte, 1) != 1 || write(from, &byte, 1) != 1) {
        close(from);
      }
    }
  }
}

static int connected(int type, const struct sockaddr_in* to) {
  const int on = 1;
  const struct timeval patience = {.tv_sec = patience_s};
  /* A reset leaves no TIME_WAIT, so that the ports last. */
  const struct linger reset = {.l_onoff = 1, .l_linger = 0};
  int fd = socket(AF_INET, type | SOCK_CLOEXEC, 0);
  setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
  setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
  if (type == SOCK_STREAM) {
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  }
  if (connect(fd, (const struct sockaddr*)to, sizeof *to) < 0) {
    fail("connect");
  }
  return fd;
}

static void open_connections(const struct sockaddr_in* to, int count) {
  for (int turn = 0; turn < count; ++turn) {
    const long long begin = now();
    int fd = connected(SOCK_STREAM, to);
    const long long end = now();
    close(fd);
    printf("%lld\n", end - begin);
  }
}

static void bounce(int type, const struct sockaddr_in* to, int count) {
  int fd = connected(type, to);
  char byte = 'x';
  for (int turn = 0; turn < count; ++turn) {
    const long long begin = now();
    if (send(fd, &byte, 1, 0) != 1 || recv(fd, &byte, 1, 0) != 1) {
      fail("echo");
    }
    printf("%lld\n", now() - begin);
  }
  close(fd);
}

int main(int argc, char** argv) {
  if (argc == 4 && strcmp(argv[1], "serve") == 0) {
    int fd = listener(argv[2], argv[3]);
    printf("ready\n");
    fflush(stdout);
    if (strcmp(argv[2], "udp") == 0) {
      echo_datagrams(fd);
    }
    echo_streams(fd);
  } else if (argc == 5 && strcmp(argv[1], "connect") == 0) {
    struct sockaddr_in to = endpoint(argv[2], argv[3]);
    open_connections(&to, atoi(argv[4]));
  } else if (argc == 6 && strcmp(argv[1], "echo") == 0) {
    struct sockaddr_in to = endpoint(argv[3], argv[4]);
    bounce(strcmp(argv[2], "udp") == 0 ? SOCK_DGRAM : SOCK_STREAM, &to, atoi(argv[5]));
  } else {
    fprintf(
        stderr,
        "usage: traffic serve tcp|udp|tproxy PORT | connect ADDRESS PORT COUNT | echo tcp|udp ADDRESS PORT COUNT\n");
    return 2;
  }
  return 0;
}
