// A TCP socket on the loopback interface plays the serial port of a process: it waits for one connection, and says
// where, as QEMU does.
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "uart/uart.h"

namespace et {
namespace {

int listener = -1;
int connection = -1;
uint8_t sending[4096];
uint32_t sending_count = 0;
uint8_t received[4096];
uint32_t received_at = 0;
uint32_t received_count = 0;

[[noreturn]] void fail(const char* what) {
  perror(what);
  _exit(1);
}

}  // namespace

void uart_init() {
  listener = socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in address = {};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t length = sizeof(address);
  sockaddr* const generic = reinterpret_cast<sockaddr*>(&address);
  if (listener < 0 || bind(listener, generic, length) != 0 || listen(listener, 1) != 0 ||
      getsockname(listener, generic, &length) != 0) {
    fail("cannot listen on 127.0.0.1");
  }
  fprintf(stderr, "waiting for connection on: tcp:127.0.0.1:%u\n", static_cast<unsigned>(ntohs(address.sin_port)));
}

namespace {

// At the first byte and not in uart_init(), whose time counts as that of the start.
void connect() {
  connection = accept(listener, nullptr, nullptr);
  if (connection < 0) {
    fail("no connection");
  }
  const int at_once = 1;  // frames are short and each waits for its answer
  setsockopt(connection, IPPROTO_TCP, TCP_NODELAY, &at_once, sizeof(at_once));
  close(listener);
}

}  // namespace

void uart_flush() {
  if (connection < 0) {
    connect();
  }
  uint32_t done = 0;
  while (done < sending_count) {
    const ssize_t sent = send(connection, sending + done, sending_count - done, MSG_NOSIGNAL);
    if (sent <= 0) {
      _exit(0);  // nobody listens any more
    }
    done += static_cast<uint32_t>(sent);
  }
  sending_count = 0;
}

void uart_put(uint8_t byte) {
  if (sending_count == sizeof(sending)) {
    uart_flush();
  }
  sending[sending_count++] = byte;
}

int32_t uart_get() {
  if (received_at == received_count) {
    if (connection < 0) {
      connect();
    }
    pollfd waiting = {connection, POLLIN, 0};
    if (poll(&waiting, 1, 100) <= 0) {
      return -1;
    }
    const ssize_t count = recv(connection, received, sizeof(received), 0);
    if (count <= 0) {
      _exit(0);
    }
    received_at = 0;
    received_count = static_cast<uint32_t>(count);
  }
  return received[received_at++];
}

}  // namespace et
