/* A stand-in for a cluster's DNS: over UDP it answers every question with the address 192.0.2.80. */
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>

int main(void) {
  unsigned char packet[512 + 16];
  static const unsigned char answer[] = {0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 192, 0, 2, 80};
  struct sockaddr_in any = {.sin_family = AF_INET, .sin_port = htons(53)};
  int service = socket(AF_INET, SOCK_DGRAM, 0);
  if (bind(service, (struct sockaddr *)&any, sizeof any)) return 1;
  for (;;) {
    struct sockaddr_in client;
    socklen_t size = sizeof client;
    ssize_t length = recvfrom(service, packet, 512, 0, (struct sockaddr *)&client, &size);
    if (length < 17) continue;
    ssize_t end = 12; /* after the header: the name, then four bytes of type and class */
    while (end < length && packet[end]) end += packet[end] + 1;
    end += 5;
    if (end > length) continue;
    int is_a = packet[end - 3] == 1;
    packet[2] = 0x81, packet[3] = 0x80;
    packet[6] = 0, packet[7] = is_a, packet[8] = packet[9] = packet[10] = packet[11] = 0;
    if (is_a) memcpy(packet + end, answer, sizeof answer), end += sizeof answer;
    sendto(service, packet, end, 0, (struct sockaddr *)&client, size);
  }
}
